//! `run` and `attach` on real processes, without a governor: what holds even for a user with no privilege at all.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail their test"
)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

#[test]
fn the_status_of_the_workload_is_the_status_of_run() {
    for (script, status, reason) in [
        ("exit 0", 0, "success"),
        ("exit 7", 7, "error"),
        ("exit 255", 255, "error"),
        ("kill -TERM $$", 143, "signal"),
        ("kill -KILL $$", 137, "signal"),
        ("kill -SEGV $$", 139, "signal"),
    ] {
        let output = output(&["run", "--json", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(status), "{script}");
        let report = report(&output);
        assert_eq!(report["exit_code"], status, "{script}");
        assert_eq!(report["exit_reason"], reason, "{script}");
        assert_eq!(
            report["signal"].as_i64(),
            (128 < status && status < 255).then(|| i64::from(status) - 128)
        );
    }
}

#[test]
fn the_lines_are_those_of_the_documents() {
    let output = output(&["run", "--", "echo", "Hello from wrapper"]);
    assert_eq!(output.stdout, b"Hello from wrapper\n");
    let text = stderr(&output);
    let lines: Vec<&str> = text.lines().collect();
    let pid = lines[2].strip_prefix("[wrapper] Started PID ").unwrap();
    assert!(lines[0].starts_with("[wrapper] RUN mode: /"), "{text}");
    assert!(lines[0].ends_with("/echo [Hello from wrapper]"), "{text}");
    assert_eq!(lines[1], "[wrapper] Job: unknown, Intent: production, SLA: false");
    // How long it takes is the machine's affair; that it is told in seconds with one decimal is ours.
    let (told, rest) = lines[3].split_once("duration=").unwrap();
    assert_eq!(told, "[wrapper] Process exited: code=0, reason=success, ");
    let (whole, decimal) = rest
        .strip_suffix('s')
        .and_then(|text| text.split_once('.'))
        .unwrap();
    assert!(whole.parse::<u64>().is_ok() && decimal.len() == 1, "{text}");
    let (verdict, rest) = lines[4].split_once("runtime=").unwrap();
    assert_eq!(
        verdict,
        "JOB unknown | sla=COMPLIANT | reason=completed_successfully | "
    );
    let (runtime, rest) = rest.split_once("s | ").unwrap();
    assert!(runtime.parse::<u64>().is_ok(), "{text}");
    assert_eq!(rest, format!("exit=0 | pid={pid}"));
    assert_eq!(lines.len(), 5, "{text}");
}

#[test]
fn a_limit_that_needs_a_group_is_a_warning_and_never_fatal() {
    let output = output(&[
        "run",
        "--json",
        "--memory-limit",
        "64",
        "--nice",
        "5",
        "--oom-score",
        "700",
        "--cpu-set",
        "0",
        "--",
        "sh",
        "-c",
        "test $(cut -d' ' -f19 /proc/$$/stat) = 5 && test $(cat /proc/$$/oom_score_adj) = 700 && grep -q 'Cpus_allowed_list:.0$' /proc/$$/status",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("[wrapper] WARNING: Cannot create cgroup (permission denied)\n"),
        "{}",
        stderr(&output)
    );
    let report = report(&output);
    let applied: Vec<&str> = report["limits"]["applied"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| limit["limit"].as_str().unwrap())
        .collect();
    assert_eq!(applied, ["nice", "oom_score_adj", "cpu_set"]);
    assert_eq!(report["limits"]["asked"]["memory_max"], 64 << 20);
    assert!(
        report["limits"]["warnings"][1]
            .as_str()
            .unwrap()
            .contains("memory_max 67108864")
    );
}

#[test]
fn json_leaves_standard_output_to_the_report() {
    let output = output(&[
        "run",
        "--json",
        "--job-id",
        "job-123",
        "--",
        "sh",
        "-c",
        "echo noise; echo more >&2",
    ]);
    let report = report(&output);
    assert_eq!(report["job_id"], "job-123");
    assert_eq!(report["mode"], "run");
    assert_eq!(report["tier"], "wait");
    assert!(report["duration_sec"].as_f64().unwrap() < 5.0);
    assert!(report["usage"]["net_rx_bytes"].is_null());
    assert!(stderr(&output).contains("noise\n") && stderr(&output).contains("more\n"));
    assert!(output.stdout.starts_with(b"{\n  \"job_id\""));
}

#[test]
fn what_cannot_be_started_has_the_shells_own_statuses() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let plain = file("plain", "text", 0o644);
    let lost = file("lost", "#!/nonexistent/interpreter\n", 0o755);
    let directory = dir.path().display().to_string();
    for (command, status, word) in [
        ("nonexistent-command", 127, "not found"),
        ("/nonexistent/command", 127, "not found"),
        (lost.as_str(), 127, "interpreter"),
        (plain.as_str(), 126, "cannot execute"),
        (directory.as_str(), 126, "cannot execute"),
    ] {
        let output = output(&["run", "--", command]);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{command}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("Error: c") && stderr(&output).contains(word),
            "{}",
            stderr(&output)
        );
        assert!(!stderr(&output).contains("Started"), "{}", stderr(&output));
    }
    for bad in [
        vec!["run", "--workdir", "/nonexistent", "--", "true"],
        vec!["run", "--nice", "20", "--", "true"],
        vec!["run"],
        vec!["attach"],
    ] {
        assert_eq!(output(&bad).status.code(), Some(125), "{bad:?}");
    }
}

#[test]
fn a_script_without_an_interpreter_line_runs_as_from_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch_job.sh");
    fs::write(&path, "exit 9\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let output = ffrtmp(&["run", "--", "./batch_job.sh"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", stderr(&output));
    let moved = ffrtmp(&[
        "run",
        "--workdir",
        dir.path().to_str().unwrap(),
        "--",
        "./batch_job.sh",
    ])
    .output()
    .unwrap();
    assert_eq!(moved.status.code(), Some(9), "{}", stderr(&moved));
}

#[test]
fn the_working_directory_is_the_commands_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let output = output(&["run", "--workdir", path.to_str().unwrap(), "--", "pwd"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        path.to_str().unwrap()
    );
}

#[test]
fn a_workload_reads_nothing_and_leads_its_own_group() {
    let script = "cat; test $(ps -o pgid= -p $$) -eq $$ && echo alone";
    let mut child = ffrtmp(&["run", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.stdout, b"alone\n", "{}", stderr(&output));
    let interactive = ffrtmp(&["run", "--interactive", "--", "cat"])
        .stdin(fs::File::open("/proc/version").unwrap())
        .output()
        .unwrap();
    assert!(interactive.stdout.starts_with(b"Linux"));
}

#[test]
fn a_signal_to_the_wrapper_ends_the_wrapper_and_never_the_workload() {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGKILL,
    ] {
        let workload = Workload::new();
        let mut wrapper = ffrtmp(&["run", "--", "sh", "-c", &workload.script()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = workload.pid();
        // The line is written after the exec; the signal must find the wrapper listening.
        kill(Pid::from_raw(wrapper.id() as i32), signal).unwrap();
        let status = wrapper.wait().unwrap();
        assert!(
            kill(Pid::from_raw(pid), None).is_ok(),
            "{signal} ended the workload"
        );
        if signal != Signal::SIGKILL {
            assert_eq!(status.code(), Some(128 + signal as i32), "{signal}");
        }
        // Its output still has a reader here: nothing of it is lost.
        workload.finish();
        let mut text = String::new();
        wrapper.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "done\n", "{signal}");
        assert!(workload.is_done());
        let mut talk = String::new();
        wrapper.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
        if signal != Signal::SIGKILL {
            assert!(
                talk.contains(&format!("[wrapper] Ended by {signal}; process {pid} goes on")),
                "{talk}"
            );
            assert!(talk.contains("ffrtmp ps"), "{talk}");
            assert!(talk.contains("reason=detached_workload_continues"), "{talk}");
        }
    }
}

#[test]
fn a_workload_of_a_killed_json_wrapper_can_still_write() {
    let workload = Workload::new();
    let mut wrapper = ffrtmp(&["run", "--json", "--", "sh", "-c", &workload.script()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    workload.pid();
    wrapper.kill().unwrap();
    wrapper.wait().unwrap();
    workload.finish();
    let mut talk = String::new();
    wrapper.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert!(talk.ends_with("done\n"), "{talk}");
    assert!(workload.is_done());
}

#[test]
fn a_command_ends_when_its_time_is_over() {
    let output = output(&[
        "run",
        "--json",
        "--timeout",
        "100ms",
        "--",
        "sh",
        "-c",
        "sleep 60 & wait",
    ]);
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    let report = report(&output);
    assert_eq!(report["exit_reason"], "timeout");
    assert_eq!(report["exit_code"], 143);
    assert_eq!(report["platform_sla_reason"], "user_timeout");
    // Its child was in its group and is gone with it: standard error had no other writer left when it was read.
    assert!(report["duration_sec"].as_f64().unwrap() < 5.0);
}

#[test]
fn ignored_signals_stay_ignored_for_the_workload() {
    let script =
        format!("trap '' HUP; {FFRTMP} --plain run -- sh -c 'grep SigIgn /proc/self/status' 2>/dev/null");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mask = u64::from_str_radix(text.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & 1, 1, "{text}");
}

#[test]
fn run_inside_run_is_redundant_and_harmless() {
    let output = output(&[
        "run", "--", FFRTMP, "--plain", "run", "--json", "--", "sh", "-c", "exit 3",
    ]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(report(&output)["exit_code"], 3);
}

#[test]
fn a_profile_script_may_exec_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run_low_priority.sh");
    fs::write(
        &path,
        format!("#!/bin/sh\nexec {FFRTMP} --plain run --cpu-weight 50 --nice 10 --memory-limit 1024 --oom-score 500 -- \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&path)
        .args(["sh", "-c", "cat /proc/self/oom_score_adj; exit 5"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert_eq!(output.stdout, b"500\n");
}

#[test]
fn attach_reports_the_true_status_of_a_process_it_is_not_the_parent_of() {
    let workload = Workload::new();
    let mut process = Command::new("sh")
        .args(["-c", &workload.script()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = workload.pid();
    let wrapper = ffrtmp(&["attach", "--json", "--nice", "3", "--pid", &pid.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the new nice value", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        (stat.split(' ').nth(18) == Some("3")).then_some(())
    });
    workload.finish();
    process.wait().unwrap();
    let output = wrapper.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(report["mode"], "attach");
    // Before Linux 6.15 only the kernel's own record has it; absent is said, never guessed.
    if report["exit_code"].is_null() {
        assert_eq!(report["exit_reason"], "unobserved");
        assert_eq!(output.status.code(), Some(125));
    } else {
        assert_eq!(report["exit_code"], 4);
        assert_eq!(output.status.code(), Some(4));
    }
}

#[test]
fn a_signal_to_attach_leaves_the_process_alone() {
    let workload = Workload::new();
    let mut process = Command::new("sh")
        .args(["-c", &workload.script()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = workload.pid();
    let mut wrapper = ffrtmp(&["attach", "--pid", &pid.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let talk = std::io::BufReader::new(wrapper.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(talk).map(Result::unwrap);
    assert!(lines.any(|line| line == format!("[wrapper] Attached to PID {pid}")));
    kill(Pid::from_raw(wrapper.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(wrapper.wait().unwrap().code(), Some(130));
    assert!(process.try_wait().unwrap().is_none());
    workload.finish();
    assert_eq!(process.wait().unwrap().code(), Some(4));
}

#[test]
fn processes_that_cannot_be_attached_are_named_with_the_reason() {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let dead = ended.id().to_string();
    let output_dead = output(&["attach", "--pid", &dead]);
    assert_eq!(output_dead.status.code(), Some(125));
    assert_eq!(
        stderr(&output_dead).lines().next(),
        Some(format!("Error: process {dead} does not exist").as_str())
    );
    let kernel = stderr(&output(&["attach", "--pid", "2"]));
    if Path::new("/proc/2").exists() {
        assert!(kernel.contains("is a thread of the kernel"), "{kernel}");
    } else {
        assert!(kernel.contains("does not exist"), "{kernel}");
    }
    let script = format!("exec {FFRTMP} --plain attach --pid $$");
    let ourselves = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(stderr(&ourselves).contains("this ffrtmp itself"));
}

/// Runs a shell line on a terminal of its own, types `typed` into it and returns what the terminal showed.
fn on_a_terminal(line: &str, typed: &str) -> String {
    let mut script = Command::new("script")
        .args(["-qec", line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    std::io::Write::write_all(&mut keyboard, typed.as_bytes()).unwrap();
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    drop(keyboard);
    script.wait().unwrap();
    text
}

#[test]
fn an_interactive_workload_has_the_terminal_and_gives_it_back() {
    let line =
        format!("{FFRTMP} --plain run --interactive -- sh -c 'read x; echo got-$x'; read y; echo shell-$y");
    let text = on_a_terminal(&line, "one\ntwo\n");
    assert!(text.contains("got-one"), "{text}");
    assert!(text.contains("shell-two"), "{text}");
}

#[test]
fn a_workload_started_from_a_terminal_is_not_stopped_when_it_reads() {
    let line = format!("{FFRTMP} --plain run -- sh -c 'read x || echo nothing-to-read'");
    let text = on_a_terminal(&line, "");
    assert!(text.contains("nothing-to-read"), "{text}");
}

/// Root becomes `nobody` for this one.
#[test]
fn somebody_elses_process_exists_and_may_be_observed() {
    let root = nix::unistd::geteuid().is_root();
    assert!(
        root,
        "needs root, to start one process as root and another as nobody"
    );
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("ffrtmp");
    fs::copy(FFRTMP, &copy).unwrap();
    let workload = Workload::new();
    let mut process = Command::new("sh")
        .args(["-c", &workload.script()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = workload.pid();
    let nobody = |args: &[&str]| {
        let mut command = Command::new(&copy);
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let wrapper = nobody(&["--no-daemon", "attach", "--nice", "3", "--pid", &pid.to_string()])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    workload.finish();
    process.wait().unwrap();
    let (status, talk) = collect(wrapper);
    assert!(
        !talk.contains("does not exist") && talk.contains("WARNING: nice is not enforced"),
        "{talk}"
    );
    assert!(status == 4 || status == 125, "{status}: {talk}");
    let low = nobody(&[
        "--no-daemon",
        "run",
        "--nice",
        "-10",
        "--cpu-quota",
        "50",
        "--",
        "true",
    ])
    .output()
    .unwrap();
    assert_eq!(low.status.code(), Some(0), "{}", stderr(&low));
    for warning in [
        "[wrapper] WARNING: Cannot set negative nice (requires root), using 0\n",
        "[wrapper] WARNING: Cannot create cgroup (permission denied)\n",
    ] {
        assert!(stderr(&low).contains(warning), "{}", stderr(&low));
    }
}

#[test]
fn watch_without_privilege_finds_names_follows_and_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("ffrtmp-test-target");
    fs::copy(fs::canonicalize("/bin/sleep").unwrap(), &target).unwrap();
    let mut process = Command::new(&target).arg("0.4").spawn().unwrap();
    let pid = process.id();
    let mut watch = ffrtmp(&[
        "watch",
        "--target",
        "ffrtmp-test-target",
        "--scan-interval",
        "50ms",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let reader = std::io::BufReader::new(watch.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(reader).map(Result::unwrap);
    process.wait().unwrap();
    let job = format!("auto-ffrtmp-test-target-{pid}");
    for wanted in [
        "Starting auto-attach service...".to_owned(),
        "Scan interval: 50ms".to_owned(),
        "Target commands: [ffrtmp-test-target]".to_owned(),
        "Discovered 1 new process(es)".to_owned(),
        format!("Attaching to PID {pid} (ffrtmp-test-target) as job {job}"),
        format!("✓ Attached to PID {pid} (job: {job})"),
        format!("Process {pid} exited (job {job}, duration: 0."),
        format!("⊗ Detached from PID {pid} (job: {job})"),
        format!("JOB {job} | sla="),
    ] {
        assert!(lines.any(|line| line.contains(&wanted)), "no line: {wanted}");
    }
    kill(Pid::from_raw(watch.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}
