//! Whatever the scheduler's `OpenAPI` document says, tried by schemathesis on the real program over TLS: no 5xx, no answer
//! that is not as documented, no body that the schema forbids and the scheduler takes.
//!
//! It installs schemathesis into a virtual environment below the target directory, never anywhere else.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use xshell::cmd;

use super::Counts;
use crate::workspace;

/// Version of schemathesis: its findings change with it.
const VERSION: &str = "4.32.5";
/// Master key of the scheduler under test.
const KEY: &str = "a-master-key-of-the-operator";
/// Not judged: a scenario's grammar, times and names that must not be empty are refused with their field, which no JSON
/// schema tells beforehand.
const NOT_JUDGED: &str = "positive_data_acceptance";
/// Not asked: streams that end when the client does.
const STREAMS: &str = "/events$";

/// The suite. `long` tries more of everything.
pub(super) fn run(long: bool) -> Result<Counts> {
    let tool = tool()?;
    let shell = workspace::shell()?;
    cmd!(shell, "cargo build --quiet -p ffrtmp-scheduler --bins")
        .run()
        .context("building the scheduler")?;
    let place = tempfile::tempdir().context("making a directory")?;
    let server = Server::start(place.path())?;
    let (url, ca) = (
        format!("{}/openapi.json", server.url),
        place.path().join("queue.d/ca.crt"),
    );
    let header = format!("Authorization: Bearer {KEY}");
    let examples = if long { "100" } else { "8" };
    shell.change_dir(place.path());
    // The seed is named, so that a failure comes again; the long form looks elsewhere each time.
    let seed = if long { vec![] } else { vec!["--seed", "1"] };
    let ran = cmd!(
        shell,
        "{tool} run {url} -H {header} --tls-verify {ca} --phases coverage,fuzzing,stateful --max-examples {examples} --exclude-checks {NOT_JUDGED} --exclude-path-regex {STREAMS} --request-timeout 20 --continue-on-failure --suppress-health-check all {seed...}"
    )
    .quiet()
    .run();
    drop(server);
    Ok(Counts::one(ran.is_ok()))
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
