//! The ledger's thread: what waits, when to write, what to acknowledge, when to try again.
//!
//! Waiting costs nothing: with no record unsaved and no acknowledgement open the thread sleeps until the next order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::connect::{Database, Place, Trouble};
use super::health::LedgerHealth;
use super::store::{self, Written};
use super::{LedgerError, Retention, schema};
use crate::control::types::JobKey;
use crate::engine::handle::SaveOrder;

/// Records in one commit. At about 50 µs a record a batch takes 50 ms, so a storm costs 20 fsyncs a second.
const BATCH: usize = 1024;
/// Least time between two commits. One costs a hundred times what a further record in it does, and a job that ends
/// meanwhile is written once. The first order after a rest is written at once.
const GATHER: Duration = Duration::from_millis(10);
/// First and longest pause between attempts to write.
const WRITE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// First and longest pause between attempts to acknowledge. The engine empties its queue in microseconds.
const ACK_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Closed records between two prunings, and the most one pruning deletes, so that it keeps up and never takes long.
const PRUNE_EVERY: usize = 1000;
const PRUNE_MOST: u32 = 5000;

/// A pause that doubles.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Pause {
    fn after(previous: Option<Self>, now: Instant, (first, longest): (Duration, Duration)) -> Self {
        let length = previous.map_or(first, |pause| (pause.length * 2).min(longest));
        Self {
            until: now + length,
            length,
        }
    }
}

/// A record that is not on disk.
#[derive(Debug)]
struct Waiting {
    order: SaveOrder,
    /// When the job's first unwritten record came.
    since: Instant,
}

pub(super) struct Writer<A> {
    pub(super) database: Database,
    health: LedgerHealth,
    retention: Retention,
    acknowledge: A,
    /// One entry a job, the latest: bounded by the records the kernel's map holds.
    backlog: BTreeMap<JobKey, Waiting>,
    /// Since when the oldest of them waits.
    oldest: Option<Instant>,
    unacknowledged: Vec<JobKey>,
    write_pause: Option<Pause>,
    ack_pause: Option<Pause>,
    closed_since_prune: usize,
    /// Orders taken in so far.
    absorbed: u64,
    /// When the last commit was done.
    committed_at: Option<Instant>,
}

impl<A: FnMut(&[JobKey]) -> bool> Writer<A> {
    pub(super) fn new(
        database: Database,
        health: LedgerHealth,
        retention: Retention,
        acknowledge: A,
    ) -> Self {
        Self {
            database,
            health,
            retention,
            acknowledge,
            backlog: BTreeMap::new(),
            oldest: None,
            unacknowledged: Vec::new(),
            write_pause: None,
            ack_pause: None,
            // The first closed record prunes what piled up while no governor ran.
            closed_since_prune: PRUNE_EVERY,
            absorbed: 0,
            committed_at: None,
        }
    }

    /// Serves the queue until every sender is gone.
    pub(super) fn run(mut self, orders: &Receiver<SaveOrder>) {
        loop {
            let received = match self.wait(Instant::now()) {
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => orders.recv_timeout(pause),
            };
            match received {
                Ok(order) => {
                    self.absorb(order);
                    std::thread::sleep(self.rest());
                    orders.try_iter().take(BATCH).for_each(|order| self.absorb(order));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            self.step(Instant::now());
        }
    }

    /// What is left of the time between two commits.
    fn rest(&self) -> Duration {
        let since = self.committed_at.map(|at| at.elapsed());
        since.map_or(Duration::ZERO, |since| GATHER.saturating_sub(since))
    }

    /// Takes an order in. The latest record of a job replaces the earlier one, except that nothing reopens a closed one.
    pub(super) fn absorb(&mut self, order: SaveOrder) {
        let key = order.job.key;
        self.absorbed += 1;
        let known = self.backlog.get(&key);
        if !order.closed && known.is_some_and(|known| known.order.closed) {
            return;
        }
        let since = known.map_or_else(Instant::now, |known| known.since);
        self.oldest = self.oldest.or(Some(since));
        self.backlog.insert(key, Waiting { order, since });
        self.health.set_backlog(self.backlog.len(), self.oldest);
    }

    /// Writes and acknowledges whatever is due.
    pub(super) fn step(&mut self, now: Instant) {
        let due = |pause: Option<Pause>| pause.is_none_or(|pause| pause.until <= now);
        while !self.backlog.is_empty() && due(self.write_pause) {
            self.write_batch(now);
            if self.write_pause.is_some() {
                break;
            }
        }
        if self.backlog.is_empty() {
            self.health.set_written(self.absorbed);
        }
        if due(self.ack_pause) {
            self.acknowledge(now);
        }
    }

    /// How long to sleep at most; `None` for "until an order comes".
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let write = self.write_pause.filter(|_| !self.backlog.is_empty());
        let ack = self.ack_pause.filter(|_| !self.unacknowledged.is_empty());
        let until = [write, ack]
            .into_iter()
            .flatten()
            .map(|pause| pause.until)
            .min()?;
        Some(until.saturating_duration_since(now))
    }

    fn write_batch(&mut self, now: Instant) {
        let mut batch = Vec::with_capacity(self.backlog.len().min(BATCH));
        while batch.len() < BATCH
            && let Some((_, waiting)) = self.backlog.pop_first()
        {
            batch.push(waiting);
        }
        match self.commit(&batch) {
            Ok(written) => {
                self.committed(&batch, &written);
                self.oldest = self.backlog.values().map(|waiting| waiting.since).min();
            }
            Err(trouble) => {
                // Nothing was committed, so all of it waits on.
                self.backlog
                    .extend(batch.into_iter().map(|waiting| (waiting.order.job.key, waiting)));
                self.failed(now, trouble);
            }
        }
        self.health.set_backlog(self.backlog.len(), self.oldest);
    }

    fn commit(&mut self, batch: &[Waiting]) -> Result<Vec<Written>, Trouble> {
        let boot_id = self.database.boot_id.clone();
        let connection = self.database.connect()?;
        let orders = batch.iter().map(|waiting| &waiting.order);
        Ok(store::save(connection, &boot_id, orders)?)
    }

    fn committed(&mut self, batch: &[Waiting], written: &[Written]) {
        self.write_pause = None;
        self.committed_at = Some(Instant::now());
        if let Some(since) = self.health.recover() {
            tracing::info!(%since, "ledger {} can write again; nothing was lost", self.database.place);
        }
        let orders = batch.iter().map(|waiting| &waiting.order);
        for (order, written) in orders.zip(written).filter(|(order, _)| order.closed) {
            self.unacknowledged.push(order.job.key);
            if *written == Written::Stored {
                let report = &order.job.report;
                let reason = report.exit_reason.as_deref().unwrap_or("none");
                tracing::info!(job = %report.job_id, pid = report.pid, reason, exit_code = report.exit_code, "job closed");
                self.health.count_closed(reason);
                self.closed_since_prune += 1;
            }
        }
        if self.closed_since_prune > PRUNE_EVERY {
            self.closed_since_prune = 0;
            self.prune();
        }
    }

    /// A failure here is only logged: what should be gone stays a while longer, and real trouble shows at the next write.
    fn prune(&mut self) {
        let Ok(connection) = self.database.connect() else {
            return;
        };
        let now_us = jiff::Timestamp::now().as_microsecond();
        let pruned = store::prune(connection, self.retention, now_us, PRUNE_MOST).and_then(|jobs| {
            connection.pragma_update(None, "incremental_vacuum", PRUNE_MOST)?;
            Ok(jobs)
        });
        match pruned {
            Ok(0) => {}
            Ok(jobs) => tracing::debug!(jobs, "forgot old records"),
            Err(error) => tracing::warn!(%error, "old records of the ledger could not be deleted"),
        }
    }

    fn failed(&mut self, now: Instant, trouble: Trouble) {
        let pause = Pause::after(self.write_pause, now, WRITE_PAUSE);
        self.write_pause = Some(pause);
        let full = matches!(trouble, Trouble::Full(_));
        let cured = match &trouble {
            Trouble::Corrupt(error) => self.database.set_aside(error).map(|()| true),
            Trouble::Newer { .. } | Trouble::Full(_) | Trouble::Other(_) => Ok(false),
        };
        let trouble = match cured {
            Ok(true) => {
                // The next pass begins a new file; no need to wait for it.
                self.write_pause = Some(Pause { until: now, ..pause });
                trouble
            }
            Ok(false) => trouble,
            Err(another) => another,
        };
        if !full {
            self.database.connection = None;
        }
        if let Err(error) = degrade(&self.database, &self.health, trouble)
            && self.health.fail(error.to_string())
        {
            tracing::error!("{error}");
        }
    }

    fn acknowledge(&mut self, now: Instant) {
        if self.unacknowledged.is_empty() {
            return;
        }
        if (self.acknowledge)(&self.unacknowledged) {
            self.unacknowledged.clear();
            self.ack_pause = None;
        } else {
            self.ack_pause = Some(Pause::after(self.ack_pause, now, ACK_PAUSE));
        }
    }

    /// The engine has gone: one last attempt, then the truth about what is left.
    fn finish(mut self) {
        let now = Instant::now();
        self.write_pause = None;
        self.step(now);
        // A file that was just set aside needs a second pass.
        self.step(now);
        if !self.backlog.is_empty() {
            tracing::warn!(
                records = self.backlog.len(),
                "the ledger ends with unsaved records; those of the kernel tier stay in the kernel's map and are saved \
                 by the next governor"
            );
        }
    }
}

/// Notes trouble that will pass, and logs it once with what to do. A newer schema is the one that will not.
pub(super) fn degrade(
    database: &Database,
    health: &LedgerHealth,
    trouble: Trouble,
) -> Result<(), LedgerError> {
    let place = &database.place;
    let text = match trouble {
        Trouble::Newer { found } => {
            let path = match place {
                Place::File(path) => path.clone(),
                Place::Memory => std::path::PathBuf::from(":memory:"),
            };
            return Err(LedgerError::NewerSchema {
                path,
                found,
                known: schema::MIGRATIONS.len(),
            });
        }
        Trouble::Full(error) => format!("ledger {place} cannot be written: {error}; free space on its disk"),
        Trouble::Corrupt(error) => format!("ledger {place} was damaged: {error}; a new one is begun"),
        Trouble::Other(error) => {
            format!(
                "ledger {place} cannot be written: {error}; make the file and its directory writable for root"
            )
        }
    };
    if health.fail(text.clone()) {
        tracing::error!(
            "{text}. Records wait in memory and in the kernel meanwhile, and the write is tried again at least every {} s",
            WRITE_PAUSE.1.as_secs()
        );
    }
    Ok(())
}
