//! From tier to tier while jobs run, and how soon a start decides.

use std::process::Command;

use ffrtmp_api::ExitReason;
use ffrtmp_tests::{Options, World, eventually};
use nix::sys::signal::Signal;

use super::{RULE, counter, placed};

#[test]
fn a_buffer_that_overflows_is_answered_by_a_pass_over_proc() {
    let world = World::with(Options {
        rule: RULE.to_owned(),
        config: "tier: connector".to_owned(),
        launcher: ["env", "FFRTMP_CONNECTOR_BYTES=32768"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    });
    let mut first = world.workload.spawn(&["sleep-us", "60000000"]);
    world.job(first.id());
    // While the governor is stopped nobody empties the buffer: more execs than it holds make it overflow.
    world.signal(Signal::SIGSTOP);
    let mut targets = Vec::new();
    for _ in 0..5 {
        storm(&world, 300);
        targets.push(world.workload.spawn(&["sleep-us", "60000000"]));
    }
    let mut ended = targets.pop().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    ended.kill().unwrap();
    ended.wait().unwrap();
    world.signal(Signal::SIGCONT);
    for target in &targets {
        placed(&world.job(target.id()), "connector");
    }
    assert!(
        counter(&world, "kernel_dropped") > 0,
        "the buffer held everything"
    );
    assert!(counter(&world, "resyncs") > 0);
    // One that ended while its exit was dropped is closed, and its status told only as far as it can be known.
    let lost = world.closed(first.id()).report;
    assert!(
        matches!(
            lost.exit,
            Some(ExitReason::Signal { signal: 9, .. } | ExitReason::Unobserved { .. })
        ),
        "{lost:?}"
    );
    for mut target in targets {
        target.kill().unwrap();
        target.wait().unwrap();
        assert_eq!(world.closed(target.id()).report.signal, Some(9));
    }
}

/// This many processes, one after another.
fn storm(world: &World, count: u32) {
    let script = format!("i=0; while [ $i -lt {count} ]; do (:); i=$((i+1)); done");
    let status = Command::new("sh")
        .args(["-c", &script])
        .current_dir(world.path(""))
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_governor_that_gets_its_programs_back_takes_the_jobs_up_again() {
    let mut world = World::idle(Options {
        rule: RULE.to_owned(),
        ..Options::default()
    });
    let configured = std::fs::read_to_string(world.path("governor.yaml")).unwrap();
    std::fs::write(
        world.path("governor.yaml"),
        format!("{configured}\ntier: connector\n"),
    )
    .unwrap();
    world.start();
    let mut child = world.workload.spawn(&["sleep-us", "60000000"]);
    assert_eq!(world.job(child.id()).report.tier, "connector");
    for (tier, text) in [
        ("kernel", configured.clone()),
        ("scan", format!("{configured}\ntier: scan\n")),
    ] {
        world.stop(Signal::SIGTERM);
        std::fs::write(world.path("governor.yaml"), text).unwrap();
        world.start();
        let jobs = eventually("the job to be taken up", || {
            let jobs = world.jobs();
            jobs.iter()
                .any(|job| job.report.pid == child.id())
                .then_some(jobs)
        });
        let own: Vec<_> = jobs.iter().filter(|job| job.report.pid == child.id()).collect();
        assert_eq!(own.len(), 1, "{tier}: {own:?}");
        assert_ne!(own[0].state, "closed", "{tier}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let records = world
        .jobs()
        .iter()
        .filter(|job| job.report.pid == child.id())
        .count();
    assert_eq!(records, 1);
    world.closed(child.id());
}

/// Boot-time clock, ns.
fn boot_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}

#[test]
fn the_first_decision_comes_soon_after_the_start() {
    // A process that matches before the governor runs: its placement is the first decision. A new governor judges again
    // only what it does not know, so each round has a process of its own.
    let mut world = World::idle(Options {
        pinned: true,
        rule: RULE.to_owned(),
        ..Options::default()
    });
    world.start();
    let mut figures = Vec::new();
    for _ in 0..5 {
        world.stop(Signal::SIGKILL);
        let mut child = world.workload.spawn(&["sleep-us", "60000000"]);
        let began = boot_ns();
        world.start();
        let view = world.job(child.id());
        // The time from the exec to the placement, from which the time before our start is taken off.
        let waited = began.saturating_sub(view.key.0.start) / 1_000;
        let placed = view.report.placement.placed_in_us.expect("placed");
        figures.push(placed.saturating_sub(waited) / 1_000);
        child.kill().unwrap();
        child.wait().unwrap();
        world.closed(child.id());
    }
    figures.sort_unstable();
    println!("start of the governor to its first placement: {figures:?} ms");
    assert!(figures[0] < 5_000, "{figures:?}");
}
