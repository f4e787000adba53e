//! `ffrtmp watch`: a session of a governor that runs, or the governor itself.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ffrtmp_tests::{Workload, World, eventually, unique_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts `watch` and gives its lines as they come.
fn watch(world: &World, args: &[&str]) -> (Child, Receiver<String>) {
    let mut child = world
        .ffrtmp(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start ffrtmp watch");
    let (sender, lines) = channel();
    let out = child.stdout.take().unwrap();
    let err = child.stderr.take().unwrap();
    let other = sender.clone();
    std::thread::spawn(move || {
        BufReader::new(out)
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    std::thread::spawn(move || {
        BufReader::new(err)
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| other.send(line))
    });
    (child, lines)
}

fn expect(lines: &Receiver<String>, wanted: &str) {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(20)) {
            Ok(line) if line.contains(wanted) => return,
            Ok(line) => seen.push(line),
            Err(end) => panic!("no line with {wanted:?} ({end}) in {seen:#?}"),
        }
    }
}

fn follow(world: &World, way: &[&str]) {
    let name = unique_name("watched");
    let workload = Workload::new(&world.path(""), &name);
    let args = [
        way,
        &[
            "watch",
            "--target",
            &name,
            "--cpu-quota",
            "50",
            "--memory-limit",
            "256",
        ],
    ]
    .concat();
    let (mut watcher, lines) = watch(world, &args);
    expect(&lines, "Starting auto-attach service...");
    expect(&lines, &format!("Target commands: [{name}]"));
    std::thread::sleep(Duration::from_millis(500));
    let mut child = workload.spawn(&["sleep-us", "1200000", "exit", "3"]);
    let pid = child.id();
    expect(&lines, "Discovered 1 new process(es)");
    expect(
        &lines,
        &format!("Attaching to PID {pid} ({name}) as job auto-{name}-{pid}"),
    );
    expect(
        &lines,
        &format!("✓ Attached to PID {pid} (job: auto-{name}-{pid})"),
    );
    let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(group.contains("ffrtmp.slice"), "{group}");
    child.wait().unwrap();
    expect(
        &lines,
        &format!("Process {pid} exited (job auto-{name}-{pid}, duration: 1."),
    );
    expect(
        &lines,
        &format!("⊗ Detached from PID {pid} (job: auto-{name}-{pid})"),
    );
    kill(Pid::from_raw(watcher.id().cast_signed()), Signal::SIGINT).unwrap();
    watcher.wait().unwrap();
}

#[test]
fn with_a_governor_watch_brings_rules_that_go_with_it() {
    let world = World::new();
    follow(&world, &[]);
    let rules = || {
        let output = world.output(&["doctor", "--output", "json"]);
        String::from_utf8_lossy(&output.stdout).contains("watched-")
    };
    eventually("the session's rules to go", || (!rules()).then_some(()));
}

#[test]
fn without_a_governor_watch_is_one() {
    let mut world = World::new();
    world.stop(Signal::SIGTERM);
    follow(&world, &[]);
}

#[test]
fn a_second_governor_is_refused_with_the_holders_pid() {
    let world = World::new();
    let output = std::process::Command::new(ffrtmp_tests::bin("ffrtmp-governor"))
        .arg("--config")
        .arg(world.path("governor.yaml"))
        .arg("--socket")
        .arg(world.socket())
        .args(["--metrics", "127.0.0.1:0", "--ledger"])
        .arg(world.path("other.db"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let talk =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(talk.contains(&world.governor_pid().to_string()), "{talk}");
}
