//! Processes that ran before the governor did, and governors that go and come.

use ffrtmp_governor::core::facts::Found;
use ffrtmp_tests::machine::emulated;
use ffrtmp_tests::{Options, World, eventually};
use nix::sys::signal::Signal;

#[test]
fn a_process_that_runs_already_is_adopted_with_its_children() {
    let mut world = World::idle(Options::default());
    // Long enough to be there when the governor comes.
    let life = if emulated() { "25000000" } else { "6000000" };
    let mut child = world
        .workload
        .spawn(&["fork", "2", "sleep-us", life, "exit", "3"]);
    let pid = child.id();
    eventually("two children", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        (children.split_whitespace().count() == 2).then_some(())
    });
    world.start();
    let job = world.job(child.id());
    assert_eq!(job.found, Found::Adopted);
    assert_eq!(job.live, 3, "{job:#?}");
    assert_eq!(job.report.command.as_ref().unwrap()[1], "fork");
    child.wait().unwrap();
    assert_eq!(world.closed(child.id()).report.exit_code, Some(0));
}

#[test]
fn a_killed_governor_harms_no_workload_and_limits_stay() {
    let mut world = World::with(Options {
        rule: "limits: {cpu_quota: 50}".to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "60000000"]);
    let job = world.job(child.id());
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        world.stop(signal);
        assert!(
            child.try_wait().unwrap().is_none(),
            "{signal} on the governor ended the workload"
        );
        assert!(std::path::Path::new(&job.report.placement.groups[0]).exists());
        world.start();
        let again = world.job(child.id());
        assert_eq!(again.report.pid, child.id());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.closed(child.id()).report.signal, Some(9));
}

#[test]
fn reload_takes_new_rules_and_refuses_bad_ones() {
    let world = World::new();
    let other = ffrtmp_tests::Workload::new(world.path("").as_path(), &ffrtmp_tests::unique_name("later"));
    let name = other.path().file_name().unwrap().to_string_lossy().into_owned();
    let mut child = other.spawn(&["sleep-us", "60000000"]);
    let file = world.path("governor.yaml");
    let hangup = || {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(world.governor_pid().cast_signed()),
            Signal::SIGHUP,
        )
        .unwrap();
    };

    std::fs::write(&file, "rules:\n  - name: broken\n    matsch: {}\n").unwrap();
    hangup();
    eventually("the log to name line and column", || {
        world.log().contains("governor.yaml:3:5").then_some(())
    });

    let good = format!("rules:\n  - name: new\n    commands: [{name}]\n");
    std::fs::write(&file, good).unwrap();
    hangup();
    let job = world.job(child.id());
    assert_eq!(job.report.rule.as_deref(), Some("new"));
    child.kill().unwrap();
    child.wait().unwrap();
    world.closed(child.id());
}
