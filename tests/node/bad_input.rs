//! Bad input: a clear message that says what to do, and nothing breaks.

use std::process::{Command, Output};

use ffrtmp_tests::{World, bin};

fn talk(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    )
}

/// Asserts failure with a message that holds every one of these pieces.
fn refused(output: &Output, pieces: &[&str]) {
    let talk = talk(output);
    assert!(!output.status.success(), "accepted: {talk}");
    assert!(!talk.contains("panicked"), "{talk}");
    for piece in pieces {
        assert!(talk.contains(piece), "{piece:?} is missing in: {talk}");
    }
}

const WAYS: [&[&str]; 2] = [&[], &["--no-daemon"]];

/// Some other user; every Debian has it.
const NOBODY: u32 = 65534;

fn as_nobody(mut command: Command) -> Command {
    use std::os::unix::process::CommandExt;
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[test]
fn a_dead_pid_a_kernel_thread_and_the_governor_are_refused() {
    let world = World::new();
    for way in WAYS {
        let attach = |pid: &str| world.output(&[way, &["attach", "--pid", pid]].concat());
        refused(&attach("4194304"), &["process 4194304 does not exist"]);
        refused(&attach("2"), &["kernel thread"]);
        refused(&attach("0"), &["--pid"]);
        refused(&attach("-5"), &["--pid"]);
    }
    let own = world.governor_pid().to_string();
    refused(&world.output(&["attach", "--pid", &own]), &["governor itself"]);
}

#[test]
fn limits_that_cannot_be_meant_name_their_flag() {
    let world = World::new();
    for (flag, value) in [
        ("--cpu-quota", "-1"),
        ("--cpu-quota", "999999999"),
        ("--cpu-weight", "0"),
        ("--cpu-weight", "20000"),
        ("--memory-limit", "-5"),
        ("--nice", "40"),
        ("--oom-score", "5000"),
        ("--io-weight", "300"),
        ("--cpu-max", "fast"),
        ("--job-id", "a/b"),
        ("--job-id", ".."),
        ("--intent", "fun"),
        ("--timeout", "soon"),
    ] {
        refused(&world.output(&["run", flag, value, "--", "true"]), &[flag]);
    }
}

#[test]
fn a_job_id_belongs_to_one_live_job() {
    let world = World::new();
    let mut first = world
        .ffrtmp(&["run", "--job-id", "twin", "--", "sleep", "5"])
        .spawn()
        .unwrap();
    ffrtmp_tests::eventually("the first job", || {
        world
            .jobs()
            .into_iter()
            .find(|job| job.report.job_id.as_str() == "twin")
    });
    refused(
        &world.output(&["run", "--job-id", "twin", "--", "true"]),
        &["twin", "--job-id"],
    );
    first.wait().unwrap();
    let again = world.output(&["run", "--job-id", "twin", "--", "true"]);
    assert!(again.status.success(), "{}", talk(&again));
}

#[test]
fn another_users_process_is_out_of_reach() {
    let world = World::new();
    let mut root = world.workload.spawn(&["sleep-us", "30000000"]);
    let pid = root.id().to_string();
    world.job(root.id());
    let output = as_nobody(world.ffrtmp(&["attach", "--pid", &pid]))
        .output()
        .unwrap();
    refused(&output, &["another user"]);
    let output = as_nobody(world.ffrtmp(&["release", "--all"])).output().unwrap();
    assert!(!output.status.success(), "{}", talk(&output));
    let own = as_nobody(world.ffrtmp(&["run", "--nice", "-5", "--", "true"]))
        .output()
        .unwrap();
    assert!(talk(&own).contains("nice"), "{}", talk(&own));
    // What others run is listed, their arguments are not.
    let list = as_nobody(world.ffrtmp(&["ps", "--output", "json"]))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains(&pid) && !text.contains("30000000"), "{text}");
    root.kill().unwrap();
    root.wait().unwrap();
    world.closed(root.id());
}

#[test]
fn an_unprivileged_run_is_governed_by_the_daemon() {
    let world = World::new();
    let command = world.ffrtmp(&[
        "run",
        "--cpu-quota",
        "50",
        "--json",
        "--",
        "cat",
        "/proc/self/cgroup",
    ]);
    let output = as_nobody(command).output().unwrap();
    assert!(output.status.success(), "{}", talk(&output));
    assert!(talk(&output).contains("ffrtmp.slice/"), "{}", talk(&output));
    assert!(talk(&output).contains("cpu_max"), "{}", talk(&output));
}

#[test]
fn a_bad_configuration_names_file_line_column_and_the_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Command::new(bin("ffrtmp-governor"))
            .arg("--check")
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap()
    };
    refused(
        &check("default_limits:\n  cpu_qouta: 50\n"),
        &["bad.yaml:2:3", "cpu_qouta", "cpu_quota"],
    );
    refused(
        &check("default_limits:\n  cpu_quota: fast\n"),
        &["bad.yaml:2:", "cpu_quota"],
    );
    refused(
        &check("default_limits:\n  cpu_quota: -10\n"),
        &["bad.yaml:2:", "cpu_quota"],
    );
    refused(&check("target_commands: ffmpeg: x\n"), &["bad.yaml:1:"]);
    let missing = Command::new(bin("ffrtmp-governor"))
        .args(["--config", "/nonexistent.yaml"])
        .output()
        .unwrap();
    refused(&missing, &["/nonexistent.yaml"]);
}

#[test]
fn a_kernel_tier_that_is_asked_for_and_cannot_be_had_is_refused_with_the_reason() {
    // In a mount namespace of its own, so that nothing of the host changes.
    let script = format!(
        "mount -t tmpfs none /sys/kernel/btf && printf 'tier: kernel\\npins: off\\n' > /tmp/none-$$.yaml && {} --config /tmp/none-$$.yaml --socket /tmp/none-$$.sock --ledger /tmp/none-$$.db \
         --metrics 127.0.0.1:0; code=$?; rm -f /tmp/none-$$.*; exit $code",
        bin("ffrtmp-governor").display()
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output()
        .unwrap();
    refused(&output, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn a_tree_that_cannot_be_written_is_told_and_the_workload_runs() {
    let script = format!(
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mountpoint -q $d && mount -o remount,bind,ro $d 2>/dev/null; done; \
         exec {} --no-daemon run --cpu-quota 50 --json -- sh -c 'exit 3'",
        bin("ffrtmp").display()
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", talk(&output));
    assert!(
        talk(&output).contains("Cannot create cgroup"),
        "{}",
        talk(&output)
    );
}

#[test]
fn a_ledger_on_a_full_or_read_only_disk_is_told_and_jobs_go_on() {
    // A tmpfs of 64 KiB in a mount namespace of its own.
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k none {dir} && head -c 60000 /dev/zero > {dir}/fill; echo 'pins: off' > {dir}.yaml; {gov} --config {dir}.yaml \
         --socket {dir}.sock --ledger {dir}/governor.db --metrics 127.0.0.1:0 2> {dir}.log & gov=$!; \
         for i in $(seq 100); do test -S {dir}.sock && break; sleep 0.1; done; \
         FFRTMP_SOCKET={dir}.sock {cli} run -- sh -c 'exit 4'; code=$?; \
         FFRTMP_SOCKET={dir}.sock {cli} doctor; kill $gov; wait $gov; cat {dir}.log; rm -f {dir}.sock {dir}.log {dir}.lock {dir}.yaml; \
         echo code=$code",
        dir = dir.path().display(),
        gov = bin("ffrtmp-governor").display(),
        cli = bin("ffrtmp").display(),
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output()
        .unwrap();
    let talk = talk(&output);
    assert!(talk.contains("code=4"), "{talk}");
    assert!(talk.contains("ledger") && talk.contains("full"), "{talk}");
}
