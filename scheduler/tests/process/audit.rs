//! Reads a database from outside, as a copy, and checks what must hold whatever happened to its scheduler.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ffrtmp_api::JobState;
use ffrtmp_scheduler::core::lifecycle::{Trigger, after};
use rusqlite::Connection;

const TRIGGERS: [Trigger; 11] = [
    Trigger::Granted,
    Trigger::Returned,
    Trigger::Started,
    Trigger::Succeeded,
    Trigger::Failed,
    Trigger::Retried,
    Trigger::TimedOut,
    Trigger::Due,
    Trigger::Canceled,
    Trigger::Rejected,
    Trigger::Reopened,
];

/// One job as the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) state: JobState,
    /// Fence of the attempt whose result was accepted.
    pub(crate) accepted: Option<i64>,
}

/// Every job by its id, in hexadecimal.
pub(crate) type Rows = HashMap<String, Row>;

fn state(number: i64) -> JobState {
    let found = JobState::ALL.iter().find(|state| **state as i64 == number);
    *found.expect("a state of the table")
}

/// Reads a copy of this database, so that nothing is repaired in the original.
pub(crate) fn read(database: &Path) -> Rows {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", database.display());
        if Path::new(&from).exists() {
            std::fs::copy(&from, format!("{}{suffix}", copy.display())).unwrap();
        }
    }
    let connection = Connection::open(&copy).unwrap();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    stories(&connection);
    attempts(&connection);
    let mut statement = connection
        .prepare(
            "SELECT lower(hex(j.id)), j.state, a.epoch FROM jobs j \
             LEFT JOIN attempts a ON a.seq = j.seq AND a.ending = 0",
        )
        .unwrap();
    let rows = statement.query_map([], |row| {
        let row_of = Row {
            state: state(row.get(1)?),
            accepted: row.get(2)?,
        };
        Ok((row.get(0)?, row_of))
    });
    let rows: Vec<(String, Row)> = rows.unwrap().map(Result::unwrap).collect();
    let count = rows.len();
    let rows: Rows = rows.into_iter().collect();
    assert_eq!(rows.len(), count, "a job has two accepted results");
    for (id, row) in &rows {
        assert_eq!(
            row.state == JobState::Completed,
            row.accepted.is_some(),
            "{id}: {row:?}"
        );
    }
    rows
}

/// Every step is one of the table, each begins where the one before ended, and none is missing.
fn stories(connection: &Connection) {
    let mut last: BTreeMap<i64, (i64, JobState)> = BTreeMap::new();
    let mut statement = connection
        .prepare("SELECT seq, n, before, after FROM events ORDER BY id")
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (seq, n): (i64, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
        let before: Option<i64> = row.get(2).unwrap();
        let to = state(row.get(3).unwrap());
        match (last.get(&seq), before.map(state)) {
            (None, None) => assert_eq!((n, to), (1, JobState::Queued), "job {seq} begins"),
            (Some((number, from)), Some(before)) => {
                assert_eq!((n, before), (number + 1, *from), "job {seq} has a gap");
                assert!(
                    before == to || TRIGGERS.iter().any(|trigger| after(before, *trigger) == Some(to)),
                    "job {seq} went from {before} to {to}"
                );
            }
            other => panic!("job {seq}: {other:?}"),
        }
        last.insert(seq, (n, to));
    }
    let mut statement = connection.prepare("SELECT seq, state, events FROM jobs").unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (seq, number, events): (i64, i64, i64) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        assert_eq!(
            last.get(&seq),
            Some(&(events, state(number))),
            "the row of job {seq} is not where its story ends"
        );
    }
}

/// Fences grow with attempts, at most one attempt of a job is in force.
fn attempts(connection: &Connection) {
    let count = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    let twice =
        "SELECT count(*) FROM (SELECT seq FROM attempts WHERE phase < 3 GROUP BY seq HAVING count(*) > 1)";
    assert_eq!(count(twice), 0, "two attempts of a job are in force");
    let backwards = "SELECT count(*) FROM attempts a JOIN attempts b ON a.seq = b.seq AND a.attempt < b.attempt \
                     WHERE a.epoch >= b.epoch";
    assert_eq!(count(backwards), 0, "a later attempt has an earlier fence");
    let early = "SELECT count(*) FROM attempts, meta WHERE key = 'next_epoch' AND epoch >= value";
    assert_eq!(count(early), 0, "the next fence was given before");
}
