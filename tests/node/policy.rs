//! The node's policy on the real kernel: the reserve by its effect, pressure rules by what the kernel announces, and
//! everything given back.
//!
//! Each world has a base of its own, so that its ceilings bind nobody else's jobs.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use ffrtmp_governor::control::types::PolicyStatus;
use ffrtmp_tests::{Base, Options, Workload, World, eventually, unique_name};
use nix::sys::signal::Signal;

/// A world whose groups are made below a base of its own.
fn world(base: &Base, rule: &str, config: &str) -> World {
    World::with(Options {
        rule: rule.to_owned(),
        config: format!("{config}\ncgroup: {{base: {}}}", base.name()),
        ..Options::default()
    })
}

fn policy(world: &World) -> PolicyStatus {
    let output = world.output(&["doctor", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(report["status"]["policy"].clone()).unwrap()
}

/// Which CPU file limits a group, where it is, and how it reads.
fn cpu_limit(base: &Base, below: &str) -> Option<(PathBuf, String)> {
    ["cpu.max", "cpu.cfs_quota_us"].into_iter().find_map(|file| {
        let dirs = base.dirs().into_iter();
        let path = dirs
            .map(|dir| dir.join(below).join(file))
            .find(|path| path.exists())?;
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path, text.trim().to_owned()))
    })
}

/// Quota as a share of one CPU; `None` for no limit.
fn quota(base: &Base, below: &str) -> Option<f64> {
    let (_, text) = cpu_limit(base, below)?;
    text.split(' ')
        .next()?
        .parse::<f64>()
        .ok()
        .filter(|quota| *quota > 0.0)
        .map(|quota| quota / 100_000.0)
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn cpu_seconds(world: &World, pid: u32) -> f64 {
    let jobs = world.jobs();
    let job = jobs.iter().find(|job| job.report.pid == pid).unwrap();
    job.report.usage.cpu_sec.unwrap()
}

fn cpus() -> f64 {
    std::thread::available_parallelism().unwrap().get() as f64
}

#[test]
fn promises_beyond_the_machine_are_logged_at_load_and_shown_by_doctor() {
    let base = Base::new();
    let world = world(&base, "limits: {cpu_quota: 102400, memory_limit: 1TiB}", "");
    let log = world.log();
    assert!(
        log.contains("CPU quotas of the rules add up to 102400 %"),
        "{log}"
    );
    assert!(
        log.contains("memory limits of the rules add up to 1048576 MiB"),
        "{log}"
    );
    assert_eq!(policy(&world).overcommit.len(), 2);
    let doctor = String::from_utf8(world.output(&["doctor"]).stdout).unwrap();
    assert!(
        doctor.contains("overcommit") && doctor.contains("102400 %"),
        "{doctor}"
    );
}

#[test]
fn a_reserve_holds_all_jobs_together_below_what_is_left() {
    let base = Base::new();
    // A quarter of a CPU is left for all jobs.
    let reserve = format!("reserve_cpus: {}\nreserve_memory: 256MiB", cpus() - 0.25);
    // The rule asks for no CPU limit: on v1 its jobs join that hierarchy for the reserve alone.
    let world = world(&base, "limits: {nice: 1}", &reserve);
    let state = policy(&world).reserve;
    assert!(state.iter().all(|line| line.in_force), "{state:?}");
    assert_eq!(quota(&base, "ffrtmp.slice"), Some(0.25));
    let burners: Vec<Child> = (0..2)
        .map(|_| world.workload.spawn(&["burn-ms", "60000"]))
        .collect();
    for child in &burners {
        world.job(child.id());
    }
    let sum = || {
        burners
            .iter()
            .map(|child| cpu_seconds(&world, child.id()))
            .sum::<f64>()
    };
    let (from, before) = (Instant::now(), sum());
    std::thread::sleep(Duration::from_secs(3));
    let share = (sum() - before) / from.elapsed().as_secs_f64();
    assert!(share < 0.32, "all jobs together got {share} of a CPU");
    assert!(
        share > 0.05,
        "the jobs got {share} of a CPU, which proves nothing"
    );
    burners.into_iter().for_each(end);
}

#[test]
fn a_reserve_is_given_back_when_the_governor_stops_unless_jobs_live_or_somebody_changed_it() {
    let base = Base::new();
    let mut world = world(&base, "", "reserve_cpus: 0.5");
    // Somebody else's process keeps the slice where it is.
    let keeper =
        Workload::new(world.workload.path().parent().unwrap(), "keeper").spawn(&["sleep-us", "60000000"]);
    for dir in base.dirs() {
        let foreign = dir.join("ffrtmp.slice/foreign");
        if std::fs::create_dir(&foreign).is_ok() {
            std::fs::write(foreign.join("cgroup.procs"), keeper.id().to_string()).unwrap();
        }
    }
    let held = quota(&base, "ffrtmp.slice");
    assert_eq!(held, Some(cpus() - 0.5));
    world.stop(Signal::SIGTERM);
    assert!(cpu_limit(&base, "ffrtmp.slice").is_some());
    assert_eq!(quota(&base, "ffrtmp.slice"), None, "given back");
    assert!(!world.path("governor.ceilings.json").exists());

    world.start();
    let child = world.workload.spawn(&["sleep-us", "60000000"]);
    world.job(child.id());
    world.stop(Signal::SIGTERM);
    assert_eq!(
        quota(&base, "ffrtmp.slice"),
        held,
        "a job lives, so the reserve stays"
    );
    world.start();
    end(child);
    eventually("the slice to empty", || {
        world
            .jobs()
            .iter()
            .all(|job| job.live == 0 && job.state == "closed")
            .then_some(())
    });
    let (path, _) = cpu_limit(&base, "ffrtmp.slice").unwrap();
    let other = if path.ends_with("cpu.max") {
        "70000 100000"
    } else {
        "70000"
    };
    std::fs::write(&path, other).unwrap();
    world.stop(Signal::SIGTERM);
    assert_eq!(
        quota(&base, "ffrtmp.slice"),
        Some(0.7),
        "somebody else's value stays"
    );
    assert!(
        world.log().contains("set to that by somebody else"),
        "{}",
        world.log()
    );
    end(keeper);
}

/// A live class that stalls because a batch class takes all CPUs, and rules that lower the latter.
struct Contest {
    world: World,
    batch: Workload,
}

impl Contest {
    fn new(base: &Base, restore: &str) -> Self {
        let name = unique_name("ffmpeg-batch");
        let config = format!(
            "  - {{name: batch, commands: [{name}], class: batch, limits: {{cpu_quota: 150}}}}\npressure:\n  - name: \
             protect-live\n    watch: {{class: live, resource: cpu, stall: 50ms, window: 1s}}\n    lower: {{class: \
             batch, cpu_quota: 20, cpu_weight: 10}}\n    restore_after: {restore}"
        );
        let world = world(base, "class: live", &config);
        let batch = Workload::new(world.workload.path().parent().unwrap(), &name);
        Self { world, batch }
    }

    /// More spinning threads than CPUs on either side. Gives the live and the batch processes.
    fn stall(&self) -> (Vec<Child>, Vec<Child>) {
        let spin = |workload: &Workload, count: usize| -> Vec<Child> {
            (0..count)
                .map(|_| workload.spawn(&["burn-ms", "120000"]))
                .collect()
        };
        let count = std::thread::available_parallelism().unwrap().get() + 1;
        let children = (spin(&self.world.workload, 2), spin(&self.batch, count));
        for child in children.0.iter().chain(&children.1) {
            self.world.job(child.id());
        }
        children
    }

    fn lowered(&self, lowered: bool) {
        eventually(&format!("lowered: {lowered}; log: {}", self.world.log()), || {
            let state = policy(&self.world).pressure;
            (state[0].lowered == lowered).then_some(())
        });
    }
}

fn has_class_pressure() -> bool {
    Path::new("/proc/pressure/cpu").exists()
}

#[test]
fn a_stalling_class_lowers_the_other_until_it_has_been_calm() {
    let base = Base::new();
    let contest = Contest::new(&base, "2s");
    if !has_class_pressure() {
        let state = policy(&contest.world).pressure;
        let trigger = state[0].trigger.clone().unwrap();
        assert!(!trigger.in_force && trigger.text.contains("psi=1"), "{trigger:?}");
        assert!(contest.world.log().contains("psi=1"));
        return;
    }
    let trigger = policy(&contest.world).pressure[0].trigger.clone().unwrap();
    assert!(trigger.in_force, "{trigger:?}");
    let (live, batch) = contest.stall();
    contest.lowered(true);
    assert_eq!(quota(&base, "ffrtmp.slice/batch"), Some(0.2));
    let table = String::from_utf8(contest.world.output(&["ps"]).stderr).unwrap();
    assert!(table.contains("batch is lowered"), "{table}");
    let state = policy(&contest.world).pressure[0].clone();
    assert_eq!(state.warnings, [""; 0]);
    assert!(
        state.applied.iter().any(|limit| limit.limit == "cpu_max"),
        "{state:?}"
    );
    // What it is for: the batch class gets a fifth of a CPU, whatever it asks.
    let sum = || {
        batch
            .iter()
            .map(|child| cpu_seconds(&contest.world, child.id()))
            .sum::<f64>()
    };
    let (from, before) = (Instant::now(), sum());
    std::thread::sleep(Duration::from_secs(2));
    let share = (sum() - before) / from.elapsed().as_secs_f64();
    assert!(share < 0.28, "the lowered class got {share} of a CPU");
    live.into_iter().for_each(end);
    contest.lowered(false);
    assert_eq!(quota(&base, "ffrtmp.slice/batch"), None, "lifted");
    let job = &contest.world.job(batch[0].id()).report;
    let group = job.placement.groups.iter().find_map(|group| {
        let below = group.split_once("ffrtmp.slice/")?.1;
        quota(&base, &format!("ffrtmp.slice/{below}"))
    });
    assert_eq!(group, Some(1.5), "each job has the quota of its rule again");
    batch.into_iter().for_each(end);
}

#[test]
fn a_class_that_a_killed_governor_lowered_is_lifted_by_the_next() {
    if !has_class_pressure() {
        return;
    }
    let base = Base::new();
    let mut contest = Contest::new(&base, "10m");
    let (live, batch) = contest.stall();
    contest.lowered(true);
    live.into_iter().for_each(end);
    contest.world.stop(Signal::SIGKILL);
    assert_eq!(
        quota(&base, "ffrtmp.slice/batch"),
        Some(0.2),
        "nobody was there to lift it"
    );
    contest.world.start();
    assert_eq!(quota(&base, "ffrtmp.slice/batch"), None);
    assert!(contest.world.log().contains("of an earlier governor"));
    // And a stop lifts what it lowered itself: nobody would do it later.
    let more = contest.world.workload.spawn(&["burn-ms", "120000"]);
    contest.lowered(true);
    contest.world.stop(Signal::SIGTERM);
    assert_eq!(quota(&base, "ffrtmp.slice/batch"), None);
    end(more);
    batch.into_iter().for_each(end);
    contest.world.start();
    contest.world.stop(Signal::SIGTERM);
}
