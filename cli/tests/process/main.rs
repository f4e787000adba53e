//! `run` and `attach` on real processes, without a governor: what holds even for a user with no privilege at all.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail their test"
)]

mod attach;
mod run;
mod signals;

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const FFRTMP: &str = env!("CARGO_BIN_EXE_ffrtmp");

fn ffrtmp(args: &[&str]) -> Command {
    let mut command = Command::new(FFRTMP);
    command.arg("--plain").args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    ffrtmp(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            stderr(output)
        )
    })
}

/// Waits until something holds; a process that never gets there fails its test.
fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if let Some(found) = check() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen");
}

/// A workload that tells its pid in a file, then waits for a second file.
struct Workload {
    dir: tempfile::TempDir,
}

impl Workload {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn script(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "echo $$ > {dir}/pid.new; mv {dir}/pid.new {dir}/pid; while [ ! -e {dir}/go ]; do sleep 0.02; done; echo done; echo fine > {dir}/done; exit 4"
        )
    }

    fn pid(&self) -> i32 {
        let path = self.dir.path().join("pid");
        eventually("the start of the workload", || {
            fs::read_to_string(&path).ok()?.trim().parse().ok()
        })
    }

    fn finish(&self) {
        fs::write(self.dir.path().join("go"), "").unwrap();
    }

    fn is_done(&self) -> bool {
        self.dir.path().join("done").exists()
    }
}

fn collect(mut child: Child) -> (i32, String) {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    (
        status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {status}\n{text}")),
        text,
    )
}
