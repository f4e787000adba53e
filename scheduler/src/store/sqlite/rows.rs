//! Rows of jobs and attempts, and the one function that moves a job from state to state.

use ffrtmp_api::{
    AttemptEnd, AttemptKey, AttemptPhase, Band, Engine, Epoch, FailureReason, JobRef, JobState, JobUuid,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::core::book::Standing;
use crate::core::failure::Used;
use crate::core::lifecycle::{Trigger, after};
use crate::core::ready::Place;
use crate::core::{ClassId, Moment, Seq, TenantId};
use crate::store::error::{Step, StoreError};

/// The hot row of a job.
#[derive(Debug, Clone)]
pub(super) struct JobRow {
    pub(super) seq: Seq,
    pub(super) id: JobUuid,
    pub(super) state: JobState,
    pub(super) band: Band,
    pub(super) class: ClassId,
    pub(super) tenant: TenantId,
    pub(super) held: bool,
    pub(super) paused: bool,
    pub(super) epoch: Epoch,
    pub(super) attempts: u32,
    pub(super) used: Used,
    pub(super) max_retries: u32,
    pub(super) events: u32,
    pub(super) node: Option<i64>,
    pub(super) engine: Engine,
    pub(super) scenario: String,
    pub(super) failure: Option<FailureReason>,
    pub(super) created_ms: i64,
    pub(super) active_ms: i64,
    pub(super) started_ms: Option<i64>,
    pub(super) ended_ms: Option<i64>,
    pub(super) retry_ms: Option<i64>,
}

/// Columns of [`JobRow`], in the order [`JobRow::read`] takes them.
pub(super) const COLUMNS: &str = "j.seq, j.id, j.state, j.band, j.class, j.tenant, j.held, j.paused, j.epoch, \
     j.attempts, j.retries, j.losses, j.max_retries, j.events, j.node, j.engine, j.scenario, j.failure, \
     j.created_ms, j.active_ms, j.started_ms, j.ended_ms, j.retry_ms";

/// How many columns that are.
pub(super) const WIDTH: usize = 23;

/// The word at this place of a closed list.
pub(super) fn word<T: Copy>(all: &[T], index: i64, what: &str) -> Result<T, StoreError> {
    usize::try_from(index)
        .ok()
        .and_then(|index| all.get(index).copied())
        .ok_or_else(|| StoreError::Damaged(format!("{what} number {index}")))
}

/// The word of a row that may be empty.
pub(super) fn maybe<T: Copy>(all: &[T], index: Option<i64>, what: &str) -> Result<Option<T>, StoreError> {
    index.map(|index| word(all, index, what)).transpose()
}

impl JobRow {
    /// Reads a row.
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let step = "read a job";
        let number = |at: usize| row.get::<_, i64>(at).step(step);
        let id: [u8; 16] = row.get(1).step(step)?;
        let band = usize::try_from(number(3)?).ok().and_then(Band::from_index);
        Ok(Self {
            seq: number(0)?,
            id: JobUuid::from_bytes(id),
            state: word(JobState::ALL, number(2)?, "a state")?,
            band: band.ok_or_else(|| StoreError::Damaged("an unknown band".to_owned()))?,
            class: number(4)?,
            tenant: row.get::<_, Option<i64>>(5).step(step)?.unwrap_or(0),
            held: row.get(6).step(step)?,
            paused: row.get(7).step(step)?,
            epoch: Epoch(number(8)? as u64),
            attempts: row.get(9).step(step)?,
            used: Used {
                retries: row.get(10).step(step)?,
                losses: row.get(11).step(step)?,
            },
            max_retries: row.get(12).step(step)?,
            events: row.get(13).step(step)?,
            node: row.get(14).step(step)?,
            engine: word(Engine::ALL, number(15)?, "an engine")?,
            scenario: row.get(16).step(step)?,
            failure: maybe(FailureReason::ALL, row.get(17).step(step)?, "a failure")?,
            created_ms: number(18)?,
            active_ms: number(19)?,
            started_ms: row.get(20).step(step)?,
            ended_ms: row.get(21).step(step)?,
            retry_ms: row.get(22).step(step)?,
        })
    }

    /// Loads one job.
    pub(super) fn load(connection: &Connection, job: JobRef) -> Result<Self, StoreError> {
        let by = match job {
            JobRef::Id(_) => "id",
            JobRef::Sequence(_) => "seq",
        };
        let sql = format!("SELECT {COLUMNS} FROM jobs j WHERE j.{by} = ?1");
        let mut statement = connection.prepare_cached(&sql).step("look a job up")?;
        let read = |row: &Row<'_>| Ok(Self::read(row));
        let found = match job {
            JobRef::Id(id) => statement.query_row(params![id.as_bytes()], read),
            JobRef::Sequence(seq) => statement.query_row(params![seq], read),
        };
        found
            .optional()
            .step("look a job up")?
            .unwrap_or_else(|| Err(StoreError::NoJob(job.to_string())))
    }

    /// What the books know of it.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            seq: self.seq,
            state: self.state,
            place: Place {
                band: self.band,
                tenant: self.tenant,
                class: self.class,
            },
            held: self.held,
        }
    }
}

/// A step of a job: the trigger, and who and why for its history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move<'a> {
    pub(super) trigger: Trigger,
    pub(super) reason: &'a str,
    pub(super) node: Option<i64>,
    pub(super) attempt: Option<u32>,
}

/// Moves a job along the table and writes its row and its event. `job` carries every other change of the row. A step
/// the table does not list is refused with `hint` and changes nothing.
pub(super) fn transition(
    connection: &Connection,
    job: &mut JobRow,
    step: Move<'_>,
    now: Moment,
    hint: &'static str,
) -> Result<(), StoreError> {
    let before = job.state;
    let Some(next) = after(before, step.trigger) else {
        return Err(StoreError::WrongState {
            job: job.id.to_string(),
            state: before,
            hint,
        });
    };
    job.state = next;
    job.events += 1;
    job.active_ms = now.wall_ms;
    job.ended_ms = next.terminal().then_some(now.wall_ms);
    if !matches!(next, JobState::Assigned | JobState::Running) {
        job.epoch = Epoch(0);
        job.paused = false;
    }
    if next != JobState::Retrying {
        job.retry_ms = None;
    }
    save(connection, job)?;
    connection
        .prepare_cached(
            "INSERT INTO events (seq, n, at_ms, before, after, node, attempt, reason) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                job.seq,
                job.events,
                now.wall_ms,
                before as i64,
                next as i64,
                step.node,
                step.attempt,
                step.reason
            ])
        })
        .step("note a transition")?;
    Ok(())
}

/// Writes the row as it is.
pub(super) fn save(connection: &Connection, job: &JobRow) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, band = ?3, held = ?4, paused = ?5, epoch = ?6, attempts = ?7, retries = ?8, \
             losses = ?9, max_retries = ?10, events = ?11, node = ?12, failure = ?13, active_ms = ?14, \
             started_ms = ?15, ended_ms = ?16, retry_ms = ?17 WHERE seq = ?1",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                job.seq,
                job.state as i64,
                job.band.index() as i64,
                job.held,
                job.paused,
                job.epoch.0 as i64,
                job.attempts,
                job.used.retries,
                job.used.losses,
                job.max_retries,
                job.events,
                job.node,
                job.failure.map(|reason| reason as i64),
                job.active_ms,
                job.started_ms,
                job.ended_ms,
                job.retry_ms
            ])
        })
        .step("write a job")?;
    Ok(())
}

/// What people read of a job's fate. `None` leaves what is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome<'a> {
    pub(super) error: Option<&'a str>,
    pub(super) retry_reason: Option<&'a str>,
    pub(super) sla: Option<(bool, &'a str)>,
}

/// Writes it down.
pub(super) fn note(connection: &Connection, seq: Seq, outcome: &Outcome<'_>) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO outcomes (seq, error, retry_reason, sla_ok, sla_reason) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (seq) DO UPDATE SET error = coalesce(?2, error), retry_reason = coalesce(?3, retry_reason), \
             sla_ok = coalesce(?4, sla_ok), sla_reason = coalesce(?5, sla_reason)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                seq,
                outcome.error,
                outcome.retry_reason,
                outcome.sla.map(|sla| sla.0),
                outcome.sla.map(|sla| sla.1)
            ])
        })
        .step("note how a job ended")?;
    Ok(())
}

/// Forgets it, for a job that is opened again.
pub(super) fn forget_outcome(connection: &Connection, seq: Seq) -> Result<(), StoreError> {
    connection
        .execute("DELETE FROM outcomes WHERE seq = ?1", [seq])
        .step("forget how a job ended")?;
    Ok(())
}

/// The row of an attempt, as far as its fence and its end need it.
#[derive(Debug, Clone)]
pub(super) struct AttemptRow {
    pub(super) key: AttemptKey,
    pub(super) node: i64,
    pub(super) phase: AttemptPhase,
    pub(super) ending: Option<AttemptEnd>,
    /// It was to be ended: whatever its node says, its result is not the job's.
    pub(super) stopped: bool,
    pub(super) digest: Option<Vec<u8>>,
}

impl AttemptRow {
    /// Finds the attempt with this fence; `None` when there never was one, or its job was forgotten.
    pub(super) fn load(connection: &Connection, epoch: Epoch) -> Result<Option<Self>, StoreError> {
        let step = "look an attempt up";
        let mut statement = connection
            .prepare_cached(
                "SELECT j.id, a.attempt, a.node, a.phase, a.ending, a.stop IS NOT NULL, a.digest \
                 FROM attempts a JOIN jobs j ON j.seq = a.seq WHERE a.epoch = ?1",
            )
            .step(step)?;
        let found = statement
            .query_row([epoch.0 as i64], |row| {
                Ok((
                    row.get::<_, [u8; 16]>(0)?,
                    row.get::<_, u32>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get::<_, Option<i64>>(4)?,
                    row.get::<_, bool>(5)?,
                    row.get::<_, Option<Vec<u8>>>(6)?,
                ))
            })
            .optional()
            .step(step)?;
        let Some((id, attempt, node, phase, ending, stopped, digest)) = found else {
            return Ok(None);
        };
        Ok(Some(Self {
            key: AttemptKey {
                job_id: JobUuid::from_bytes(id),
                attempt,
                epoch,
            },
            node,
            phase: word(AttemptPhase::ALL, phase, "a phase")?,
            ending: maybe(AttemptEnd::ALL, ending, "an ending")?,
            stopped,
            digest,
        }))
    }
}

/// How an attempt is over.
#[derive(Debug, Clone)]
pub(super) struct Ending<'a> {
    pub(super) end: AttemptEnd,
    pub(super) failure: Option<FailureReason>,
    /// The node's last word, as JSON, and its hash.
    pub(super) result: Option<(&'a str, &'a [u8])>,
}

/// Closes an attempt.
pub(super) fn end_attempt(
    connection: &Connection,
    epoch: Epoch,
    ending: &Ending<'_>,
    now: Moment,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE attempts SET phase = 3, ending = ?2, failure = ?3, ended_ms = ?4, result = ?5, digest = ?6 \
             WHERE epoch = ?1 AND phase < 3",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                epoch.0 as i64,
                ending.end as i64,
                ending.failure.map(|reason| reason as i64),
                now.wall_ms,
                ending.result.map(|result| result.0),
                ending.result.map(|result| result.1)
            ])
        })
        .step("close an attempt")?;
    Ok(())
}
