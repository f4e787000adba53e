//! Reads the books from the disk: at start, and after a commit that failed.

use std::collections::BTreeMap;

use ffrtmp_api::{
    AttemptKey, AttemptPhase, Band, Epoch, JobState, JobUuid, Needs, NodeId, NodeInfo, NodeIntent, Progress,
};
use rusqlite::{Connection, Row};

use super::rows::word;
use crate::core::blocklist::Strikes;
use crate::core::book::{Book, Standing};
use crate::core::fleet::Member;
use crate::core::live::{Live, Stop};
use crate::core::policy::Policy;
use crate::core::ready::Place;
use crate::core::{Moment, needs};
use crate::store::error::{Step, StoreError};

/// What the disk says.
pub(super) struct Loaded {
    pub(super) book: Book,
    pub(super) next_epoch: u64,
    pub(super) last_event: i64,
}

const STEP: &str = "read the books";

/// Reads everything. Waits and leases count from now: a clock that jumped while we were down ends none early.
pub(super) fn load(connection: &Connection, policy: &Policy, now: Moment) -> Result<Loaded, StoreError> {
    let mut book = Book::new(policy.clone(), now);
    classes_and_tenants(connection, &mut book)?;
    nodes(connection, &mut book, now)?;
    waiting_jobs(connection, &mut book, now)?;
    attempts(connection, &mut book, now)?;
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .step(STEP)
    };
    for state in JobState::ALL
        .iter()
        .filter(|state| **state >= JobState::Completed)
    {
        let sql = format!(
            "SELECT count(*) FROM jobs WHERE state >= 5 AND state = {}",
            *state as i64
        );
        book.counts.insert(*state, number(&sql)? as u64);
    }
    Ok(Loaded {
        book,
        next_epoch: number("SELECT value FROM meta WHERE key = 'next_epoch'")? as u64,
        last_event: number("SELECT coalesce(max(id), 0) FROM events")?,
    })
}

/// Calls `each` with every row.
fn rows(
    connection: &Connection,
    sql: &str,
    mut each: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql).step(STEP)?;
    let mut rows = statement.query([]).step(STEP)?;
    while let Some(row) = rows.next().step(STEP)? {
        each(row)?;
    }
    Ok(())
}

fn classes_and_tenants(connection: &Connection, book: &mut Book) -> Result<(), StoreError> {
    rows(connection, "SELECT id, needs FROM classes", |row| {
        let text: String = row.get(1).step(STEP)?;
        let needs: Needs = serde_json::from_str(&text).step(STEP)?;
        book.add_class(row.get(0).step(STEP)?, needs);
        Ok(())
    })?;
    rows(connection, "SELECT id, name, max_running FROM tenants", |row| {
        book.add_tenant(
            row.get(0).step(STEP)?,
            row.get(1).step(STEP)?,
            row.get(2).step(STEP)?,
        );
        Ok(())
    })
}

/// The intents in the order of their numbers.
pub(super) const INTENTS: &[NodeIntent] = &[NodeIntent::Active, NodeIntent::Cordoned, NodeIntent::Draining];

fn nodes(connection: &Connection, book: &mut Book, now: Moment) -> Result<(), StoreError> {
    let sql = "SELECT id, name, info, intent, registered_ms FROM nodes WHERE removed = 0";
    rows(connection, sql, |row| {
        let name: String = row.get(1).step(STEP)?;
        let info: String = row.get(2).step(STEP)?;
        let id = NodeId::parse(&name).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let info: NodeInfo = serde_json::from_str(&info).step(STEP)?;
        let intent = word(INTENTS, row.get(3).step(STEP)?, "an intent")?;
        let member = Member::new(id, info, intent, row.get(4).step(STEP)?);
        book.fleet.insert(row.get(0).step(STEP)?, member);
        Ok(())
    })?;
    rows(
        connection,
        "SELECT node, class, count, until_ms FROM strikes",
        |row| {
            let until_wall: i64 = row.get(3).step(STEP)?;
            let left = u64::try_from(until_wall - now.wall_ms).unwrap_or(0);
            // A clock that was set back must not block for longer than a block can last.
            let left = left.min(book.policy.block_ms << 4);
            let strikes = Strikes {
                count: row.get(2).step(STEP)?,
                until_ms: if left == 0 { 0 } else { now.boot_ms + left },
            };
            book.blocklist
                .restore(row.get(0).step(STEP)?, row.get(1).step(STEP)?, strikes);
            Ok(())
        },
    )
}

fn waiting_jobs(connection: &Connection, book: &mut Book, now: Moment) -> Result<(), StoreError> {
    let longest = book.policy.backoff_ms.1;
    let sql = "SELECT seq, state, band, class, tenant, held, active_ms, retry_ms FROM jobs WHERE state < 5";
    rows(connection, sql, |row| {
        let state = word(JobState::ALL, row.get(1).step(STEP)?, "a state")?;
        let band = Band::from_index(row.get::<_, i64>(2).step(STEP)? as usize)
            .ok_or_else(|| StoreError::Damaged("an unknown band".to_owned()))?;
        let standing = Standing {
            seq: row.get(0).step(STEP)?,
            state,
            place: Place {
                band,
                tenant: row.get::<_, Option<i64>>(4).step(STEP)?.unwrap_or(0),
                class: row.get(3).step(STEP)?,
            },
            held: row.get(5).step(STEP)?,
        };
        let waited = u64::try_from(now.wall_ms - row.get::<_, i64>(6).step(STEP)?).unwrap_or(0);
        let retry_ms: Option<i64> = row.get(7).step(STEP)?;
        let left = retry_ms.map_or(0, |due| u64::try_from(due - now.wall_ms).unwrap_or(0));
        book.enter(
            standing,
            now.boot_ms.saturating_sub(waited),
            now.boot_ms + left.min(longest),
        );
        Ok(())
    })
}

fn attempts(connection: &Connection, book: &mut Book, now: Moment) -> Result<(), StoreError> {
    let slots: BTreeMap<i64, u32> = book
        .classes
        .iter()
        .map(|(class, wants)| (*class, needs::slots(wants)))
        .collect();
    let sql = "SELECT a.epoch, a.seq, j.id, a.attempt, a.node, a.phase, a.stop, j.band, j.tenant, j.class, j.paused \
               FROM attempts a JOIN jobs j ON j.seq = a.seq WHERE a.phase < 3";
    rows(connection, sql, |row| {
        let class = row.get(9).step(STEP)?;
        let band = Band::from_index(row.get::<_, i64>(7).step(STEP)? as usize)
            .ok_or_else(|| StoreError::Damaged("an unknown band".to_owned()))?;
        let stop: Option<i64> = row.get(6).step(STEP)?;
        book.occupy(Live {
            key: AttemptKey {
                job_id: JobUuid::from_bytes(row.get(2).step(STEP)?),
                attempt: row.get(3).step(STEP)?,
                epoch: Epoch(row.get::<_, i64>(0).step(STEP)? as u64),
            },
            seq: row.get(1).step(STEP)?,
            node: row.get(4).step(STEP)?,
            slots: slots.get(&class).copied().unwrap_or(1),
            phase: word(AttemptPhase::ALL, row.get(5).step(STEP)?, "a phase")?,
            stop: stop
                .map(|stop| word(&[Stop::Canceled, Stop::Stalled], stop, "a stop"))
                .transpose()?,
            queue: band.queue,
            tenant: row.get::<_, Option<i64>>(8).step(STEP)?.unwrap_or(0),
            class,
            paused: row.get(10).step(STEP)?,
            granted_ms: now.boot_ms,
            moved_ms: now.boot_ms,
            missing_ms: None,
            progress: Progress::default(),
        });
        Ok(())
    })
}
