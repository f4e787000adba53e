//! Whatever the scheduler's `OpenAPI` document says, tried by schemathesis on the real program over TLS: no 5xx, no answer
//! that is not as documented, no body that the schema forbids and the scheduler takes.
//!
//! It installs schemathesis into a virtual environment below the target directory, never anywhere else.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;
use xshell::{Shell, cmd};

use super::Counts;
use crate::{vm, workspace};

/// Version of schemathesis: its findings change with it.
const VERSION: &str = "4.32.5";
/// Master key of the scheduler under test.
const KEY: &str = "a-master-key-of-the-operator";
/// Not judged: a scenario's grammar, times and names that must not be empty are refused with their field, which no JSON
/// schema tells beforehand.
const NOT_JUDGED: &str = "positive_data_acceptance";
/// Nor by the node: leaving a header out takes no certificate away.
const NOT_JUDGED_OF_NODES: &str = "positive_data_acceptance,ignored_auth";
/// Not asked: streams that end when the client does.
const STREAMS: &str = "/events$";
/// Asked by a node, with its certificate; anybody else gets 403 there.
const NODE: &str = "api-node";
/// Operations of nodes, by the document's names.
const CALLS: [&str; 5] = ["heartbeat", "orders", "claim", "report", "renewCertificate"];
/// Jobs that wait for the node, so that each claim is answered at once.
const JOBS: usize = 1_000;

/// The suite. `long` tries more of everything.
pub(super) fn run(long: bool) -> Result<Counts> {
    let tool = tool()?;
    let shell = workspace::shell()?;
    vm::product_binaries()?;
    let place = tempfile::tempdir().context("making a directory")?;
    let server = Server::start(place.path())?;
    let (url, ca) = (
        format!("{}/openapi.json", server.url),
        place.path().join("queue.d/ca.crt"),
    );
    let examples = if long { "100" } else { "8" };
    shell.change_dir(place.path());
    // The seed is named, so that a failure comes again; the long form looks elsewhere each time.
    let seed: &[&str] = if long { &[] } else { &["--seed", "1"] };
    let common = [
        "--max-examples",
        examples,
        "--exclude-path-regex",
        STREAMS,
        "--continue-on-failure",
        "--suppress-health-check",
        "all",
    ];
    let header = format!("Authorization: Bearer {KEY}");
    // These are the node's to ask.
    let calls_left: Vec<&str> = CALLS
        .iter()
        .flat_map(|call| ["--exclude-operation-id", *call])
        .collect();
    let asked = cmd!(
        shell,
        "{tool} run {url} -H {header} --tls-verify {ca} --phases coverage,fuzzing,stateful --request-timeout 20 --exclude-checks {NOT_JUDGED} {calls_left...} {common...} {seed...}"
    )
    .quiet()
    .run();
    node(&shell, &server.url, &ca).context("letting a node join")?;
    let calls: Vec<&str> = CALLS
        .iter()
        .flat_map(|call| ["--include-operation-id", *call])
        .collect();
    let called = cmd!(
        shell,
        "{tool} --config-file node.toml run {url} --request-cert node.crt --request-cert-key node.key --tls-verify {ca} --phases coverage,fuzzing --request-timeout 75 --generation-with-security-parameters false --exclude-checks {NOT_JUDGED_OF_NODES} {calls...} {common...} {seed...}"
    )
    .quiet()
    .run();
    drop(server);
    let mut counts = Counts::one(asked.is_ok());
    counts += Counts::one(called.is_ok());
    Ok(counts)
}

/// Lets a node join with a certificate, and gives it enough to do: `node.crt`, `node.key` and the settings `node.toml`.
fn node(shell: &Shell, url: &str, ca: &Path) -> Result<()> {
    let subject = format!("/CN={NODE}");
    cmd!(
        shell,
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout node.key -out node.csr -subj {subject}"
    )
    .quiet()
    .ignore_stderr()
    .run()
    .context("making a certificate request (Debian's openssl)")?;
    let post = |path: &str, body: serde_json::Value| -> Result<serde_json::Value> {
        let (url, header) = (format!("{url}{path}"), format!("Authorization: Bearer {KEY}"));
        let answer = cmd!(
            shell,
            "curl --silent --show-error --fail --cacert {ca} -H {header} --data @- {url}"
        )
        .quiet()
        .stdin(body.to_string())
        .read()
        .with_context(|| format!("posting to {path}"))?;
        serde_json::from_str(&answer).with_context(|| format!("reading the answer of {path}"))
    };
    let request = shell
        .read_file("node.csr")
        .context("reading the certificate request")?;
    let joined = post(
        "/nodes/register",
        json!({"node_id": NODE, "address": NODE, "slots": 4096, "certificate_request": request}),
    )?;
    let certificate = joined["certificate"]
        .as_str()
        .context("the node got no certificate")?;
    shell
        .write_file("node.crt", certificate)
        .context("writing the certificate")?;
    post(
        "/jobs/batch",
        json!({"jobs": vec![json!({"scenario": "1080p-h264"}); JOBS]}),
    )?;
    // The node is the one in the path, and no call waits for what does not come.
    let settings = format!("[parameters]\n\"path.id\" = \"{NODE}\"\n\"query.wait_sec\" = 0\n");
    shell
        .write_file("node.toml", settings)
        .context("writing the settings")
}

fn tool() -> Result<PathBuf> {
    let place = workspace::target()?.join("schemathesis");
    let tool = place.join("bin/schemathesis");
    if tool.exists() {
        return Ok(tool);
    }
    println!("== installing schemathesis {VERSION} below {}", place.display());
    let shell = workspace::shell()?;
    cmd!(shell, "python3 -m venv {place}")
        .run()
        .context("making a virtual environment (Debian's python3-venv)")?;
    let pip = place.join("bin/pip");
    cmd!(shell, "{pip} install --quiet schemathesis=={VERSION}")
        .run()
        .context("installing schemathesis")?;
    Ok(tool)
}

/// A scheduler that is killed with the suite.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(place: &Path) -> Result<Self> {
        let config = place.join("scheduler.yaml");
        let text = "listen: 127.0.0.1:0\nmetrics: {enabled: false}\naccess: {per_address: 0, per_key: 0}\n";
        std::fs::write(&config, text).context("writing the scheduler's configuration")?;
        let child = Command::new(workspace::target()?.join("debug/ffrtmp-scheduler"))
            .arg("--config")
            .arg(&config)
            .arg("--db")
            .arg(place.join("queue.db"))
            .env("MASTER_API_KEY", KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the scheduler")?;
        let mut server = Self {
            child,
            url: String::new(),
        };
        let stdout = server
            .child
            .stdout
            .take()
            .context("the scheduler has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        for line in lines.by_ref() {
            let line = line.context("reading the scheduler's log")?;
            if let Some((_, rest)) = line.split_once("API on ") {
                rest.split(',')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut server.url);
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(server);
            }
        }
        bail!("the scheduler ended before it served")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ended = self.child.kill().is_ok();
        let _waited = self.child.wait().is_ok();
    }
}
