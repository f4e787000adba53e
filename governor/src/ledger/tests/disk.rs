//! Disks that are full, read-only or damaged, and files of other versions.

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::channel;
use std::time::Instant;

use rusqlite::Connection;

use crate::testing::{as_user, closed_order, ended, live_job};

use super::*;

#[test]
fn on_a_full_disk_records_wait_and_are_written_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&directory.path().join("governor.db"), BOOT).unwrap();
    let health = ledger.health();
    let reader = ledger.reader().unwrap();
    let mut writer = writer(ledger);
    let limit = |writer: &mut Writer<_>, pages: u32| {
        let connection = writer.database.connection.as_ref().unwrap();
        connection.pragma_update(None, "max_page_count", pages).unwrap();
    };
    limit(&mut writer, 1);
    let start = Instant::now();
    for pid in 0..200 {
        writer.absorb(closed_order(ended(live_job(pid, 1, 0, "j"), 0)));
    }
    writer.step(start);
    assert!(degraded(&health).contains("free space"), "{}", degraded(&health));
    assert_eq!(health.snapshot().backlog, 200);
    assert!(writer.wait(start).unwrap() <= Duration::from_secs(1));
    writer.step(start);
    assert_eq!(health.snapshot().failures, 1, "the pause is kept");
    writer.step(start + Duration::from_secs(2));
    assert_eq!(health.snapshot().failures, 2);
    limit(&mut writer, 100_000);
    writer.step(start + Duration::from_secs(10));
    assert_eq!(health.state(), LedgerState::Ok);
    assert_eq!((health.snapshot().backlog, writer.wait(start)), (0, None));
    assert_eq!(reader.history(1000).unwrap().len(), 200);
    assert_eq!(health.snapshot().closed["success"], 200);
}

#[test]
fn a_read_only_file_degrades_the_ledger_until_it_is_writable() {
    let directory = tempfile::tempdir().unwrap();
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let path = directory.path().join("governor.db");
    drop(Ledger::open(&path, BOOT).unwrap());
    allow(directory.path(), 0o755);
    allow(&path, 0o644);
    let (ask, asked) = channel();
    let (done, mended) = channel();
    let (root, file) = (directory.path().to_path_buf(), path.clone());
    let mender = std::thread::spawn(move || {
        asked.recv().unwrap();
        allow(&root, 0o777);
        allow(&file, 0o666);
        done.send(()).unwrap();
    });
    // Root may write anything, so the ledger runs as nobody here.
    let reader = Reader::new(path.clone());
    as_user(65534, 65534, move || {
        let ledger = Ledger::open(&path, BOOT).unwrap();
        let health = ledger.health();
        let mut writer = writer(ledger);
        let start = Instant::now();
        writer.absorb(closed_order(ended(live_job(1, 1, 0, "j"), 0)));
        writer.step(start);
        assert!(degraded(&health).contains("writable"), "{}", degraded(&health));
        assert_eq!(health.snapshot().backlog, 1);
        ask.send(()).unwrap();
        mended.recv().unwrap();
        writer.step(start + Duration::from_secs(2));
        assert_eq!(health.state(), LedgerState::Ok);
    });
    mender.join().unwrap();
    assert_eq!(reader.history(10).unwrap().len(), 1);
}

#[test]
fn a_directory_that_cannot_be_made_degrades_the_ledger_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let blocker = directory.path().join("lib");
    std::fs::write(&blocker, "a file where the directory should be").unwrap();
    let ledger = Ledger::open(&blocker.join("governor.db"), BOOT).unwrap();
    let health = ledger.health();
    assert!(
        degraded(&health).contains("create directory"),
        "{}",
        degraded(&health)
    );
    let mut writer = writer(ledger);
    writer.absorb(closed_order(ended(live_job(1, 1, 0, "j"), 0)));
    std::fs::remove_file(&blocker).unwrap();
    writer.step(Instant::now());
    assert_eq!(health.state(), LedgerState::Ok);
    assert_eq!(rows(&blocker.join("governor.db"), "jobs"), 1);
}

fn set_aside(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.to_string_lossy().contains(".corrupt-"))
        .collect()
}

#[test]
fn a_file_that_is_no_database_is_set_aside_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    let rubbish = "this is no database, however long one looks at it. ".repeat(100);
    std::fs::write(&path, &rubbish).unwrap();
    let ledger = Ledger::open(&path, BOOT).unwrap();
    assert_eq!(ledger.health().state(), LedgerState::Ok);
    let aside = set_aside(directory.path());
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(std::fs::read_to_string(&aside[0]).unwrap(), rubbish);
    drop(ledger);
    save_all(&path, BOOT, vec![closed_order(ended(live_job(1, 1, 0, "j"), 0))]);
    assert_eq!(rows(&path, "jobs"), 1);
}

#[test]
fn damage_found_while_writing_loses_no_waiting_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    save_all(
        &path,
        BOOT,
        (0..50)
            .map(|pid| closed_order(ended(live_job(pid, 1, 0, "j"), 0)))
            .collect(),
    );
    // Every page after the first: the header still looks right, so that opening works.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let acks = save_all(&path, BOOT, vec![closed_order(ended(live_job(99, 1, 0, "k"), 0))]);
    assert_eq!(acks.len(), 1);
    assert_eq!(set_aside(directory.path()).len(), 1);
    assert_eq!(Reader::new(path).by_job_id("k", 10).unwrap().len(), 1);
}

#[test]
fn a_newer_schema_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    drop(Ledger::open(&path, BOOT).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = Ledger::open(&path, BOOT).unwrap_err().to_string();
    assert!(
        error.contains("schema 99") && error.contains("--ledger"),
        "{error}"
    );
    assert!(set_aside(directory.path()).is_empty());
}

/// Runs in a process of its own, because the limit on file sizes is the process's.
#[test]
fn a_file_that_may_not_grow_does_not_end_the_process() {
    const IN_CHILD: &str = "FFRTMP_TEST_LEDGER_CHILD";
    if let Ok(path) = std::env::var(IN_CHILD) {
        return grow_until_refused(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.db");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "ledger::tests::disk::a_file_that_may_not_grow_does_not_end_the_process",
        ])
        .env(IN_CHILD, &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(rows(&path, "jobs"), 2000);
}

fn grow_until_refused(path: &Path) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let ledger = Ledger::open(path, BOOT).unwrap();
    let health = ledger.health();
    let mut writer = writer(ledger);
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 256 * 1024, hard).unwrap();
    for pid in 0..2000 {
        writer.absorb(closed_order(ended(live_job(pid, 1, 0, "j"), 0)));
    }
    let start = Instant::now();
    writer.step(start);
    assert!(!degraded(&health).is_empty());
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    writer.step(start + Duration::from_secs(5));
    assert_eq!((health.state(), health.snapshot().backlog), (LedgerState::Ok, 0));
}

/// A file as the program of that schema left it when it was killed: two closed jobs and an open one. Every schema that was
/// ever released has one.
const SAVED: [&str; 1] = [include_str!("../../../../tests/data/ledger/v1.sql")];

#[test]
fn files_saved_by_every_earlier_version_are_read_and_written_on() {
    assert_eq!(
        SAVED.len(),
        schema::MIGRATIONS.len(),
        "each released schema has a saved file"
    );
    for (index, saved) in SAVED.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("governor.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(saved).unwrap();
        connection
            .pragma_update(None, "user_version", index as i64 + 1)
            .unwrap();
        drop(connection);
        let acknowledged = save_all(
            &path,
            BOOT,
            vec![closed_order(ended(live_job(10, 5, 0, "new"), 0))],
        );
        assert_eq!(acknowledged.len(), 1);
        let reader = Ledger::open(&path, BOOT).unwrap().reader().unwrap();
        let codes: Vec<_> = reader
            .history(10)
            .unwrap()
            .iter()
            .map(|job| job.report.exit_code)
            .collect();
        assert!(
            codes.contains(&Some(3)) && codes.contains(&Some(0)),
            "version {}: {codes:?}",
            index + 1
        );
        assert_eq!(rows(&path, "jobs"), 4);
        let connection = Connection::open(&path).unwrap();
        let open: i64 = connection
            .query_row("SELECT count(*) FROM jobs WHERE closed = 0", [], |row| row.get(0))
            .unwrap();
        assert_eq!(open, 0, "what an earlier boot left open is closed");
    }
}
