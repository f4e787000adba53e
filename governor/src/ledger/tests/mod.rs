//! The ledger against real files and real failures.

mod disk;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use rusqlite::Connection;

use super::*;
use crate::engine::handle::SaveOrder;
use crate::testing::{FakeEngine, closed_order, ended, eventually, live_job, open_order};

const BOOT: &str = "11111111-2222-3333-4444-555555555555";

fn writer(ledger: Ledger) -> Writer<impl FnMut(&[JobKey]) -> bool> {
    Writer::new(
        ledger.database,
        ledger.health,
        ledger.retention,
        |_: &[JobKey]| true,
    )
}

fn save_all(path: &Path, boot: &str, orders: Vec<SaveOrder>) -> Vec<JobKey> {
    let (told, acks) = channel();
    let ledger = Ledger::open(path, boot).unwrap();
    let (queue, thread) = ledger
        .spawn(move |keys| keys.iter().all(|key| told.send(*key).is_ok()))
        .unwrap();
    for order in orders {
        queue.send(order).unwrap();
    }
    drop(queue);
    thread.join().unwrap();
    acks.iter().collect()
}

fn rows(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection
        .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        .unwrap()
}

fn degraded(health: &LedgerHealth) -> String {
    match health.state() {
        LedgerState::Degraded { error, .. } => error,
        LedgerState::Ok => panic!("the ledger is well"),
    }
}

#[test]
fn a_record_comes_back_as_it_was_saved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sub/governor.db");
    let job = ended(live_job(10, 5, 1000, "j1"), 3);
    let acks = save_all(
        &path,
        BOOT,
        vec![open_order(live_job(10, 5, 1000, "j1")), closed_order(job.clone())],
    );
    assert_eq!(acks, [job.key]);
    let reader = Ledger::open(&path, BOOT).unwrap().reader().unwrap();
    let only = std::slice::from_ref(&job);
    assert_eq!(reader.history(10).unwrap(), only);
    assert_eq!(reader.by_job_id("j1", 10).unwrap(), only);
    assert_eq!(reader.by_key(job.key).unwrap(), Some(job));
    assert_eq!(reader.by_job_id("j2", 10).unwrap(), []);
    for table in ["jobs", "processes", "exits", "usage", "warnings"] {
        assert_eq!(rows(&path, table), 1, "{table}");
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o750);
}

#[test]
fn a_record_saved_twice_is_there_once_and_acknowledged_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    let first = ended(live_job(10, 5, 0, "j"), 0);
    let mut later = first.clone();
    later.report.class = "changed".to_owned();
    assert_eq!(
        save_all(&path, BOOT, vec![closed_order(first.clone())]),
        [first.key]
    );
    // A crash before the acknowledgement reached the kernel's map: the next governor saves the record again.
    assert_eq!(
        save_all(
            &path,
            BOOT,
            vec![open_order(live_job(10, 5, 0, "j")), closed_order(later)]
        ),
        [first.key]
    );
    let reader = Reader::new(path.clone());
    assert_eq!(reader.history(10).unwrap(), [first]);
    assert_eq!(rows(&path, "jobs"), 1);
}

#[test]
fn the_same_pid_in_another_boot_or_at_another_time_is_another_job() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    let job = |start| closed_order(ended(live_job(10, start, 0, "j"), 0));
    save_all(&path, BOOT, vec![job(5), job(6)]);
    save_all(&path, "another boot", vec![job(5)]);
    assert_eq!(rows(&path, "jobs"), 3);
}

#[test]
fn what_an_earlier_boot_left_open_is_closed_as_unobserved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    save_all(&path, BOOT, vec![open_order(live_job(10, 5, 0, "j"))]);
    assert_eq!(Reader::new(path.clone()).history(10).unwrap(), []);
    let open = || Reader::new(path.clone()).open_jobs().unwrap();
    assert_eq!(open().len(), 1);
    save_all(&path, BOOT, vec![]);
    assert_eq!(
        Reader::new(path.clone()).history(10).unwrap(),
        [],
        "same boot: it lives on"
    );
    save_all(&path, "another boot", vec![]);
    assert_eq!(open(), []);
    let jobs = Reader::new(path.clone()).history(10).unwrap();
    let [job] = jobs.as_slice() else {
        panic!("{jobs:?}")
    };
    assert_eq!(job.report.exit_reason.as_deref(), Some("unobserved"));
    assert!(job.report.exit.is_some() && job.live == 0 && job.report.exit_code.is_none());
    assert_eq!(rows(&path, "exits"), 1);
}

#[test]
fn acknowledgements_are_offered_until_they_are_taken() {
    let refusals = std::sync::Arc::new(AtomicU32::new(3));
    let left = std::sync::Arc::clone(&refusals);
    let (told, acks) = channel();
    let (queue, thread) = Ledger::memory(BOOT)
        .unwrap()
        .spawn(move |keys| {
            if left.load(Ordering::SeqCst) > 0 {
                left.fetch_sub(1, Ordering::SeqCst);
                return false;
            }
            told.send(keys.to_vec()).is_ok()
        })
        .unwrap();
    let job = ended(live_job(10, 5, 0, "j"), 0);
    queue.send(closed_order(job.clone())).unwrap();
    assert_eq!(acks.recv_timeout(Duration::from_secs(5)).unwrap(), [job.key]);
    assert_eq!(refusals.load(Ordering::SeqCst), 0);
    drop(queue);
    thread.join().unwrap();
    assert_eq!(acks.iter().count(), 0, "each key is acknowledged once");
}

#[test]
fn an_engine_that_starts_after_the_ledger_gets_its_acknowledgements() {
    let late = LateEngine::default();
    let (queue, _thread) = Ledger::memory(BOOT).unwrap().spawn(late.acknowledge()).unwrap();
    let job = ended(live_job(10, 5, 0, "j"), 0);
    queue.send(closed_order(job.clone())).unwrap();
    let engine = FakeEngine::start(Vec::new());
    late.connect(engine.handle.clone());
    eventually("the acknowledgement", || {
        engine.state.lock().unwrap().saved == [job.key]
    });
}

#[test]
fn a_backlog_holds_one_entry_a_job_and_never_reopens_one() {
    let ledger = Ledger::memory(BOOT).unwrap();
    let health = ledger.health();
    let mut writer = writer(ledger);
    let job = live_job(1, 1, 0, "j");
    for _ in 0..10 {
        writer.absorb(open_order(job.clone()));
    }
    writer.absorb(closed_order(ended(job.clone(), 0)));
    writer.absorb(open_order(job));
    assert_eq!(health.snapshot().backlog, 1);
    writer.step(Instant::now());
    assert_eq!(health.snapshot().closed["success"], 1);
}

#[test]
fn old_and_surplus_records_are_forgotten_but_open_ones_never() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    let mut old = ended(live_job(1, 1, 0, "old"), 0);
    old.report.end_time = Some(jiff::Timestamp::from_second(1_000_000_000).unwrap());
    let mut orders: Vec<SaveOrder> = (100..110)
        .map(|pid| closed_order(ended(live_job(pid, 1, 0, "new"), 0)))
        .collect();
    orders.extend([closed_order(old), open_order(live_job(2, 1, 0, "open"))]);
    save_all(&path, BOOT, orders);
    let mut connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    let now_us = jiff::Timestamp::now().as_microsecond();
    let keep = |max_jobs| Retention {
        max_age: Duration::from_hours(24),
        max_jobs,
    };
    assert_eq!(
        Reader::new(path.clone()).by_job_id("old", 1).unwrap(),
        [],
        "its age was over at once"
    );
    assert_eq!(store::prune(&mut connection, keep(4), now_us, 5).unwrap(), 5);
    assert_eq!(store::prune(&mut connection, keep(4), now_us, 5).unwrap(), 1);
    assert_eq!(rows(&path, "jobs"), 5);
    assert_eq!(rows(&path, "usage"), 5, "rows of forgotten jobs go with them");
    assert_eq!(Reader::new(path).by_job_id("open", 1).unwrap().len(), 1);
}
