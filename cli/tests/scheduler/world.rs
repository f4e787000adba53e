//! A scheduler of a test, the command line pointed at it, and a node that does what the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ffrtmp_api::{
    AttemptReport, AttemptResult, ClaimResponse, FailureReason, Grant, Joined, Progress, ReportAnswer,
    ResultStatus,
};
use ffrtmp_cli::client::Client;
use ffrtmp_cli::client::target::Target;
use reqwest::Method;
use serde_json::{Value, json};

/// Key that may do everything.
pub(crate) const MASTER: &str = "a-master-key-of-the-operator";

/// A scheduler and a home.
pub(crate) struct World {
    dir: tempfile::TempDir,
    server: Option<Child>,
    /// Where its API is.
    pub(crate) api: SocketAddr,
    /// SHA-256 of its authority, as its log said.
    pub(crate) fingerprint: String,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its status.
    pub(crate) status: i32,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Said {
    /// The output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the status, and gives itself back.
    #[track_caller]
    pub(crate) fn ends(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Checks that standard error holds each of these.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in {self:?}");
        }
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn server_program() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ffrtmp")).with_file_name("ffrtmp-scheduler");
    assert!(
        beside.exists(),
        "{} is not built, and cargo builds no program of another package for a test: `cargo build -p ffrtmp-scheduler` \
         makes it, as `cargo xtask test` does by itself",
        beside.display()
    );
    beside
}

fn start(dir: &Path, listen: &str) -> (Child, SocketAddr, String) {
    let mut child = Command::new(server_program())
        .current_dir(dir)
        .args([
            "--config",
            "scheduler.yaml",
            "--listen",
            listen,
            "--db",
            "master.db",
            "--metrics=false",
        ])
        .env("MASTER_API_KEY", MASTER)
        .env("RUST_LOG", "info")
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = log
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("API on https://"))
        .expect("a line that tells the address");
    // The rest is read to its end, so that the server never waits for us.
    std::thread::spawn(move || log.count());
    let rest = told.split("API on https://").nth(1).unwrap();
    let (api, fingerprint) = rest.split_once(", fingerprint of the CA ").unwrap();
    let fingerprint = fingerprint.chars().take_while(char::is_ascii_hexdigit).collect();
    (child, api.parse().unwrap(), fingerprint)
}

impl World {
    /// A scheduler that serves, and nobody logged in.
    pub(crate) fn bare() -> Self {
        Self::configured("")
    }

    /// The same, with this file of settings.
    pub(crate) fn configured(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("scheduler.yaml"), settings).unwrap();
        let (server, api, fingerprint) = start(dir.path(), "127.0.0.1:0");
        Self {
            dir,
            server: Some(server),
            api,
            fingerprint,
        }
    }

    /// A scheduler, and the operator logged in.
    pub(crate) fn new() -> Self {
        Self::bare().logged_in()
    }

    /// The operator logs in.
    pub(crate) fn logged_in(self) -> Self {
        let world = self;
        let (url, fingerprint) = (world.url(), world.fingerprint.clone());
        world
            .run(&[
                "login",
                &url,
                "--fingerprint",
                &fingerprint,
                "--api-key",
                MASTER,
                "--name",
                "test",
            ])
            .ends(0);
        world
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.api)
    }

    /// A path in the directory of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file there and names it.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ffrtmp"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path());
        for name in ["MASTER_URL", "MASTER_API_KEY", "FFMPEG_RTMP_API_KEY"] {
            command.env_remove(name);
        }
        command.env("NO_PROXY", "*").stdin(Stdio::null());
        command
    }

    /// Runs the command.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.command(args).output().unwrap().into()
    }

    /// Runs it with a text on standard input.
    pub(crate) fn feed(&self, args: &[&str], text: &str) -> Said {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// Submits a plain job and gives its number.
    pub(crate) fn submitted(&self) -> String {
        let said = self
            .run(&["jobs", "submit", "--scenario", "720p-h264", "-o", "json"])
            .ends(0);
        said.json()["sequence_number"].to_string()
    }

    /// Kills the scheduler as a power cut would.
    pub(crate) fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Starts it again on the same port.
    pub(crate) fn start_server(&mut self) {
        let (server, api, fingerprint) = start(self.dir.path(), &self.api.to_string());
        assert_eq!((api, &fingerprint), (self.api, &self.fingerprint));
        self.server = Some(server);
    }

    /// A client with this key, for what only nodes do, or nobody may.
    pub(crate) fn client(&self, key: Option<&str>) -> Client {
        let ca = std::fs::read_to_string(self.path("master.d/ca.crt")).unwrap();
        Client::of(Target {
            url: self.url().parse().unwrap(),
            url_from: String::new(),
            key: key.map(str::to_owned),
            key_from: None,
            ca: Some(ca),
            ca_from: None,
            context: None,
        })
        .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ended_already = server.kill();
            let _reaped_already = server.wait();
        }
    }
}

/// A node that has joined.
pub(crate) struct FakeNode {
    client: Client,
    runtime: tokio::runtime::Runtime,
    /// Its id.
    pub(crate) id: String,
}

impl FakeNode {
    /// Joins.
    pub(crate) fn join(world: &World, id: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let body = json!({
            "node_id": id, "name": format!("name-of-{id}"), "type": "server", "cpu_threads": 8, "slots": 4,
            "engines": ["ffmpeg", "gstreamer"], "ram_total_bytes": 1_u64 << 34,
        });
        let admin = world.client(Some(MASTER));
        let joined: Joined = runtime
            .block_on(admin.order(Method::POST, &["nodes", "register"], Some(&body)))
            .unwrap();
        Self {
            client: world.client(joined.node_key.as_deref()),
            runtime,
            id: id.to_owned(),
        }
    }

    fn order<T: serde::de::DeserializeOwned>(&self, call: &str, body: &Value) -> T {
        let path = ["nodes", &self.id, call];
        self.runtime
            .block_on(self.client.order(Method::POST, &path, Some(body)))
            .unwrap()
    }

    /// Waits for one job.
    pub(crate) fn claim(&self) -> Grant {
        let claim_id = ffrtmp_cli::client::new_key();
        let body = json!({"claim_id": claim_id, "max": 1, "wait_sec": 30});
        let mut answer: ClaimResponse = self.order("claim", &body);
        answer.grants.pop().expect("a job within 30 s")
    }

    fn report(&self, grant: &Grant, report: AttemptReport) {
        let body = json!(ffrtmp_api::ReportRequest {
            key: grant.key,
            report
        });
        let answer: ReportAnswer = self.order("reports", &body);
        assert_eq!(answer, ReportAnswer::Accepted);
    }

    /// Says that it runs, and how far it is.
    pub(crate) fn start(&self, grant: &Grant, percent: f32) {
        self.report(
            grant,
            serde_json::from_value(json!({"event": "started", "pid": 4242, "engine": "ffmpeg"})).unwrap(),
        );
        self.report(
            grant,
            AttemptReport::Progressed {
                progress: Progress {
                    percent: Some(percent),
                    speed: Some(2.0),
                    eta_sec: Some(60.0),
                    ..Progress::default()
                },
            },
        );
    }

    /// Says that it is done.
    pub(crate) fn complete(&self, grant: &Grant) {
        self.report(
            grant,
            AttemptReport::Finished {
                result: Box::new(AttemptResult::new(ResultStatus::Completed)),
            },
        );
    }

    /// Says that ffmpeg failed.
    pub(crate) fn fail(&self, grant: &Grant) {
        let mut result = AttemptResult::new(ResultStatus::Failed);
        result.failure_reason = Some(FailureReason::InputError);
        result.error = Some("moov atom not found".to_owned());
        result.log_tail = vec!["[mov] moov atom not found".to_owned(), "\u{1b}[31mred".to_owned()];
        self.report(
            grant,
            AttemptReport::Finished {
                result: Box::new(result),
            },
        );
    }
}
