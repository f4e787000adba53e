//! Descendant closure: whoever forks while it is being moved ends in its group with everybody it made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::machine::groups_of;
use ffrtmp_tests::{Base, Options, World, eventually};

/// How many trials; a virtual machine without KVM gets fewer.
fn trials() -> usize {
    std::env::var("FFRTMP_CLOSURE_TRIALS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10_000)
}

/// In how many hierarchies a job of this world has a group.
fn hierarchies(world: &World) -> usize {
    let mut sleeper = world.workload.spawn(&["sleep-us", "30000000"]);
    assert_eq!(world.job(sleeper.id()).state, "governed");
    let count = groups_of(sleeper.id()).matches("/ffrtmp.slice/").count();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    world.closed(sleeper.id());
    count
}

#[test]
fn every_descendant_of_a_process_that_forks_while_it_is_moved_ends_in_the_group() {
    // Another governor that ends takes its empty classes away, ours among them; here nobody shares the tree.
    let base = Base::new();
    // A process is moved before it reaches its main as a rule; at this age it is in the middle of its forking.
    let world = World::with(Options {
        config: format!("cgroup: {{base: {}}}", base.name()),
        rule: "filters: {min_runtime: 3ms}".to_owned(),
        ..Options::default()
    });
    let lines = hierarchies(&world).to_string();
    assert_ne!(lines, "0");
    let (total, next, outside) = (trials(), AtomicUsize::new(0), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < total {
                    let status = world.workload.spawn(&["closure", &lines]).wait().unwrap();
                    let left = status.code().map_or(1, |code| code.unsigned_abs() as usize);
                    outside.fetch_add(left, Ordering::Relaxed);
                }
            });
        }
    });
    let took = began.elapsed();
    let (processes, warned) = records(&world, total + 1);
    println!(
        "{total} trials in {took:?}: {} descendants, {} outside, {} with a warning",
        processes - total as u64 - 1,
        outside.load(Ordering::Relaxed),
        warned.len()
    );
    assert_eq!(
        outside.load(Ordering::Relaxed),
        0,
        "processes outside their group"
    );
    assert!(processes > 2 * total as u64, "only {processes} processes in all");
    assert_eq!(warned, Vec::<String>::new());
}

/// Processes of all jobs together, and the warnings of those that have some.
fn records(world: &World, jobs: usize) -> (u64, Vec<String>) {
    let ledger = rusqlite::Connection::open_with_flags(
        world.path("governor.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    let closed = || -> usize {
        let count = ledger.query_row("SELECT count(*) FROM jobs WHERE closed = 1", [], |row| {
            row.get::<_, i64>(0)
        });
        count.unwrap() as usize
    };
    let mut before = 0;
    while closed() < jobs {
        let open: Vec<JobView> = world
            .jobs()
            .into_iter()
            .filter(|job| job.state != "closed")
            .collect();
        let what = format!("more records than {before} of {jobs}; open: {open:#?}");
        before = eventually(&what, || Some(closed()).filter(|now| *now > before));
    }
    let mut query = ledger.prepare("SELECT view FROM jobs").unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let (mut processes, mut warned) = (0, Vec::new());
    for row in rows {
        let view: JobView = serde_json::from_str(&row.unwrap()).unwrap();
        processes += u64::from(view.report.usage.processes.unwrap());
        warned.extend(view.report.limits.warnings);
    }
    (processes, warned)
}
