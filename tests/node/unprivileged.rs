//! Users without privilege: what they may ask of the daemon, every way around it that we know of, and what they get
//! without a daemon.

mod alone;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use ffrtmp_tests::{Options, Workload, World, ask_as, bin, eventually};
use serde_json::{Value, json};

/// Two users that exist nowhere else.
const MALLORY: u32 = 64_111;
const ALICE: u32 = 64_222;

/// A program that no rule knows, so that whoever runs it is nobody's job yet.
fn stranger(world: &World) -> Workload {
    Workload::new(world.workload.path().parent().unwrap(), "stranger")
}

fn start(workload: &Workload, uid: u32, steps: &[&str]) -> Child {
    workload.command(steps).uid(uid).gid(uid).spawn().unwrap()
}

fn sleeper(workload: &Workload, uid: u32) -> Child {
    start(workload, uid, &["sleep-us", "60000000"])
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn attach(uid: u32, world: &World, pid: u32, limits: &Value) -> (u16, Value) {
    let request = json!({"pid": pid, "found": "attach", "limits": limits});
    ask_as(uid, world, "POST", "attach", &request)
}

fn release(uid: u32, world: &World, name: &str) -> (u16, Value) {
    ask_as(uid, world, "POST", "release", &json!({ "one": name }))
}

/// Refused, because the caller may not.
#[track_caller]
fn refused((status, body): (u16, Value)) {
    assert_eq!((status, &body["code"]), (403, &json!("not_allowed")), "{body}");
    assert!(body["hint"].is_string(), "{body}");
}

#[track_caller]
fn allowed((status, body): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{body}");
    body
}

fn nice_of(pid: u32) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(16)
        .unwrap()
        .parse()
        .unwrap()
}

fn groups(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

/// A copy of the command line tool that everybody may execute.
fn tool(world: &World) -> PathBuf {
    let path = world.path("ffrtmp");
    std::fs::copy(bin("ffrtmp"), &path).unwrap();
    path
}

fn ffrtmp(uid: u32, world: &World, args: &[&str]) -> Output {
    Command::new(tool(world))
        .env("FFRTMP_SOCKET", world.socket())
        .args(args)
        .stdin(Stdio::null())
        .uid(uid)
        .gid(uid)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn processes_of_others_are_not_touched_by_any_verb() {
    let world = World::new();
    let workload = stranger(&world);
    let (root, alice) = (
        workload.spawn(&["sleep-us", "60000000"]),
        sleeper(&workload, ALICE),
    );
    for victim in [&root, &alice] {
        let (pid, before) = (victim.id(), groups(victim.id()));
        refused(attach(MALLORY, &world, pid, &json!({})));
        refused(attach(
            MALLORY,
            &world,
            pid,
            &json!({"nice": 19, "memory_max": 1 << 20}),
        ));
        let run = json!({"pid": pid, "found": "run", "timeout_ms": 1});
        refused(ask_as(MALLORY, &world, "POST", "attach", &run));
        refused(ask_as(
            MALLORY,
            &world,
            "GET",
            &format!("explain/{pid}"),
            &Value::Null,
        ));
        assert_eq!((groups(pid), nice_of(pid)), (before, 0));
    }
    // The same once Alice has attached her own.
    let job = allowed(attach(ALICE, &world, alice.id(), &json!({"nice": 5})));
    let key = job["key"].as_str().unwrap().to_owned();
    for name in [alice.id().to_string(), key, "unknown".to_owned()] {
        refused(release(MALLORY, &world, &name));
    }
    refused(attach(MALLORY, &world, alice.id(), &json!({"nice": 19})));
    refused(ask_as(
        MALLORY,
        &world,
        "GET",
        &format!("explain/{}", alice.id()),
        &Value::Null,
    ));
    assert_eq!(nice_of(alice.id()), 5);
    let jobs = allowed(ask_as(MALLORY, &world, "GET", "jobs", &Value::Null));
    let seen = jobs
        .as_array()
        .unwrap()
        .iter()
        .find(|job| job["uid"] == json!(ALICE))
        .unwrap();
    assert!(
        seen["report"]["command"].is_null(),
        "command lines of others are hidden: {seen}"
    );
    end(root);
    end(alice);
}

#[test]
fn what_is_the_administrators_alone_is_refused() {
    let world = World::new();
    refused(ask_as(MALLORY, &world, "POST", "reload", &Value::Null));
    refused(ask_as(
        MALLORY,
        &world,
        "POST",
        "sessions",
        &json!({"targets": ["ffmpeg"]}),
    ));
    refused(ask_as(MALLORY, &world, "POST", "release", &json!("all")));
    for args in [&["release", "--all"][..], &["watch", "--target", "ffmpeg"]] {
        let output = ffrtmp(MALLORY, &world, args);
        assert!(!output.status.success(), "{args:?}");
        assert!(
            text(&output.stderr).contains("group ffrtmp"),
            "{}",
            text(&output.stderr)
        );
    }
    allowed(ask_as(MALLORY, &world, "GET", "status", &Value::Null));
}

#[test]
fn own_processes_go_downwards_only() {
    let world = World::new();
    let own = sleeper(&stranger(&world), MALLORY);
    let pid = own.id();
    for raised in [
        json!({"nice": -1}),
        json!({"oom_score_adj": -500}),
        json!({"cpu_weight": 101}),
        json!({"io_weight": 100}),
        json!({"io_priority": {"class": "realtime", "level": 0}}),
    ] {
        refused(attach(MALLORY, &world, pid, &raised));
    }
    let half = json!({"quota_us": 50_000, "period_us": 100_000});
    let most = json!({"quota_us": 80_000, "period_us": 100_000});
    allowed(attach(
        MALLORY,
        &world,
        pid,
        &json!({"nice": 10, "cpu_max": half}),
    ));
    // Lower, then raise one's own.
    refused(attach(MALLORY, &world, pid, &json!({"nice": 9, "cpu_max": half})));
    refused(attach(
        MALLORY,
        &world,
        pid,
        &json!({"nice": 10, "cpu_max": most}),
    ));
    refused(attach(MALLORY, &world, pid, &json!({"nice": 10})));
    assert_eq!(nice_of(pid), 10);
    // What one attached oneself one may release; the nice value of before is what comes back.
    allowed(release(MALLORY, &world, &pid.to_string()));
    assert_eq!(nice_of(pid), 0);
    end(own);
}

#[test]
fn limits_that_a_rule_imposed_stay() {
    let world = World::with(Options {
        rule: "limits: {cpu_quota: 50, nice: 7}".to_owned(),
        ..Options::default()
    });
    let own = start(&world.workload, MALLORY, &["fork", "1", "sleep-us", "60000000"]);
    let job = world.job(own.id());
    let (pid, placed) = (own.id(), groups(own.id()));
    assert_eq!(nice_of(pid), 7);
    for name in [
        pid.to_string(),
        job.key.to_string(),
        job.report.job_id.to_string(),
    ] {
        refused(release(MALLORY, &world, &name));
    }
    refused(attach(MALLORY, &world, pid, &json!({})));
    refused(attach(
        MALLORY,
        &world,
        pid,
        &json!({"nice": 7, "cpu_max": {"quota_us": 10_000, "period_us": 100_000}}),
    ));
    // Nor does a child leave the job by becoming one of its own.
    let child = eventually("the child", || {
        let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        listed.split_whitespace().next()?.parse::<u32>().ok()
    });
    refused(attach(MALLORY, &world, child, &json!({})));
    let run = json!({"pid": child, "found": "run"});
    refused(ask_as(MALLORY, &world, "POST", "attach", &run));
    assert_eq!((groups(pid), groups(child)), (placed.clone(), placed));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    end(own);
}

/// A program that belongs to root and whose user does not matter.
fn set_uid(world: &World) -> Workload {
    let workload = Workload::new(world.workload.path().parent().unwrap(), "elevated");
    chown(workload.path(), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(workload.path(), PermissionsExt::from_mode(0o4755)).unwrap();
    workload
}

#[test]
fn a_set_uid_program_is_not_governed_by_who_started_it() {
    let world = World::new();
    let elevated = set_uid(&world);
    let own = sleeper(&elevated, MALLORY);
    eventually("the program to run as root", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", own.id())).ok()?;
        status
            .contains(&format!("Uid:\t{MALLORY}\t0\t0\t0"))
            .then_some(())
    });
    let before = groups(own.id());
    refused(attach(MALLORY, &world, own.id(), &json!({"nice": 19})));
    assert_eq!((groups(own.id()), nice_of(own.id())), (before.clone(), 0));
    // Nor by attaching what started it: it stays where it is, and its parent alone is placed.
    let shell = Command::new("sh")
        .args([
            "-c",
            &format!("{} sleep-us 60000000 & wait", elevated.path().display()),
        ])
        .stdin(Stdio::null())
        .uid(MALLORY)
        .gid(MALLORY)
        .spawn()
        .unwrap();
    let child = eventually("the elevated child", || {
        let listed = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.id())).ok()?;
        let pid = listed.split_whitespace().next()?.parse::<u32>().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status
            .contains(&format!("Uid:\t{MALLORY}\t0\t0\t0"))
            .then_some(pid)
    });
    let before = groups(child);
    allowed(attach(
        MALLORY,
        &world,
        shell.id(),
        &json!({"memory_max": 16 << 20}),
    ));
    assert_ne!(groups(shell.id()), before);
    assert_eq!(groups(child), before, "a process of root is not moved for a user");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    end(shell);
    end(own);
}

#[test]
fn a_pid_that_passed_on_gives_no_hold_on_its_new_owner() {
    let world = World::new();
    let workload = stranger(&world);
    let own = sleeper(&workload, MALLORY);
    let pid = own.id();
    let key = allowed(attach(MALLORY, &world, pid, &json!({"nice": 3})))["key"]
        .as_str()
        .unwrap()
        .to_owned();
    end(own);
    world.closed(pid);
    // The machine is busy, so somebody else may get the pid; then it is tried again.
    let victim = (0..500).find_map(|_| {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let child = workload.spawn(&["sleep-us", "60000000"]);
        if child.id() == pid {
            return Some(child);
        }
        end(child);
        None
    });
    let victim = victim.expect("the pid again");
    let before = groups(pid);
    refused(attach(MALLORY, &world, pid, &json!({"nice": 19})));
    refused(ask_as(
        MALLORY,
        &world,
        "POST",
        "attach",
        &json!({"pid": pid, "found": "run", "timeout_ms": 1}),
    ));
    for name in [pid.to_string(), key] {
        let (status, body) = release(MALLORY, &world, &name);
        assert_eq!((status, &body["code"]), (404, &json!("no_such_job")), "{body}");
    }
    assert_eq!((groups(pid), nice_of(pid)), (before, 0));
    end(victim);
}
