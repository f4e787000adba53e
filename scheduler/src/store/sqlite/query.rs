//! What readers ask: one job, a page of jobs, events. Runs on read-only connections beside the writer.

use std::fmt::Write as _;

use ffrtmp_api::{
    Attempt, AttemptEnd, AttemptPhase, Cursor, Epoch, FailureReason, Job, JobEvent, JobFilter, JobList,
    JobRef, JobRequest, JobState, JobUuid, NodeId, Paging, StateTransition,
};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::nodes::time;
use super::overlay::Overlay;
use super::rows::{COLUMNS, JobRow, WIDTH, maybe, word};
use crate::core::sla;
use crate::store::error::{Step, StoreError};

/// The joins that make a whole job of its row.
const WHOLE: &str = "s.body, o.error, o.retry_reason, o.sla_ok, o.sla_reason, n.name, t.name, n.info ->> '$.name' \
     FROM jobs j JOIN specs s ON s.seq = j.seq LEFT JOIN outcomes o ON o.seq = j.seq \
     LEFT JOIN nodes n ON n.id = j.node LEFT JOIN tenants t ON t.id = j.tenant";

fn node_id(name: Option<String>) -> Result<Option<NodeId>, StoreError> {
    name.map(|name| NodeId::parse(&name).map_err(|error| StoreError::Damaged(error.to_string())))
        .transpose()
}

/// A job out of its joined row.
fn job(row: &Row<'_>, overlay: &Overlay) -> Result<Job, StoreError> {
    let step = "read a job";
    let hot = JobRow::read(row)?;
    let body: String = row.get(WIDTH).step(step)?;
    let request: JobRequest = serde_json::from_str(&body).step(step)?;
    let (progress, moved_ms) = match overlay.get(hot.epoch) {
        Some((progress, at)) => (Some(progress.clone()), *at),
        None => (None, hot.active_ms),
    };
    let done = (hot.state == JobState::Completed).then_some(100.0);
    Ok(Job {
        id: hot.id,
        sequence_number: hot.seq,
        tenant_id: row.get(WIDTH + 6).step(step)?,
        limits: request.limits().unwrap_or_default(),
        sla_eligible: sla::eligible(&request),
        resource_limits: request.resources().unwrap_or_default(),
        engine: hot.engine,
        user_id: request.user_id,
        scenario: hot.scenario,
        confidence: request.confidence.unwrap_or_else(|| "auto".to_owned()),
        encoder: request.encoder,
        classification: request.classification,
        wrapper_enabled: request.wrapper_enabled,
        wrapper_constraints: request.wrapper_constraints,
        parameters: request.parameters,
        status: hot.state,
        held: hot.held,
        paused: hot.paused,
        queue: hot.band.queue,
        priority: hot.band.priority,
        progress: progress.as_ref().and_then(|progress| progress.percent).or(done),
        progress_detail: progress,
        node_id: node_id(row.get(WIDTH + 5).step(step)?)?,
        node_name: row.get(WIDTH + 7).step(step)?,
        epoch: Some(hot.epoch).filter(|epoch| *epoch != Epoch(0)),
        attempt: hot.attempts,
        created_at: time(hot.created_ms),
        started_at: hot.started_ms.map(time),
        last_activity_at: time(hot.active_ms.max(moved_ms)),
        completed_at: hot.ended_ms.map(time),
        retry_at: hot.retry_ms.map(time),
        retry_count: hot.used.retries,
        max_retries: hot.max_retries,
        node_losses: hot.used.losses,
        retry_reason: row.get(WIDTH + 2).step(step)?,
        error: row.get(WIDTH + 1).step(step)?,
        failure_reason: hot.failure,
        platform_sla_compliant: row.get(WIDTH + 3).step(step)?,
        platform_sla_reason: row.get(WIDTH + 4).step(step)?,
        state_transitions: None,
        attempts: None,
    })
}

/// One job with its history and attempts.
pub(super) fn get(connection: &Connection, overlay: &Overlay, of: JobRef) -> Result<Job, StoreError> {
    let step = "read a job";
    let seq = JobRow::load(connection, of)?.seq;
    let sql = format!("SELECT {COLUMNS}, {WHOLE} WHERE j.seq = ?1");
    let mut statement = connection.prepare_cached(&sql).step(step)?;
    let mut rows = statement.query([seq]).step(step)?;
    let row = rows
        .next()
        .step(step)?
        .ok_or_else(|| StoreError::NoJob(of.to_string()))?;
    let mut found = job(row, overlay)?;
    let events = "SELECT e.id, e.n, j.id, e.seq, n.name, e.attempt, e.before, e.after, e.at_ms, e.reason \
                  FROM events e JOIN jobs j ON j.seq = e.seq LEFT JOIN nodes n ON n.id = e.node \
                  WHERE e.seq = ?1 ORDER BY e.n";
    let history = collect(connection, events, seq, event)?;
    found.state_transitions = Some(history.into_iter().map(|event| event.step).collect());
    let attempts = "SELECT a.attempt, a.epoch, n.name, a.phase, a.ending, a.failure, a.granted_ms, a.started_ms, \
                    a.ended_ms, a.result FROM attempts a JOIN nodes n ON n.id = a.node \
                    WHERE a.seq = ?1 ORDER BY a.attempt";
    found.attempts = Some(collect(connection, attempts, seq, attempt)?);
    Ok(found)
}

fn collect<T>(
    connection: &Connection,
    sql: &str,
    parameter: i64,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).step("read")?;
    let mut rows = statement.query([parameter]).step("read")?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().step("read")? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn attempt(row: &Row<'_>) -> Result<Attempt, StoreError> {
    let step = "read an attempt";
    let name: String = row.get(2).step(step)?;
    let result: Option<String> = row.get(9).step(step)?;
    Ok(Attempt {
        attempt: row.get(0).step(step)?,
        epoch: Epoch(row.get::<_, i64>(1).step(step)? as u64),
        node_id: NodeId::parse(&name).map_err(|error| StoreError::Damaged(error.to_string()))?,
        phase: word(AttemptPhase::ALL, row.get(3).step(step)?, "a phase")?,
        end: maybe(AttemptEnd::ALL, row.get(4).step(step)?, "an ending")?,
        failure_reason: maybe(FailureReason::ALL, row.get(5).step(step)?, "a failure")?,
        granted_at: time(row.get(6).step(step)?),
        started_at: row.get::<_, Option<i64>>(7).step(step)?.map(time),
        ended_at: row.get::<_, Option<i64>>(8).step(step)?.map(time),
        result: result
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .step(step)?,
    })
}

fn event(row: &Row<'_>) -> Result<JobEvent, StoreError> {
    let step = "read an event";
    Ok(JobEvent {
        id: row.get(0).step(step)?,
        n: row.get(1).step(step)?,
        job_id: JobUuid::from_bytes(row.get(2).step(step)?),
        sequence_number: row.get(3).step(step)?,
        node_id: node_id(row.get(4).step(step)?)?,
        attempt: row.get(5).step(step)?,
        step: StateTransition {
            from: maybe(JobState::ALL, row.get(6).step(step)?, "a state")?,
            to: word(JobState::ALL, row.get(7).step(step)?, "a state")?,
            timestamp: time(row.get(8).step(step)?),
            reason: row.get(9).step(step)?,
        },
    })
}

/// Events after a number, oldest first.
pub(super) fn events(connection: &Connection, after: i64, limit: u32) -> Result<Vec<JobEvent>, StoreError> {
    let forgotten: i64 = connection
        .query_row(
            "SELECT value FROM meta WHERE key = 'events_forgotten'",
            [],
            |row| row.get(0),
        )
        .step("read events")?;
    if 0 < after && after < forgotten {
        return Err(StoreError::Gone(forgotten));
    }
    let sql = format!(
        "SELECT e.id, e.n, j.id, e.seq, n.name, e.attempt, e.before, e.after, e.at_ms, e.reason FROM events e \
         JOIN jobs j ON j.seq = e.seq LEFT JOIN nodes n ON n.id = e.node WHERE e.id > ?1 ORDER BY e.id LIMIT {}",
        limit.clamp(1, 1000)
    );
    collect(connection, &sql, after, event)
}

/// A page of jobs, newest first.
pub(super) fn list(
    connection: &Connection,
    overlay: &Overlay,
    filter: &JobFilter,
    paging: Paging,
) -> Result<JobList, StoreError> {
    let step = "list jobs";
    let refuse = |error| StoreError::Invalid(vec![error]);
    filter.validate().map_err(refuse)?;
    paging.validate().map_err(refuse)?;
    let (conditions, values) = conditions(filter, paging);
    let limit = paging.limit as usize;
    let sql = format!(
        "SELECT {COLUMNS}, {WHOLE} WHERE {conditions} ORDER BY j.seq DESC LIMIT {}",
        limit + 1
    );
    let mut statement = connection.prepare_cached(&sql).step(step)?;
    let mut rows = statement.query(params_from_iter(values)).step(step)?;
    let mut jobs = Vec::with_capacity(limit);
    while let Some(row) = rows.next().step(step)? {
        jobs.push(job(row, overlay)?);
    }
    let more = limit < jobs.len();
    jobs.truncate(limit);
    let next_cursor = jobs
        .last()
        .filter(|_| more)
        .map(|job| Cursor::behind(job.sequence_number));
    Ok(JobList {
        count: jobs.len(),
        jobs,
        next_cursor,
    })
}

/// The filter as SQL. States are written as numbers into the text, because only then can the partial indexes serve
/// them; everything that comes from outside is a parameter.
fn conditions(filter: &JobFilter, paging: Paging) -> (String, Vec<Value>) {
    let mut sql = String::from("1");
    let mut values: Vec<Value> = Vec::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        let _ = write!(sql, " AND {condition} ?{}", values.len());
    };
    if let Some(cursor) = paging.cursor {
        add("j.seq <", cursor.number().into());
    }
    if let Some(scenario) = &filter.scenario {
        add("j.scenario =", scenario.clone().into());
    }
    if let Some(engine) = filter.engine {
        add("j.engine =", (engine as i64).into());
    }
    if let Some(tenant) = &filter.tenant {
        add("t.name =", tenant.clone().into());
    }
    if let Some(node) = &filter.node {
        add("n.name =", node.as_str().to_owned().into());
    }
    if let Some(after) = filter.created_after {
        add("j.created_ms >=", after.as_millisecond().into());
    }
    if let Some(before) = filter.created_before {
        add("j.created_ms <", before.as_millisecond().into());
    }
    if let Some(queue) = filter.queue {
        let first = queue as i64 * 5;
        let _ = write!(sql, " AND j.band BETWEEN {first} AND {}", first + 4);
    }
    if let Some(priority) = filter.priority {
        let _ = write!(sql, " AND j.band % 5 = {}", priority as i64);
    }
    if !filter.status.is_empty() {
        let states: Vec<String> = filter
            .status
            .iter()
            .map(|state| {
                let side = if state.terminal() { ">= 5" } else { "< 5" };
                format!("(j.state = {} AND j.state {side})", *state as i64)
            })
            .collect();
        let _ = write!(sql, " AND ({})", states.join(" OR "));
    }
    (sql, values)
}
