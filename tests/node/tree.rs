//! The tree of groups through restarts, freezes and threads: what is ours goes when it is empty, and never earlier.

use std::path::{Path, PathBuf};
use std::process::Child;

use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::machine::{cgroup2, groups_of};
use ffrtmp_tests::{Options, World, eventually};
use nix::sys::signal::Signal;

fn end(world: &World, child: &mut Child) -> JobView {
    child.kill().unwrap();
    child.wait().unwrap();
    world.closed(child.id())
}

fn nice_of(pid: u32) -> i32 {
    // SAFETY: reads one integer.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, pid) }
}

fn exists(group: &String) -> bool {
    Path::new(group).exists()
}

/// A cgroup2 group of this test's own, removed when it is dropped.
pub(crate) struct Group(pub(crate) PathBuf);

impl Group {
    pub(crate) fn new(name: &str) -> Self {
        let dir = cgroup2().join(format!("ffrtmp-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn write(&self, file: &str, value: &str) {
        std::fs::write(self.0.join(file), value).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _thawed = std::fs::write(self.0.join("cgroup.freeze"), "0");
        eventually("the test's own group to be empty", || {
            std::fs::remove_dir(&self.0).ok()
        });
    }
}

#[test]
fn a_job_of_an_earlier_governor_is_released_to_where_it_came_from() {
    for placement in ["place", "in-place"] {
        let mut world = World::with(Options {
            rule: format!("placement: {placement}\nlimits: {{nice: 7, cpu_quota: 50, io_priority: idle}}"),
            ..Options::default()
        });
        let mut child = world.workload.spawn(&["sleep-us", "60000000"]);
        let own = groups_of(std::process::id());
        let job = world.job(child.id());
        assert_eq!(nice_of(child.id()), 7, "{job:#?}");
        let groups = job.report.placement.groups.clone();
        assert_eq!(groups.is_empty(), placement == "in-place");
        world.stop(Signal::SIGKILL);
        assert!(groups.iter().all(exists), "limits outlive their governor");
        world.start();
        let again = world.job(child.id());
        assert_eq!((again.key, again.origin), (job.key, job.origin.clone()));
        assert!(job.origin.is_some());
        let output = world.output(&["release", &child.id().to_string()]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(groups_of(child.id()), own, "{placement}: {}", world.log());
        assert_eq!(nice_of(child.id()), 0);
        assert!(!groups.iter().any(exists), "{groups:?} are left behind");
        end(&world, &mut child);
    }
}

#[test]
fn what_a_dead_governor_left_goes_when_it_is_empty_and_not_before() {
    let mut world = World::new();
    let target = world.path("stranger");
    std::fs::copy(world.workload.path(), &target).unwrap();
    let mut stranger = std::process::Command::new(&target)
        .args(["sleep-us", "60000000"])
        .spawn()
        .unwrap();
    let pid = stranger.id().to_string();
    let mut attach = world.ffrtmp(&["attach", "--pid", &pid, "--cpu-quota", "50"]);
    let mut attach = attach.stderr(std::process::Stdio::null()).spawn().unwrap();
    let groups = eventually("the stranger's group", || {
        let job = world
            .jobs()
            .into_iter()
            .find(|job| job.report.pid == stranger.id())?;
        Some(job.report.placement.groups).filter(|groups| !groups.is_empty())
    });
    attach.kill().unwrap();
    attach.wait().unwrap();
    world.stop(Signal::SIGKILL);
    // Nobody knows of the job any more: no rule names it, and its record is lost. A second group is empty.
    for file in ["governor.db", "governor.db-wal", "governor.db-shm"] {
        let _absent = std::fs::remove_file(world.path(file));
    }
    let empty: Vec<PathBuf> = groups
        .iter()
        .map(|group| Path::new(group).with_file_name("ghost"))
        .collect();
    for dir in &empty {
        std::fs::create_dir(dir).unwrap();
    }
    world.start();
    assert!(
        !empty.iter().any(|dir| dir.exists()),
        "empty groups go at the start"
    );
    assert!(groups.iter().all(exists), "a group in use stays");
    assert!(
        groups_of(stranger.id()).contains("ffrtmp.slice"),
        "and nobody moved its process"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    eventually("the group to go with its last process", || {
        (!groups.iter().any(exists)).then_some(())
    });
}

#[test]
fn a_frozen_process_stays_frozen_until_somebody_thaws_it() {
    let mut world = World::idle(Options {
        rule: "limits: {cpu_quota: 50}".to_owned(),
        ..Options::default()
    });
    let group = Group::new("frozen");
    let mut child = world.workload.spawn(&["sleep-us", "60000000"]);
    group.write("cgroup.procs", &child.id().to_string());
    group.write("cgroup.freeze", "1");
    let events = || std::fs::read_to_string(group.0.join("cgroup.events")).unwrap();
    eventually("the group to freeze", || {
        events().contains("frozen 1").then_some(())
    });
    world.start();
    let job = world.job(child.id());
    let why = job.report.placement.not_placed.clone().unwrap();
    assert!(why.contains("sits in the frozen group"), "{why}");
    assert!(
        groups_of(child.id()).contains("ffrtmp-test-frozen"),
        "it was not moved"
    );
    assert!(events().contains("populated 1\nfrozen 1"), "{}", events());
    group.write("cgroup.freeze", "0");
    // Placements that failed are tried again.
    let placed = eventually("the placement after the thaw", || {
        world
            .jobs()
            .into_iter()
            .find(|view| view.key == job.key && view.state == "governed")
    });
    assert!(
        placed
            .report
            .limits
            .applied
            .iter()
            .any(|one| one.limit == "cpu_max"),
        "{placed:#?}"
    );
    end(&world, &mut child);
}

#[test]
fn a_job_that_somebody_freezes_is_followed_to_its_end() {
    let world = World::new();
    let mut child = world.workload.spawn(&["sleep-us", "60000000"]);
    let job = world.job(child.id());
    let freeze = Path::new(&job.report.placement.groups[0]).join("cgroup.freeze");
    std::fs::write(&freeze, "1").unwrap();
    let closed = end(&world, &mut child);
    assert_eq!(closed.report.signal, Some(9));
    assert!(!job.report.placement.groups.iter().any(exists));
}

#[test]
fn a_threaded_group_inside_a_job_hinders_neither_restart_nor_clean_up() {
    let mut world = World::new();
    let mut child = world.workload.spawn(&["sleep-us", "60000000"]);
    let job = world.job(child.id());
    let inner = Path::new(&job.report.placement.groups[0]).join("threads");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("cgroup.type"), "threaded").unwrap();
    std::fs::write(inner.join("cgroup.threads"), child.id().to_string()).unwrap();
    let refused = std::fs::read_to_string(inner.join("cgroup.procs")).unwrap_err();
    assert_eq!(
        refused.raw_os_error(),
        Some(libc::EOPNOTSUPP),
        "this is a threaded group"
    );
    world.stop(Signal::SIGKILL);
    world.start();
    assert_eq!(world.job(child.id()).key, job.key);
    assert!(groups_of(child.id()).contains("ffrtmp.slice"));
    let closed = end(&world, &mut child);
    assert_eq!(closed.report.signal, Some(9));
    assert!(
        !inner.exists() && !job.report.placement.groups.iter().any(exists),
        "{:?}",
        closed.report
    );
}
