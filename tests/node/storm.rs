//! Nothing is missed: many short lives at full rate, each with one record, its own arguments and its own exit code.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::{World, eventually};

/// How many; a virtual machine without KVM gets fewer.
fn execs() -> usize {
    std::env::var("FFRTMP_STORM_EXECS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100_000)
}

#[test]
fn every_exec_of_a_storm_has_one_record_with_its_arguments() {
    let world = World::new();
    let total = execs();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= total {
                        return;
                    }
                    // 0 to 5 ms; every other one does not sleep at all.
                    let us = if id.is_multiple_of(2) { 0 } else { id * 37 % 5000 };
                    let mut command = world.workload.command(&[
                        "--id",
                        &id.to_string(),
                        "sleep-us",
                        &us.to_string(),
                        "exit",
                        &(id % 200).to_string(),
                    ]);
                    command.stderr(Stdio::null()).spawn().unwrap().wait().unwrap();
                }
            });
        }
    });
    let took = began.elapsed();
    let ledger = rusqlite::Connection::open_with_flags(
        world.path("governor.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    let closed = || -> usize {
        ledger
            .query_row("SELECT count(*) FROM exits", [], |row| row.get::<_, i64>(0))
            .unwrap_or(0) as usize
    };
    let mut before = 0;
    while closed() < total {
        // Every 20 s there must be progress.
        before = eventually(
            &format!("more records than {before} of {total}; {}", world.log()),
            || Some(closed()).filter(|now| *now > before),
        );
    }
    println!(
        "{total} execs in {took:?}, records complete after {:?}",
        began.elapsed()
    );
    check(&ledger, total);
}

fn check(ledger: &rusqlite::Connection, total: usize) {
    let mut query = ledger.prepare("SELECT view FROM jobs WHERE closed = 1").unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut seen: HashMap<usize, u32> = HashMap::new();
    for row in rows {
        let view: JobView = serde_json::from_str(&row.unwrap()).unwrap();
        let report = view.report;
        let command = report.command.unwrap();
        let id: usize = command[2].parse().unwrap();
        assert_eq!(report.exit_code, Some((id % 200) as i32), "exit code of {id}");
        *seen.entry(id).or_default() += 1;
    }
    assert_eq!(seen.len(), total, "each id once");
    assert!(seen.values().all(|count| *count == 1), "no id twice");
}
