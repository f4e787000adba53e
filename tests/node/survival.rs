//! What the kernel's side keeps while no governor runs: every life, its arguments and its end, told once by the next one.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::{Options, Workload, World, eventually};
use nix::sys::signal::Signal;

use crate::events::following;

pub(crate) fn pinned(rule: &str) -> Options {
    Options {
        pinned: true,
        rule: rule.to_owned(),
        ..Options::default()
    }
}

/// The number that a scripted life was given as its argument.
pub(crate) fn scripted(argv: &[String]) -> Option<usize> {
    (argv.get(1)? == "--id").then(|| argv.get(2)?.parse().ok())?
}

/// Closed records by the number in their arguments. Fails when one is there twice.
pub(crate) fn by_number(
    world: &World,
    number_of: impl Fn(&[String]) -> Option<usize>,
) -> BTreeMap<usize, JobView> {
    let ledger = rusqlite::Connection::open_with_flags(
        world.path("governor.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    let mut query = ledger.prepare("SELECT view FROM jobs WHERE closed = 1").unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut lives = BTreeMap::new();
    for row in rows {
        let view: JobView = serde_json::from_str(&row.unwrap()).unwrap();
        let argv = view.report.command.as_deref();
        if let Some(number) = argv.and_then(&number_of) {
            assert!(
                lives.insert(number, view).is_none(),
                "life {number} has two records"
            );
        }
    }
    lives
}

/// Starts a life that ends with a code of its own, as [`check`] expects it.
pub(crate) fn life(workload: &Workload, number: usize) -> Child {
    let (id, code) = (number.to_string(), (number % 200).to_string());
    workload.spawn(&["--id", &id, "sleep-us", "500", "exit", &code])
}

/// Every number below `total` has one record, and none has two.
pub(crate) fn all_recorded(
    world: &World,
    total: usize,
    number_of: impl Fn(&[String]) -> Option<usize>,
) -> BTreeMap<usize, JobView> {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let mut lives = by_number(world, &number_of);
    while lives.len() < total && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        lives = by_number(world, &number_of);
    }
    let missing: Vec<_> = (0..total).filter(|number| !lives.contains_key(number)).collect();
    assert!(
        missing.is_empty(),
        "of {total} lives these have no record with arguments: {missing:?}"
    );
    lives
}

/// Every scripted life below `total` has one record that tells its own code.
pub(crate) fn check(world: &World, total: usize) {
    for (number, view) in all_recorded(world, total, scripted) {
        assert_eq!(
            view.report.exit_code,
            Some((number % 200) as i32),
            "life {number}"
        );
    }
}

#[test]
fn what_happens_while_no_governor_runs_is_recorded_once() {
    let mut world = World::with(pinned("limits: {cpu_quota: 50}"));
    let mut staying = world.workload.spawn(&["sleep-us", "120000000"]);
    let mut leaving = world.workload.spawn(&["sleep-us", "120000000"]);
    let groups = world.job(staying.id()).report.placement.groups;
    world.job(leaving.id());
    world.stop(Signal::SIGKILL);
    for number in 0..200 {
        life(&world.workload, number).wait().unwrap();
    }
    leaving.kill().unwrap();
    leaving.wait().unwrap();
    world.start();
    check(&world, 200);
    let ended = world.closed(leaving.id()).report;
    assert_eq!(ended.signal, Some(9), "{ended:#?}");
    assert!(ended.killed_by.is_some(), "{ended:#?}");
    let job = world.job(staying.id());
    assert_eq!(
        (job.state.as_str(), &job.report.placement.groups),
        ("governed", &groups)
    );
    // Nothing is told a second time.
    let stored = world.jobs().len();
    world.stop(Signal::SIGTERM);
    world.start();
    check(&world, 200);
    assert_eq!(world.jobs().iter().filter(|job| job.state != "closed").count(), 1);
    assert!(stored >= world.jobs().len());
    staying.kill().unwrap();
    staying.wait().unwrap();
    assert_eq!(world.closed(staying.id()).report.signal, Some(9));
}

#[test]
fn long_lived_targets_of_a_storm_are_placed_within_a_second_of_a_stalled_governors_return() {
    const STAYING: usize = 50;
    // Execs while the governor is stopped. A guest needs ten minutes for what the host does in half of one.
    let storm = if ffrtmp_tests::machine::emulated() {
        2_000
    } else {
        20_000
    };
    let world = World::with(pinned("limits: {cpu_quota: 50}"));
    world.signal(Signal::SIGSTOP);
    let governor = world.governor_pid().to_string();
    eventually("the governor to stop", || {
        ffrtmp_tests::machine::status_of(&governor, "State").filter(|state| state.starts_with('T'))
    });
    let mut staying = Vec::new();
    for number in 0..storm {
        if number % (storm / STAYING) == 0 {
            // Longer than a guest takes for a storm of any size: an hour.
            staying.push(world.workload.spawn(&["sleep-us", "3600000000"]));
        } else {
            world.workload.spawn(&["exit", "0"]).wait().unwrap();
        }
    }
    let outside = |child: &std::process::Child| {
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        !groups.contains("ffrtmp.slice")
    };
    assert!(staying.iter().all(outside), "somebody else placed them");
    let continued = std::time::Instant::now();
    world.signal(Signal::SIGCONT);
    while staying.iter().any(outside) && continued.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = continued.elapsed();
    println!("{STAYING} targets among {storm} execs placed {took:?} after SIGCONT");
    for child in &mut staying {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let patience = Duration::from_secs(if ffrtmp_tests::machine::emulated() { 60 } else { 1 });
    assert!(took < patience, "{took:?}; log: {}", world.log());
}

#[test]
fn cleanup_ends_the_programs_and_removes_pins_and_mount() {
    let mut world = World::with(pinned(""));
    let pins = world.path("bpf");
    let cleanup = |world: &World| {
        std::process::Command::new(ffrtmp_tests::bin("ffrtmp-governor"))
            .arg("--config")
            .arg(world.path("governor.yaml"))
            .arg("--socket")
            .arg(world.socket())
            .arg("--ledger")
            .arg(world.path("governor.db"))
            .arg("--cleanup")
            .output()
            .unwrap()
    };
    assert!(!cleanup(&world).status.success(), "a governor lives");
    world.stop(Signal::SIGKILL);
    assert!(
        std::fs::read_dir(&pins).unwrap().count() > 0,
        "the programs live on"
    );
    let said = cleanup(&world);
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}");
    assert!(text.contains("with all pinned programs"), "{text}");
    assert!(!pins.exists(), "{text}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*pins.to_string_lossy()), "{mounts}");
    assert!(!world.path("governor.unsaved").exists());
}

#[test]
fn an_upgrade_and_the_way_back_lose_and_double_nothing() {
    let mut world = World::with(pinned("limits: {cpu_quota: 50}"));
    let mut staying = world.workload.spawn(&["sleep-us", "6000000000"]);
    let groups = world.job(staying.id()).report.placement.groups;
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let workload = world.workload.clone();
    let plain = std::fs::read_to_string(world.path("governor.yaml")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                life(&workload, number).wait().unwrap();
            }
        });
        // Other sizes are another generation: maps are never shared with it.
        for round in 0..6_u64 {
            std::thread::sleep(Duration::from_millis(50 + round * 37));
            world.stop(if round % 3 == 2 {
                Signal::SIGTERM
            } else {
                Signal::SIGKILL
            });
            std::thread::sleep(Duration::from_millis(100));
            let records = if round % 2 == 0 { "records: 32768\n" } else { "" };
            std::fs::write(world.path("governor.yaml"), format!("{records}{plain}")).unwrap();
            world.start();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        world.log().matches("took over from the programs").count(),
        6,
        "{}",
        world.log()
    );
    check(&world, next.load(Ordering::Relaxed));
    // Other entries of a bpffs are the kernel's own iterators.
    let entries = std::fs::read_dir(world.path("bpf")).unwrap();
    let generations = entries
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .count();
    assert_eq!(generations, 1, "the old programs are gone");
    let job = world.job(staying.id());
    assert_eq!(
        (job.state.as_str(), &job.report.placement.groups),
        ("governed", &groups)
    );
    staying.kill().unwrap();
    staying.wait().unwrap();
    assert_eq!(world.closed(staying.id()).report.signal, Some(9));
}

#[test]
fn events_are_followed_as_json_lines_and_as_text() {
    let world = World::with(pinned(""));
    for format in ["json", "table"] {
        let follower = following(&world, &["--count", "4", "--output", format]);
        world.spawn_placed(&["exit", "7"]).wait().unwrap();
        let told = follower.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.status.success(), "{text}");
        let words = ["discovered", "placed", "exited", "closed"];
        assert_eq!(text.lines().count(), words.len(), "{text}");
        for (word, line) in words.into_iter().zip(text.lines()) {
            if format == "json" {
                let event: ffrtmp_governor::control::types::JobEvent = serde_json::from_str(line).unwrap();
                assert_eq!(event.what.word(), word, "{text}");
                assert!(event.job.report.pid > 0);
            } else {
                assert_eq!(line.split_whitespace().nth(1), Some(word), "{text}");
            }
        }
    }
}

#[test]
fn after_three_crashes_within_a_minute_the_governor_only_observes_until_told_otherwise() {
    let mut world = World::with(pinned("limits: {cpu_quota: 50}"));
    world.forgives = false;
    for _ in 0..3 {
        world.stop(Signal::SIGKILL);
        world.start();
    }
    let doctor = |world: &World| String::from_utf8(world.output(&["doctor"]).stdout).unwrap();
    assert!(
        doctor(&world).contains("crashed three times within a minute"),
        "{}",
        doctor(&world)
    );
    let mut observed = world.workload.spawn(&["sleep-us", "600000000"]);
    assert_eq!(world.job(observed.id()).state, "observed");
    assert!(!ffrtmp_tests::machine::groups_of(observed.id()).contains("ffrtmp.slice"));
    // An ordered restart is not the word to govern.
    world.stop(Signal::SIGTERM);
    world.start();
    assert!(doctor(&world).contains("crashed three times within a minute"));
    world.signal(Signal::SIGHUP);
    eventually("doctor to be content", || {
        (!doctor(&world).contains("crashed three times within a minute")).then_some(())
    });
    let mut governed = world.workload.spawn(&["sleep-us", "600000000"]);
    assert_eq!(world.job(governed.id()).state, "governed");
    for child in [&mut observed, &mut governed] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_full_record_map_refuses_new_ones_counts_and_tells_them_and_keeps_the_old() {
    /// The smallest map there is.
    const RECORDS: usize = 1024;
    let lives = std::env::var("FFRTMP_TEST_LIVES")
        .ok()
        .and_then(|lives| lives.parse().ok());
    let lives: usize = lives.unwrap_or(3_000);
    let mut world = World::with(Options {
        config: format!("records: {RECORDS}"),
        ..pinned("limits: {cpu_quota: 50}")
    });
    world.stop(Signal::SIGKILL);
    for number in 0..lives {
        life(&world.workload, number).wait().unwrap();
    }
    let mut late = world.workload.spawn(&["sleep-us", "600000000"]);
    world.start();
    // The late one has no record of its own: the pass over the machine after the losses finds it.
    assert_eq!(world.job(late.id()).state, "governed");
    eventually("the old records", || {
        let kept = by_number(&world, scripted);
        (kept.len() >= RECORDS).then_some(kept)
    });
    let kept = by_number(&world, scripted);
    assert!(
        kept.keys().copied().eq(0..kept.len()),
        "the oldest are kept, without a gap"
    );
    assert!(
        world.log().contains("could not take in everything"),
        "{}",
        world.log()
    );
    let doctor = String::from_utf8(world.output(&["doctor", "--output", "json"]).stdout).unwrap();
    let doctor: serde_json::Value = serde_json::from_str(&doctor).unwrap();
    let refused = doctor["status"]["counters"]["kernel_refused"].as_u64().unwrap();
    assert_eq!(
        refused as usize,
        lives - kept.len() + 1,
        "each one refused is counted"
    );
    eventually("room again, once the old ones are on disk", || {
        life(&world.workload, lives).wait().unwrap();
        by_number(&world, scripted).remove(&lives)
    });
    late.kill().unwrap();
    late.wait().unwrap();
}

#[test]
fn a_second_governor_on_the_same_pins_is_refused() {
    let world = World::with(pinned(""));
    let config = world.path("second.yaml");
    let text = std::fs::read_to_string(world.path("governor.yaml")).unwrap();
    std::fs::write(&config, text).unwrap();
    let second = std::process::Command::new(ffrtmp_tests::bin("ffrtmp-governor"))
        .arg("--config")
        .arg(&config)
        .arg("--socket")
        .arg(world.path("second.sock"))
        .arg("--ledger")
        .arg(world.path("second.db"))
        .args(["--metrics", "off"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && said.contains("in use by another governor"),
        "{said}"
    );
}
