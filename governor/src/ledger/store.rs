//! The only SQL of the governor: a record to rows, rows to records, and what is forgotten when.
//!
//! Everything here runs in the caller's transaction or opens one of its own; nothing here retries or judges errors.

use ffrtmp_abi::ProcessKey;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::Retention;
use crate::control::types::{JobKey, JobView};
use crate::engine::handle::SaveOrder;
use crate::host::process::tick_ns;

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is new, or newer than what was there.
    Stored,
    /// It was closed already; a closed record is never written again.
    AlreadyClosed,
}

/// Writes a batch in one transaction. Saving the same record twice leaves what the first time left.
pub(super) fn save<'a>(
    connection: &mut Connection,
    boot_id: &str,
    orders: impl Iterator<Item = &'a SaveOrder>,
) -> rusqlite::Result<Vec<Written>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let written = orders
        .map(|order| save_one(&transaction, boot_id, order))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    transaction.commit()?;
    Ok(written)
}

fn save_one(transaction: &Transaction<'_>, boot_id: &str, order: &SaveOrder) -> rusqlite::Result<Written> {
    let key = order.job.key.0;
    let known = transaction
        .prepare_cached("SELECT id, closed FROM jobs WHERE boot_id = ?1 AND pid = ?2 AND start_ns = ?3")?
        .query_row(params![boot_id, key.pid, integer(key.start)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
        })
        .optional()?;
    let id = match known {
        Some((_, true)) => return Ok(Written::AlreadyClosed),
        Some((id, false)) => {
            update_job(transaction, id, order)?;
            id
        }
        None => insert_job(transaction, boot_id, order)?,
    };
    save_process(transaction, id, &order.job)?;
    save_exit(transaction, id, &order.job)?;
    save_usage(transaction, id, &order.job)?;
    save_warnings(transaction, id, &order.job)?;
    Ok(Written::Stored)
}

fn insert_job(transaction: &Transaction<'_>, boot_id: &str, order: &SaveOrder) -> rusqlite::Result<i64> {
    let job = &order.job;
    transaction
        .prepare_cached(
            "INSERT INTO jobs (boot_id, pid, start_ns, job_id, found, mode, intent, sla_eligible, class, rule, tier,
                placement, state, started_us, ended_us, closed, view)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .insert(params![
            boot_id,
            job.key.0.pid,
            integer(job.key.0.start),
            job.report.job_id.as_str(),
            word(&job.found)?,
            job.report.mode,
            job.report.intent.as_str(),
            job.report.sla_eligible,
            job.report.class,
            job.report.rule,
            job.report.tier,
            job.report.placement.mode,
            job.state,
            job.report.start_time.as_microsecond(),
            job.report.end_time.map(jiff::Timestamp::as_microsecond),
            order.closed,
            json(job.as_ref())?,
        ])
}

fn update_job(transaction: &Transaction<'_>, id: i64, order: &SaveOrder) -> rusqlite::Result<()> {
    let job = &order.job;
    transaction
        .prepare_cached(
            "UPDATE jobs SET job_id = ?2, mode = ?3, intent = ?4, sla_eligible = ?5, class = ?6, rule = ?7, tier = ?8,
                placement = ?9, state = ?10, started_us = ?11, ended_us = ?12, closed = ?13, view = ?14, found = ?15
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            job.report.job_id.as_str(),
            job.report.mode,
            job.report.intent.as_str(),
            job.report.sla_eligible,
            job.report.class,
            job.report.rule,
            job.report.tier,
            job.report.placement.mode,
            job.state,
            job.report.start_time.as_microsecond(),
            job.report.end_time.map(jiff::Timestamp::as_microsecond),
            order.closed,
            json(job.as_ref())?,
            word(&job.found)?,
        ])?;
    Ok(())
}

fn save_process(transaction: &Transaction<'_>, id: i64, job: &JobView) -> rusqlite::Result<()> {
    let command = job.report.command.as_ref().map(json).transpose()?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO processes (job, pid, start_ns, uid, command) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            id,
            job.key.0.pid,
            integer(job.key.0.start),
            job.uid,
            command
        ])?;
    Ok(())
}

fn save_exit(transaction: &Transaction<'_>, id: i64, job: &JobView) -> rusqlite::Result<()> {
    let Some(reason) = &job.report.exit_reason else {
        return Ok(());
    };
    let report = &job.report;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO exits (job, exit_code, exit_reason, signal, killed_by, sla_compliant, sla_reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            id,
            report.exit_code,
            reason,
            report.signal,
            report.killed_by.as_ref().map(ToString::to_string),
            report.platform_sla_compliant,
            report.platform_sla_reason,
        ])?;
    Ok(())
}

fn save_usage(transaction: &Transaction<'_>, id: i64, job: &JobView) -> rusqlite::Result<()> {
    let usage = &job.report.usage;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO usage (job, cpu_sec, user_sec, system_sec, read_bytes, write_bytes, net_rx_bytes,
                net_tx_bytes, memory_peak_bytes, processes, voluntary_switches, involuntary_switches, throttled_sec)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            id,
            usage.cpu_sec,
            usage.user_sec,
            usage.system_sec,
            usage.read_bytes.map(integer),
            usage.write_bytes.map(integer),
            usage.net_rx_bytes.map(integer),
            usage.net_tx_bytes.map(integer),
            usage.memory_peak_bytes.map(integer),
            usage.processes,
            usage.voluntary_switches.map(integer),
            usage.involuntary_switches.map(integer),
            usage.throttled_sec,
        ])?;
    Ok(())
}

fn save_warnings(transaction: &Transaction<'_>, id: i64, job: &JobView) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM warnings WHERE job = ?1")?
        .execute([id])?;
    let mut insert: CachedStatement<'_> =
        transaction.prepare_cached("INSERT INTO warnings (job, seq, text) VALUES (?1, ?2, ?3)")?;
    for (seq, text) in (0i64..).zip(&job.report.limits.warnings) {
        insert.execute(params![id, seq, text])?;
    }
    Ok(())
}

/// Closes what an earlier boot left open: those processes ended with their machine, and nobody saw how. Gives their
/// number.
pub(super) fn close_earlier_boots(connection: &mut Connection, boot_id: &str) -> rusqlite::Result<usize> {
    const WHY: &str = "the machine went down before the end was seen";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "INSERT OR IGNORE INTO exits (job, exit_reason) SELECT id, 'unobserved' FROM jobs WHERE closed = 0 AND boot_id <> ?1",
        [boot_id],
    )?;
    let closed = transaction.execute(
        "UPDATE jobs SET closed = 1, state = 'closed', view = json_set(view, '$.state', 'closed', '$.live', 0,
            '$.report.exit_reason', coalesce(json_extract(view, '$.report.exit_reason'), 'unobserved'),
            '$.report.exit', coalesce(json_extract(view, '$.report.exit'),
                json_object('kind', 'unobserved', 'why', ?2)))
         WHERE closed = 0 AND boot_id <> ?1",
        [boot_id, WHY],
    )?;
    transaction.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('boot_id', ?1)",
        [boot_id],
    )?;
    transaction.commit()?;
    Ok(closed)
}

/// Deletes closed jobs beyond the retention, at most `most` of them, oldest first. Gives how many.
pub(super) fn prune(
    connection: &mut Connection,
    retention: Retention,
    now_us: i64,
    most: u32,
) -> rusqlite::Result<usize> {
    let oldest_us = now_us.saturating_sub(i64::try_from(retention.max_age.as_micros()).unwrap_or(i64::MAX));
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let aged = transaction.execute(
        "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE closed = 1 AND coalesce(ended_us, started_us) < ?1
            ORDER BY coalesce(ended_us, started_us) LIMIT ?2)",
        params![oldest_us, most],
    )?;
    let closed: i64 =
        transaction.query_row("SELECT count(*) FROM jobs WHERE closed = 1", [], |row| row.get(0))?;
    let excess = closed
        .saturating_sub(integer(retention.max_jobs))
        .clamp(0, i64::from(most));
    let counted = transaction.execute(
        "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE closed = 1 ORDER BY id LIMIT ?1)",
        [excess],
    )?;
    transaction.commit()?;
    Ok(aged + counted)
}

/// Which records to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// Every closed one.
    Closed,
    /// Every open one; those of earlier boots were closed when the ledger was opened.
    Open,
    /// Those with this label, open ones too.
    Label(&'a str),
    /// Those with this pid and start, of any boot.
    Key(JobKey),
}

/// The newest records first, at most `limit`. A record whose stored form this program cannot read is left out and
/// logged, so that one bad row does not hide the others.
pub(super) fn read(connection: &Connection, which: Which<'_>, limit: u32) -> rusqlite::Result<Vec<JobView>> {
    let rows: Vec<String> = match which {
        Which::Closed => connection
            .prepare("SELECT view FROM jobs WHERE closed = 1 ORDER BY id DESC LIMIT ?1")?
            .query_map([limit], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?,
        Which::Open => connection
            .prepare("SELECT view FROM jobs WHERE closed = 0 ORDER BY id DESC LIMIT ?1")?
            .query_map([limit], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?,
        Which::Label(label) => connection
            .prepare("SELECT view FROM jobs WHERE job_id = ?1 ORDER BY id DESC LIMIT ?2")?
            .query_map(params![label, limit], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?,
        Which::Key(key) => connection
            .prepare("SELECT view FROM jobs WHERE pid = ?1 AND start_ns = ?2 ORDER BY id DESC LIMIT ?3")?
            .query_map(params![key.0.pid, integer(key.0.start), limit], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?,
    };
    let parsed = rows.iter().filter_map(|text| match serde_json::from_str(text) {
        Ok(view) => Some(view),
        Err(error) => {
            tracing::warn!(%error, "a record of the ledger is left out: its form is not known");
            None
        }
    });
    Ok(parsed.collect())
}

/// Which of these keys have a closed record. A governor below the kernel tier wrote start times floored to clock ticks.
pub(super) fn closed_among(
    connection: &Connection,
    boot_id: &str,
    keys: &[ProcessKey],
) -> rusqlite::Result<Vec<ProcessKey>> {
    let mut statement = connection.prepare(
        "SELECT 1 FROM jobs WHERE boot_id = ?1 AND pid = ?2 AND start_ns IN (?3, ?4) AND closed = 1",
    )?;
    let tick_ns = tick_ns();
    let mut closed = Vec::new();
    for key in keys {
        let floored = key.start / tick_ns * tick_ns;
        if statement.exists(params![boot_id, key.pid, integer(key.start), integer(floored)])? {
            closed.push(*key);
        }
    }
    Ok(closed)
}

/// SQLite's integers are signed; 2^63 ns are 292 years and 2^63 bytes 8 EiB, so nothing real is cut.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The word of an enum whose variants have no fields.
fn word<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    Ok(json(value)?.trim_matches('"').to_owned())
}
