//! Groups made ahead of need: a job that is found takes one that is ready, under its limits; one that is asked for by hand gets
//! its own; none outlives the governor.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ffrtmp_tests::{Options, World, eventually};
use nix::sys::signal::Signal;

const RULE: &str = "class: spare-test\nlimits: {cpu_quota: 40, memory_limit: 128}";

/// The last part of each of the job's groups, once.
fn names(groups: &[String]) -> BTreeSet<String> {
    let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    groups.iter().map(last).collect()
}

/// The directory of the class that the job is in.
fn class_dir(groups: &[String]) -> PathBuf {
    Path::new(&groups[0]).parent().unwrap().to_owned()
}

/// Groups below the class.
fn below(class: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(class).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn jobs_that_are_found_take_spares_under_their_limits_each_once() {
    let mut world = World::with(Options {
        rule: RULE.to_owned(),
        config: "spares: 3".to_owned(),
        ..Options::default()
    });
    let mut used = BTreeSet::new();
    let mut class = PathBuf::new();
    // On a busy machine a job may come before its spare is ready; then its group is made on the spot and has its name.
    eventually("three jobs in spares", || {
        let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
        let job = world.job(child.id());
        let groups = &job.report.placement.groups;
        let name = names(groups);
        assert_eq!(name.len(), 1, "one name in every hierarchy: {groups:?}");
        let name = name.into_iter().next().unwrap();
        class = class_dir(groups);
        for limit in ["cpu_max", "memory_max"] {
            let applied = &job.report.limits.applied;
            let outcome = applied.iter().find(|one| one.limit == limit);
            let target = &outcome
                .unwrap_or_else(|| panic!("{limit}: {:#?}", job.report))
                .target;
            assert!(
                groups.iter().any(|group| target.starts_with(group.as_str())),
                "{target}"
            );
        }
        let ready = || (below(&class).len() == 4).then_some(());
        eventually("the spare to be replaced: one in use and three ready", ready);
        child.kill().unwrap();
        child.wait().unwrap();
        world.closed(child.id());
        if name != job.report.job_id.to_string() {
            let number = name.strip_prefix('s').and_then(|rest| rest.split('-').next());
            assert!(
                number.is_some_and(|number| number.parse::<u32>().is_ok()),
                "{groups:?}"
            );
            assert!(used.insert(name), "{groups:?} was used before");
        }
        (used.len() == 3).then_some(())
    });
    let left = below(&class);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.is_disjoint(&used), "{left:?} {used:?}");
    world.stop(Signal::SIGTERM);
    assert!(
        !class.exists(),
        "spares outlive the governor: {:?}",
        below(&class)
    );
}

#[test]
fn spares_of_a_governor_that_was_killed_are_gone_with_the_next_one() {
    let mut world = World::with(Options {
        rule: RULE.to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    let groups = world.job(child.id()).report.placement.groups;
    let class = class_dir(&groups);
    eventually("four spares beside the job", || {
        (below(&class).len() == 5).then_some(())
    });
    world.stop(Signal::SIGKILL);
    world.start();
    let job = world.job(child.id());
    assert_eq!(job.report.placement.groups, groups, "the job stays where it is");
    eventually("four new spares, and no old one", || {
        (below(&class).len() == 5).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    world.closed(child.id());
    world.stop(Signal::SIGTERM);
    assert!(!class.exists(), "{:?}", below(&class));
}

#[test]
fn without_spares_and_by_hand_the_group_has_the_jobs_name() {
    let world = World::with(Options {
        rule: RULE.to_owned(),
        config: "spares: 0".to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    let job = world.job(child.id());
    let id = job.report.job_id.to_string();
    assert_eq!(names(&job.report.placement.groups), BTreeSet::from([id]));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_change_of_rules_takes_the_old_spares_away() {
    let world = World::with(Options {
        rule: RULE.to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    let old = class_dir(&world.job(child.id()).report.placement.groups);
    let file = world.path("governor.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("spare-test", "spare-other")).unwrap();
    world.signal(Signal::SIGHUP);
    let new = old.with_file_name("spare-other");
    eventually("spares of the new class", || {
        (below(&new).len() == 4).then_some(())
    });
    assert_eq!(below(&old).len(), 1, "only the job is left: {:?}", below(&old));
    child.kill().unwrap();
    child.wait().unwrap();
}
