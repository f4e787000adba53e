//! A scheduler in a directory of its own: its configuration, its process, and a client that trusts its CA.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

/// The key that may do everything.
pub(crate) const MASTER: &str = "a-master-key-of-the-operator";
/// Longest time until a scheduler serves; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_mins(1);
/// Lines of its log that are kept for a failure's message.
const LINES: usize = 200;

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ffrtmp-scheduler"));
    command.env_remove("MASTER_API_KEY").env_remove("RUST_LOG");
    command
}

/// A client that trusts this CA and shows this identity.
pub(crate) fn client(ca_pem: &[u8], identity: Option<&str>) -> Client {
    let _again = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem_bundle(ca_pem).unwrap();
    let mut builder = Client::builder()
        .no_proxy()
        .tls_certs_only(ca)
        .timeout(Duration::from_secs(40));
    if let Some(pem) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

/// A directory with a configuration, over several starts.
pub(crate) struct Place {
    directory: PathBuf,
    config: String,
    _own: Option<tempfile::TempDir>,
}

impl Place {
    /// With these lines of configuration beyond the usual.
    pub(crate) fn new(more: &str) -> Self {
        let own = tempfile::tempdir().unwrap();
        Self {
            directory: own.path().to_owned(),
            _own: Some(own),
            ..Self::at(PathBuf::new(), more)
        }
    }

    /// The same in a directory that is there.
    pub(crate) fn at(directory: PathBuf, more: &str) -> Self {
        let config = format!(
            "listen: 127.0.0.1:0\nmetrics: {{enabled: false}}\naccess: {{per_address: 0, per_key: 0}}\n{more}"
        );
        Self {
            directory,
            config,
            _own: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("queue.db")
    }

    /// The program with this place's configuration and these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let file = self.path("scheduler.yaml");
        std::fs::write(&file, &self.config).unwrap();
        let mut command = program();
        command
            .args(["--config".as_ref(), file.as_os_str()])
            .args(["--db".as_ref(), self.database().as_os_str()])
            .args(arguments)
            .env("MASTER_API_KEY", MASTER);
        command
    }

    /// Runs one of its verbs to the end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&self) -> Server {
        Server::spawn(self.command(&[])).ready(&self.path("queue.d/ca.crt"))
    }
}

/// What a verb printed.
pub(crate) fn said(output: &Output) -> (Option<i32>, String) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code(), text)
}

/// A process that may not serve yet.
pub(crate) struct Starting {
    child: Child,
    ports: Receiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
    began: Instant,
}

/// A scheduler that serves. Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
    pub(crate) url: String,
    pub(crate) client: Client,
    /// From its start until it served.
    pub(crate) took: Duration,
}

impl Server {
    /// Starts the process.
    pub(crate) fn spawn(mut command: Command) -> Starting {
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, ports) = channel();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let url = line
                    .split_once("API on ")
                    .and_then(|(_, rest)| rest.split(',').next().map(str::to_owned));
                {
                    let mut kept = kept.lock().unwrap();
                    kept.push_back(line);
                    if kept.len() > LINES {
                        kept.pop_front();
                    }
                }
                if let Some(url) = url {
                    let _nobody = sender.send(url).is_err();
                }
            }
        });
        Starting {
            child,
            ports,
            log,
            began,
        }
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(MASTER)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        told(self.ask(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        told(self.ask(Method::POST, path).json(body)).await
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it at once, whatever it does.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits; what it logged.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        log
    }

    pub(crate) fn log(&self) -> String {
        self.log
            .lock()
            .unwrap()
            .iter()
            .fold(String::new(), |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_ok();
        let _waited = self.child.wait().is_ok();
    }
}

impl Starting {
    /// Ends it while it starts.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it serves.
    pub(crate) fn ready(mut self, ca: &Path) -> Server {
        let url = match self.ports.recv_timeout(PATIENCE) {
            Ok(url) => url,
            Err(error) => {
                if error == RecvTimeoutError::Timeout {
                    self.child.kill().unwrap();
                }
                let status = self.child.wait().unwrap();
                panic!("did not serve: {status}\n{:#?}", self.log.lock().unwrap());
            }
        };
        Server {
            took: self.began.elapsed(),
            client: client(&std::fs::read(ca).unwrap(), None),
            child: self.child,
            log: self.log,
            url,
        }
    }
}

pub(crate) async fn told(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
