//! Moves by others: noticed at once, recorded, and undone where the rule says so, but not for ever.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use ffrtmp_governor::control::types::{Explain, JobView};
use ffrtmp_tests::machine::{emulated, groups_of};
use ffrtmp_tests::{Options, World, eventually};

fn restoring() -> World {
    World::with(Options {
        rule: "on_foreign_move: restore\nlimits: {cpu_quota: 50, pids_max: 50}".to_owned(),
        ..Options::default()
    })
}

/// Where our tree hangs, for each group of the job: a place outside it.
fn away(job: &JobView) -> Vec<PathBuf> {
    let outside = |group: &String| {
        let slice = Path::new(group)
            .ancestors()
            .find(|dir| dir.ends_with("ffrtmp.slice"));
        slice.unwrap().parent().unwrap().to_owned()
    };
    job.report.placement.groups.iter().map(outside).collect()
}

fn put(pid: u32, dir: &Path) {
    std::fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
}

fn end(world: &World, mut child: Child) -> JobView {
    child.kill().unwrap();
    child.wait().unwrap();
    world.closed(child.id())
}

fn now(world: &World, job: &JobView) -> JobView {
    world.jobs().into_iter().find(|view| view.key == job.key).unwrap()
}

/// Processes in the job's first group.
fn members(job: &JobView) -> Vec<u32> {
    let procs = Path::new(&job.report.placement.groups[0]).join("cgroup.procs");
    let text = std::fs::read_to_string(procs).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Ends the job's first process and its children, which are all in its group.
fn end_all(world: &World, child: Child, job: &JobView) {
    for pid in members(job).into_iter().filter(|pid| *pid != child.id()) {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    end(world, child);
}

#[test]
fn a_foreign_move_is_noticed_within_a_millisecond() {
    let world = World::new();
    let mut late: Vec<u64> = Vec::new();
    for _ in 0..5 {
        // A child stays behind: an empty group is anybody's to remove.
        let child = world.workload.spawn(&["fork", "1", "sleep-us", "60000000"]);
        let job = world.job(child.id());
        eventually("two processes", || (members(&job).len() == 2).then_some(()));
        let (away, group) = (away(&job), PathBuf::from(&job.report.placement.groups[0]));
        for _ in 0..10 {
            for dir in [&away[0], &group] {
                put(child.id(), dir);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let output = world.output(&["explain", &child.id().to_string(), "--output", "json"]);
        let explain: Explain = serde_json::from_slice(&output.stdout).unwrap();
        let told = explain.steps.iter().filter_map(|step| {
            let (_, rest) = step.what.split_once("noticed after ")?;
            rest.strip_suffix(" µs")?.parse::<u64>().ok()
        });
        let before = late.len();
        late.extend(told);
        assert_eq!(late.len() - before, 20, "{:#?}", explain.steps);
        end_all(&world, child, &job);
    }
    late.sort_unstable();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!(
        "{} moves noticed after p50 {} µs, p90 {} µs, p99 {} µs, max {} µs",
        late.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
    // Emulated seconds mean nothing, but even there nobody polls.
    let bound = if emulated() { 100_000 } else { 1_000 };
    assert!(at(90) < bound, "p90 {} µs", at(90));
}

#[test]
fn an_accepted_move_takes_the_lost_limits_off_the_report() {
    let world = World::with(Options {
        rule: "limits: {cpu_quota: 50, nice: 3}".to_owned(),
        ..Options::default()
    });
    let child = world.workload.spawn(&["sleep-us", "60000000"]);
    let job = world.job(child.id());
    for dir in away(&job) {
        put(child.id(), &dir);
    }
    let limits = eventually("the quota to be off the list", || {
        let limits = now(&world, &job).report.limits;
        (!limits.applied.iter().any(|one| one.limit == "cpu_max")).then_some(limits)
    });
    assert!(limits.applied.iter().any(|one| one.limit == "nice"), "{limits:?}");
    let mover = format!(
        "cpu_max is not enforced: pid {} moved the process out of the group",
        std::process::id()
    );
    assert!(limits.warnings.contains(&mover), "{:?}", limits.warnings);
    assert!(
        !groups_of(child.id()).contains("ffrtmp.slice"),
        "it was left where it is"
    );
    end(&world, child);
}

#[test]
fn a_rule_that_restores_brings_a_job_and_its_children_back() {
    let world = restoring();
    let child = world.workload.spawn(&["fork", "3", "sleep-us", "60000000"]);
    let job = world.job(child.id());
    let group = PathBuf::from(&job.report.placement.groups[0]);
    let members = || -> Vec<u32> {
        let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let all = eventually("four processes", || Some(members()).filter(|all| all.len() == 4));
    let home = groups_of(child.id());
    for pid in &all {
        for dir in away(&job) {
            put(*pid, &dir);
        }
        eventually("everybody to be back", || {
            all.iter().all(|pid| groups_of(*pid) == home).then_some(())
        });
    }
    let limits = now(&world, &job).report.limits;
    for limit in ["cpu_max", "pids_max"] {
        assert!(limits.applied.iter().any(|one| one.limit == limit), "{limits:#?}");
    }
    assert!(
        limits
            .warnings
            .iter()
            .any(|text| text.contains("it is in the job's group again")),
        "{limits:#?}"
    );
    end_all(&world, child, &job);
}

#[test]
fn two_managers_that_insist_come_to_rest() {
    let world = restoring();
    let child = world.workload.spawn(&["sleep-us", "60000000"]);
    let job = world.job(child.id());
    let (home, dir) = (groups_of(child.id()), &away(&job)[0]);
    let given_in = |job: &JobView| {
        let keeps = |text: &&String| text.contains("keeps moving");
        job.report.limits.warnings.iter().find(keeps).cloned()
    };
    let mut restored = 0;
    let warning = eventually("one of the two to give in", || {
        put(child.id(), dir);
        let job = now(&world, &job);
        restored += u32::from(groups_of(child.id()) == home);
        given_in(&job)
    });
    assert!(warning.contains(&std::process::id().to_string()), "{warning}");
    assert!((1..=5).contains(&restored), "brought back {restored} times");
    std::thread::sleep(Duration::from_millis(300));
    assert_ne!(groups_of(child.id()), home, "the move is accepted in the end");
    end(&world, child);
}

#[test]
fn a_group_that_the_workload_makes_inside_its_own_is_no_flight() {
    let world = restoring();
    let child = world.workload.spawn(&["sleep-us", "60000000"]);
    let job = world.job(child.id());
    let inner = Path::new(&job.report.placement.groups[0]).join("inner");
    std::fs::create_dir(&inner).unwrap();
    put(child.id(), &inner);
    eventually("the move to be looked into", || {
        let limits = now(&world, &job).report.limits;
        limits
            .warnings
            .iter()
            .any(|text| text.contains("moved pid"))
            .then_some(())
    });
    assert!(groups_of(child.id()).contains("/inner"), "nobody dragged it out");
    let report = now(&world, &job).report;
    assert!(report.limits.applied.iter().any(|one| one.limit == "cpu_max"));
    end(&world, child);
    eventually("the inner group to go with the job", || {
        (!inner.exists()).then_some(())
    });
}
