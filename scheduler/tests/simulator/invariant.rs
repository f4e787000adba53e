//! What must hold after every step. The numbers are those of the design notes' list.

use std::collections::{BTreeMap, BTreeSet};

use ffrtmp_api::{AttemptPhase, JobState, NodeId, NodeInfo};
use ffrtmp_scheduler::core::book::Book;
use ffrtmp_scheduler::core::lifecycle::{Trigger, after};
use ffrtmp_scheduler::core::{Moment, needs};
use ffrtmp_scheduler::store::sqlite::Engine;
use rusqlite::Connection;

use crate::world::World;

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

struct Row {
    seq: i64,
    id: [u8; 16],
    state: JobState,
    held: bool,
    epoch: i64,
    events: i64,
}

/// Checks everything; the number of the last event that was looked at.
pub(crate) fn check(engine: &Engine, world: &World, checked: i64) -> Result<i64, String> {
    let connection = engine.connection();
    let rows = jobs(connection).map_err(|error| error.to_string())?;
    invariant_acknowledged_jobs_exist_and_cancelled_ones_never_succeed(&rows, world)?;
    invariant_the_books_equal_the_rows(engine.book(), &rows)?;
    invariant_attempts_are_fenced(connection, &rows, world).map_err(|error| error.to_string())??;
    invariant_slots_are_those_of_live_attempts(engine.book())?;
    invariant_histories_follow_the_table(connection, &rows, checked).map_err(|error| error.to_string())?
}

/// How many rows were ever written over this connection.
pub(crate) fn writes(engine: &Engine) -> i64 {
    let count = engine
        .connection()
        .prepare_cached("SELECT total_changes()")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
    count.unwrap_or(-1)
}

fn jobs(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    connection
        .prepare_cached("SELECT seq, id, state, held, epoch, events FROM jobs")?
        .query_map([], |row| {
            Ok(Row {
                seq: row.get(0)?,
                id: row.get(1)?,
                state: JobState::ALL[usize::from(row.get::<_, u16>(2)?)],
                held: row.get(3)?,
                epoch: row.get(4)?,
                events: row.get(5)?,
            })
        })?
        .collect()
}

/// 1 and 7.
fn invariant_acknowledged_jobs_exist_and_cancelled_ones_never_succeed(
    rows: &[Row],
    world: &World,
) -> Result<(), String> {
    let states: BTreeMap<[u8; 16], JobState> = rows.iter().map(|row| (row.id, row.state)).collect();
    for (key, id) in &world.acknowledged {
        if !states.contains_key(id.as_bytes()) {
            return Err(format!("1: job {id} of {key} is gone"));
        }
    }
    for id in &world.canceled {
        let state = states.get(id.as_bytes());
        if state != Some(&JobState::Canceled) {
            return Err(format!("7: the cancelled job {id} is {state:?}"));
        }
    }
    Ok(())
}

/// 8 and 9.
fn invariant_the_books_equal_the_rows(book: &Book, rows: &[Row]) -> Result<(), String> {
    let numbers = |wanted: &dyn Fn(&Row) -> bool| -> BTreeSet<i64> {
        rows.iter().filter(|row| wanted(row)).map(|row| row.seq).collect()
    };
    let ready: BTreeSet<i64> = book.ready.iter().map(|(seq, _)| seq).collect();
    let queued = numbers(&|row| row.state == JobState::Queued && !row.held);
    if ready != queued || ready.len() != book.ready.len() {
        return Err(format!("8: ready {ready:?}, rows {queued:?}"));
    }
    let delayed: BTreeSet<i64> = book.delayed().collect();
    let retrying = numbers(&|row| row.state == JobState::Retrying);
    if delayed != retrying {
        return Err(format!("8: delayed {delayed:?}, rows {retrying:?}"));
    }
    for state in JobState::ALL {
        let rows = rows.iter().filter(|row| row.state == *state).count() as u64;
        let counted = book.counts.get(state).copied().unwrap_or_default();
        if rows != counted {
            return Err(format!("9: {counted} jobs counted as {state}, {rows} rows"));
        }
    }
    let held = numbers(&|row| row.state == JobState::Queued && row.held).len() as u64;
    if held != book.held {
        return Err(format!("9: {} held jobs counted, {held} rows", book.held));
    }
    Ok(())
}

/// 2, 3, 4 and 14.
fn invariant_attempts_are_fenced(
    connection: &Connection,
    rows: &[Row],
    world: &World,
) -> rusqlite::Result<Result<(), String>> {
    let mut statement = connection
        .prepare_cached("SELECT seq, attempt, epoch, phase, ending FROM attempts ORDER BY seq, attempt")?;
    let mut found = statement.query([])?;
    let mut last: Option<(i64, i64, i64)> = None;
    let mut in_force: BTreeMap<i64, i64> = BTreeMap::new();
    let mut accepted: BTreeMap<i64, i64> = BTreeMap::new();
    while let Some(row) = found.next()? {
        let (seq, attempt, epoch): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let phase = AttemptPhase::ALL[usize::from(row.get::<_, u16>(3)?)];
        if let Some((before, number, fence)) = last
            && before == seq
            && (epoch <= fence || attempt != number + 1)
        {
            return Ok(Err(format!("4: job {seq}: epoch {epoch} after {fence}")));
        }
        last = Some((seq, attempt, epoch));
        if matches!(phase, AttemptPhase::Granted | AttemptPhase::Running)
            && in_force.insert(seq, epoch).is_some()
        {
            return Ok(Err(format!("3: job {seq} has two attempts in force")));
        }
        if row.get::<_, Option<i64>>(4)? == Some(0) && accepted.insert(seq, epoch).is_some() {
            return Ok(Err(format!("2: job {seq} has two accepted results")));
        }
    }
    for row in rows {
        let fence = in_force.get(&row.seq).copied().unwrap_or(0);
        if fence != row.epoch {
            return Ok(Err(format!(
                "3: job {} has fence {}, its attempt {fence}",
                row.seq, row.epoch
            )));
        }
        let winner = accepted.get(&row.seq);
        if (row.state == JobState::Completed) != winner.is_some() {
            return Ok(Err(format!(
                "2: job {} is {} with {winner:?} accepted",
                row.seq, row.state
            )));
        }
        let id = ffrtmp_api::JobUuid::from_bytes(row.id);
        for epoch in world.published.get(&id).into_iter().flatten() {
            if winner != Some(&(epoch.0 as i64)) {
                return Ok(Err(format!(
                    "14: {epoch} of job {id} was published, {winner:?} won"
                )));
            }
        }
    }
    Ok(Ok(()))
}

/// 10.
fn invariant_slots_are_those_of_live_attempts(book: &Book) -> Result<(), String> {
    for (number, member) in book.fleet.iter() {
        let used: u32 = book
            .live
            .iter()
            .filter(|live| live.node == number)
            .map(|live| live.slots)
            .sum();
        if used != member.used || member.info.slots() < used {
            return Err(format!(
                "10: {} has {} of {} slots used, its attempts take {used}",
                member.id,
                member.used,
                member.info.slots()
            ));
        }
    }
    Ok(())
}

/// 5, 6 and 12.
fn invariant_histories_follow_the_table(
    connection: &Connection,
    rows: &[Row],
    checked: i64,
) -> rusqlite::Result<Result<i64, String>> {
    let mut statement = connection.prepare_cached(
        "SELECT e.id, e.seq, e.n, e.before, e.after, p.after FROM events e \
         LEFT JOIN events p ON p.seq = e.seq AND p.n = e.n - 1 WHERE e.id > ?1 ORDER BY e.id",
    )?;
    let mut found = statement.query([checked])?;
    let mut newest = checked;
    while let Some(row) = found.next()? {
        newest = row.get(0)?;
        let (seq, n): (i64, i64) = (row.get(1)?, row.get(2)?);
        let state = |at: usize| -> rusqlite::Result<Option<JobState>> {
            Ok(row
                .get::<_, Option<u16>>(at)?
                .map(|word| JobState::ALL[usize::from(word)]))
        };
        let (before, next, previous) = (state(3)?, state(4)?, state(5)?);
        if before != previous || (n == 1) != before.is_none() {
            return Ok(Err(format!(
                "12: event {n} of job {seq} follows {previous:?} and says {before:?}"
            )));
        }
        if let (Some(before), Some(next)) = (before, next)
            && !TRIGGERS
                .iter()
                .any(|trigger| after(before, *trigger) == Some(next))
        {
            return Ok(Err(format!("5: job {seq} went from {before} to {next}")));
        }
    }
    if newest != checked {
        let mut statement =
            connection.prepare_cached("SELECT seq, count(*), max(n) FROM events GROUP BY seq")?;
        let mut found = statement.query([])?;
        let mut counts = BTreeMap::new();
        while let Some(row) = found.next()? {
            counts.insert(
                row.get::<_, i64>(0)?,
                (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?),
            );
        }
        for row in rows {
            if counts.get(&row.seq) != Some(&(row.events, row.events)) {
                return Ok(Err(format!(
                    "12: job {} has {:?} events, its row says {}",
                    row.seq,
                    counts.get(&row.seq),
                    row.events
                )));
            }
        }
    }
    Ok(Ok(newest))
}

/// 11: a live job that this node would have to be given before any other.
pub(crate) fn urgent(engine: &Engine, node: &NodeId, now: Moment) -> Option<i64> {
    let book = engine.book();
    let number = book.fleet.number(node)?;
    let free = book.fleet.get(number)?.free();
    book.ready
        .iter()
        .filter(|(_, place)| place.band.queue == ffrtmp_api::Queue::Live)
        .find(|(_, place)| {
            book.would_take(number, place.class, now)
                && !book.capped(place.tenant)
                && book
                    .classes
                    .get(&place.class)
                    .is_some_and(|wanted| needs::slots(wanted) <= free)
        })
        .map(|(seq, _)| seq)
}

/// True when every job that is not over waits for a node that does not exist.
pub(crate) fn nothing_left(engine: &Engine, nodes: &[&NodeInfo]) -> bool {
    let book = engine.book();
    let runnable = |class: i64| {
        book.classes
            .get(&class)
            .is_some_and(|wanted| nodes.iter().any(|info| needs::missing(wanted, info).is_empty()))
    };
    book.delayed().next().is_none() && !book.ready.iter().any(|(_, place)| runnable(place.class))
}
