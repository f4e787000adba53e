//! `ffrtmp run`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::{FFRTMP, ffrtmp, output, report, stderr};

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
