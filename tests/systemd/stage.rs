//! What every test here needs: units, the governor in its own unit, and what the kernel shows of a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::{bin, eventually, jobs_of};

/// The rules of the governor under test.
const RULES: &str = "rules:\n  - name: media\n    commands: [ffmpeg]\n    class: live\n    limits: {cpu_quota: 50, \
                     cpu_weight: 50, memory_limit: 256, pids_max: 64, nice: 3}\n";

/// A workload that sleeps for ten minutes under the name rules know.
pub(crate) const FFMPEG: &str = "/opt/media/ffmpeg sleep-us 600000000";

/// Runs a command line in a shell.
pub(crate) fn shell(line: &str) -> Output {
    Command::new("/bin/sh").args(["-c", line]).output().unwrap()
}

/// Runs a command line that must succeed, and gives what it printed.
pub(crate) fn sh(line: &str) -> String {
    let output = shell(line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(
        output.status.success(),
        "{line}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A unit of a test's own, gone with it.
pub(crate) struct Unit {
    name: String,
}

impl Unit {
    /// Writes the unit and starts it.
    pub(crate) fn start(name: &str, service: &str) -> Self {
        workload();
        fs::create_dir_all("/run/systemd/system").unwrap();
        let text = format!("[Unit]\nDescription=A test's\n[Service]\n{service}\n");
        fs::write(Path::new("/run/systemd/system").join(name), text).unwrap();
        sh("systemctl daemon-reload");
        let unit = Self {
            name: name.to_owned(),
        };
        sh(&format!("systemctl start {name}"));
        unit
    }

    /// The one process in the unit, or moved out of it, that runs the workload.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        shell(&format!(
            "systemctl stop {}; systemctl reset-failed {0}",
            self.name
        ));
        // A test that failed may have left a workload behind, and the next one counts them.
        for pid in workloads() {
            shell(&format!("kill -9 {pid}"));
        }
    }
}

/// Puts the workload where units find it.
pub(crate) fn workload() {
    if !Path::new("/opt/media/ffmpeg").exists() {
        fs::create_dir_all("/opt/media").unwrap();
        fs::copy(bin("ffrtmp-test-target"), "/opt/media/ffmpeg").unwrap();
    }
}

/// Pids of the workload, ascending.
pub(crate) fn workloads() -> Vec<u32> {
    let found = shell("pgrep -x ffmpeg");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// The one workload that runs, once it does.
pub(crate) fn the_workload() -> u32 {
    eventually("one workload", || match workloads().as_slice() {
        [pid] => Some(*pid),
        _ => None,
    })
}

/// Waits until a process is gone.
pub(crate) fn gone(pid: u32) {
    eventually(&format!("process {pid} to end"), || {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
}

/// Starts the governor's own unit, with the rules of these tests.
pub(crate) fn governor() {
    governor_with(RULES);
}

/// The same with other rules; it must not run yet.
pub(crate) fn governor_with(rules: &str) {
    fs::create_dir_all("/etc/ffrtmp").unwrap();
    fs::write("/etc/ffrtmp/governor.yaml", rules).unwrap();
    let started = shell("systemctl start ffrtmp-governor");
    assert!(
        started.status.success(),
        "{}",
        sh("systemctl status --no-pager ffrtmp-governor ffrtmp-jobs | tail -n 40; true")
    );
}

/// Every job the governor knows.
pub(crate) fn jobs() -> Vec<JobView> {
    jobs_of(
        &Command::new(bin("ffrtmp"))
            .args(["ps", "--all", "--output", "json"])
            .output()
            .unwrap(),
    )
}

/// The last the governor said.
pub(crate) fn log() -> String {
    sh("journalctl --no-pager -n 80 -u ffrtmp-governor; true")
}

/// The job of a process in a state.
pub(crate) fn job(pid: u32, state: &str) -> JobView {
    let mut seen = None;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(&format!("job {pid} to be {state}"), || {
            let job = jobs().into_iter().rev().find(|job| job.report.pid == pid)?;
            let done = job.state == state;
            seen = Some(job.clone());
            done.then_some(job)
        })
    }));
    found.unwrap_or_else(|_| panic!("job {pid} is not {state}: {seen:#?}\n{}", log()))
}

/// The process's v2 group as /proc lists it.
pub(crate) fn group(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap().to_owned()
}

/// A file of the process's group.
pub(crate) fn limit(pid: u32, file: &str) -> String {
    let path = PathBuf::from(format!("/sys/fs/cgroup{}", group(pid))).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}

/// What the rule asks is in force where the process sits.
pub(crate) fn assert_governed(pid: u32) {
    assert_eq!(limit(pid, "cpu.max"), "50000 100000", "{}", group(pid));
    assert_eq!(limit(pid, "cpu.weight"), "50");
    assert_eq!(limit(pid, "memory.max"), (256u64 << 20).to_string());
    assert_eq!(limit(pid, "pids.max"), "64");
}

/// Names of the limits a report shows as applied.
pub(crate) fn applied(job: &JobView) -> Vec<&str> {
    job.report
        .limits
        .applied
        .iter()
        .map(|one| one.limit.as_str())
        .collect()
}
