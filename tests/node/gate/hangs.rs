//! Whatever becomes of the gate and its parent: held execs go on within a second, and nobody is left stopped.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ffrtmp_tests::{World, eventually, hierarchies, machine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{armed, bound, gated, in_time, is_placed, look, status, text_of};

/// Processes that execute the held file at once.
fn many() -> usize {
    if machine::emulated() { 30 } else { 100 }
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| !text.is_empty())
}

/// Starts them; each one's end comes with the moment at which it was over.
fn start_many(world: &World) -> Receiver<(bool, Instant, Instant)> {
    let (tell, ends) = channel();
    for _ in 0..many() {
        let (workload, tell) = (world.workload.clone(), tell.clone());
        std::thread::spawn(move || {
            let start = Instant::now();
            let ended = workload.spawn(&["exit", "0"]).wait().unwrap();
            let _gone = tell.send((ended.success(), start, Instant::now()));
        });
    }
    ends
}

/// Waits for all of them. Gives the longest time that one took, its life before `since` left out.
fn finish(ends: &Receiver<(bool, Instant, Instant)>, since: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 0..many() {
        let (success, start, end) = ends
            .recv_timeout(Duration::from_secs(20))
            .unwrap_or_else(|_| panic!("{number} of {} came back, the others hang", many()));
        assert!(success);
        longest = longest.max(end.saturating_duration_since(start.max(since)));
    }
    longest
}

/// Stops governor and gate together, which nobody can undo but from outside, and starts the processes: all of them hang.
fn all_hang(world: &World, gate: u32) -> Receiver<(bool, Instant, Instant)> {
    world.signal(Signal::SIGSTOP);
    eventually("the governor to stand still", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", world.governor_pid())).ok()?;
        stat.contains(") T ").then_some(())
    });
    send(gate, Signal::SIGSTOP);
    let ends = start_many(world);
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        ends.try_recv().is_err(),
        "nobody gets past a gate that does not answer"
    );
    ends
}

fn assert_restarted(world: &World, gate: u32) {
    eventually("another gate", || {
        status(world).pid.filter(|pid| *pid != gate && is_alive(*pid))
    });
    assert_eq!(armed(world).restarts, 1);
}

fn gate_of(world: &World) -> u32 {
    status(world).pid.unwrap()
}

/// Ends the holder while all hang.
fn with_its_holder_ended_by(signals: &[Signal]) {
    let world = gated("");
    let gate = gate_of(&world);
    let ends = all_hang(&world, gate);
    let since = Instant::now();
    for signal in signals {
        send(gate, *signal);
    }
    let last = finish(&ends, since);
    assert!(last < bound(), "the last one hung for {last:?} after {signals:?}");
    world.signal(Signal::SIGCONT);
    assert_restarted(&world, gate);
}

#[test]
fn with_its_holder_killed() {
    with_its_holder_ended_by(&[Signal::SIGKILL]);
}

#[test]
fn with_its_holder_stopped() {
    let world = gated("");
    let gate = gate_of(&world);
    let since = Instant::now();
    send(gate, Signal::SIGSTOP);
    let last = finish(&start_many(&world), since);
    assert!(last < bound(), "the last one hung for {last:?}");
    assert!(!is_alive(gate));
    assert_restarted(&world, gate);
}

#[test]
fn with_its_holder_frozen() {
    let world = gated("");
    let gate = gate_of(&world);
    let group = hierarchies()
        .into_iter()
        .map(|mount| mount.join(format!("ffrtmp-gate-{gate}")))
        .find(|group| group.join("cgroup.freeze").exists())
        .unwrap();
    let since = Instant::now();
    std::fs::write(group.join("cgroup.freeze"), "1").unwrap();
    let last = finish(&start_many(&world), since);
    assert!(last < bound(), "the last one hung for {last:?}");
    assert_restarted(&world, gate);
    assert!(!group.exists(), "{} is left behind", group.display());
}

#[test]
fn with_its_holder_dumping_core() {
    with_its_holder_ended_by(&[Signal::SIGQUIT, Signal::SIGCONT]);
}

#[test]
fn with_its_parent_dead() {
    let mut world = gated("");
    let gate = gate_of(&world);
    let ends = all_hang(&world, gate);
    let since = Instant::now();
    world.stop(Signal::SIGKILL);
    let last = finish(&ends, since);
    assert!(last < bound(), "the last one hung for {last:?}");
    eventually("the gate to be gone with its parent", || {
        (!is_alive(gate)).then_some(())
    });
    let done = world.cleanup();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(!world.path("governor.gate").exists(), "{text}");
    let left = hierarchies()
        .into_iter()
        .any(|mount| mount.join(format!("ffrtmp-gate-{gate}")).exists());
    assert!(!left, "{text}");
}

#[test]
fn a_governor_that_is_told_to_stop_takes_the_gate_along() {
    let mut world = gated("");
    let gate = gate_of(&world);
    world.stop(Signal::SIGTERM);
    eventually("the gate to be gone", || {
        (!Path::new(&format!("/proc/{gate}")).exists()).then_some(())
    });
    for mount in hierarchies() {
        let group = mount.join(format!("ffrtmp-gate-{gate}"));
        assert!(!group.exists(), "{} is left behind", group.display());
    }
    assert!(world.workload.spawn(&["exit", "0"]).wait().unwrap().success());
}

#[test]
fn after_four_ends_in_a_minute_it_is_off_until_the_rules_are_read_again() {
    in_time("", |world| {
        for _ in 0..4 {
            send(armed(world).pid.unwrap(), Signal::SIGKILL);
            eventually("the end to be noticed", || {
                let now = status(world);
                (now.off.is_some() || now.pid.is_some_and(is_alive)).then_some(())
            });
        }
        let off = eventually("the gate to be given up", || status(world).off);
        assert!(off.contains("4 times within a minute"), "{off}");
        // Its rule acts right after the exec now.
        let child = world.workload.spawn(&["sleep-us", "30000000"]);
        assert_eq!(world.job(child.id()).state, "governed");
        super::reap(child);
        world.signal(Signal::SIGHUP);
        armed(world);
        let (file, text) = look(world, "groups");
        let child = world.workload.spawn(&["own-group", &text]);
        assert!(is_placed(&text_of(&file)));
        super::reap(child);
    });
}
