//! The one place that writes: a connection, the books, and batches of commands in one commit.
//!
//! A command first writes its rows and then tells the books. When the database fails under a command its savepoint is
//! rolled back; when a commit fails everything of the batch is. In both cases the books are read anew, because the
//! disk is the truth. Answers leave only after the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use ffrtmp_api::{ClaimResponse, Epoch};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::claim::Waiter;
use super::overlay::Overlay;
use super::restore;
use crate::core::blocklist::NodeNumber;
use crate::core::book::Book;
use crate::core::policy::Policy;
use crate::core::{ClassId, Moment};
use crate::store::error::{Step, StoreError};

/// One command that waits for its commit.
pub(super) trait Task: Send {
    /// Does it. The result is kept until [`answer`](Self::answer).
    fn run(&mut self, engine: &mut Engine, now: Moment) -> Result<(), StoreError>;
    /// Answers it, after the commit, or with the error that undid it.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// How long finished work is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds a finished job is kept; `None` keeps all.
    pub jobs_ms: Option<i64>,
}

impl Default for Retention {
    /// Seven days, the predecessor's default.
    fn default() -> Self {
        Self {
            jobs_ms: Some(7 * 86_400_000),
        }
    }
}

/// Tells how much space is left for the database, in bytes; `None` when it cannot be read.
pub type FreeSpace = Box<dyn Fn() -> Option<u64> + Send>;

/// The writer's state.
pub struct Engine {
    pub(super) connection: Connection,
    pub(super) book: Book,
    pub(super) retention: Retention,
    pub(super) waiters: Vec<Waiter>,
    /// Jobs that became ready in this batch, by class.
    pub(super) fresh: BTreeMap<ClassId, u64>,
    /// Nodes whose waiting claims are looked at again.
    pub(super) recheck: Recheck,
    /// The last claim of each node that got something, should its answer be lost.
    pub(super) last_claims: BTreeMap<NodeNumber, (String, Vec<Epoch>)>,
    /// Versions of each node's orders.
    pub(super) bells: BTreeMap<NodeNumber, watch::Sender<u64>>,
    /// Nodes that have a new order, once it is committed.
    rung: BTreeSet<NodeNumber>,
    pub(super) next_epoch: u64,
    pub(super) last_event: watch::Sender<i64>,
    pub(super) overlay: Arc<RwLock<Overlay>>,
    /// Claims to answer after the commit.
    pub(super) granted: Vec<(Waiter, ClaimResponse)>,
    pub(super) swept_ms: u64,
    pub(super) disk: Disk,
    pub(super) commits: u64,
    pub(super) commands: u64,
}

/// Which waiting claims are looked at again although no job became ready.
#[derive(Debug, Default)]
pub(super) struct Recheck {
    nodes: BTreeSet<NodeNumber>,
    all: bool,
}

impl Recheck {
    /// A slot of this node became free.
    pub(super) fn node(&mut self, node: NodeNumber) {
        self.nodes.insert(node);
    }

    /// Something changed that concerns every node.
    pub(super) fn everyone(&mut self) {
        self.all = true;
    }

    /// True when nothing is to be looked at.
    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.nodes.is_empty()
    }

    /// True when this node's claims are to be looked at.
    pub(super) fn concerns(&self, node: NodeNumber) -> bool {
        self.all || self.nodes.contains(&node)
    }
}

/// What is known of the disk.
pub(super) struct Disk {
    free: FreeSpace,
    /// Submissions are refused below this many free bytes.
    pub(super) reserve: u64,
    asked_ms: Option<u64>,
    pub(super) last: Option<u64>,
    /// Boot time until which a commit that found the disk full keeps submissions out.
    full_until_ms: u64,
}

impl Disk {
    pub(super) fn new(free: FreeSpace, reserve: u64) -> Self {
        Self {
            free,
            reserve,
            asked_ms: None,
            last: None,
            full_until_ms: 0,
        }
    }

    /// True when submissions are refused. Asks the system once a second at most.
    pub(super) fn full(&mut self, now: Moment) -> bool {
        if self.asked_ms.is_none_or(|asked| 1_000 <= now.since(asked)) {
            self.asked_ms = Some(now.boot_ms);
            self.last = (self.free)();
        }
        now.boot_ms < self.full_until_ms || self.last.is_some_and(|free| free < self.reserve)
    }

    fn found_full(&mut self, now: Moment) {
        self.full_until_ms = now.boot_ms + 1_000;
    }
}

impl Engine {
    /// Reads the books from the disk.
    pub(super) fn new(
        connection: Connection,
        policy: &Policy,
        retention: Retention,
        disk: Disk,
        now: Moment,
    ) -> Result<Self, StoreError> {
        let loaded = restore::load(&connection, policy, now)?;
        let (last_event, _) = watch::channel(loaded.last_event);
        Ok(Self {
            connection,
            book: loaded.book,
            retention,
            waiters: Vec::new(),
            fresh: BTreeMap::new(),
            recheck: Recheck::default(),
            last_claims: BTreeMap::new(),
            bells: BTreeMap::new(),
            rung: BTreeSet::new(),
            next_epoch: loaded.next_epoch,
            last_event,
            overlay: Arc::default(),
            granted: Vec::new(),
            swept_ms: now.boot_ms,
            disk,
            commits: 0,
            commands: 0,
        })
    }

    /// The books, for whoever audits them.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The connection, for whoever audits it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Does all of these in one commit and answers them.
    pub(super) fn batch(&mut self, mut tasks: Vec<Box<dyn Task>>, now: Moment) {
        let mut outcomes = Vec::with_capacity(tasks.len());
        let mut reload = false;
        let committed = self.begin().and_then(|()| {
            for task in &mut tasks {
                let outcome = self.guarded(now, |engine| task.run(engine, now));
                reload |= matches!(&outcome, Err(error) if error.is_database());
                outcomes.push(outcome);
                if self.connection.is_autocommit() {
                    // A full disk makes SQLite roll the whole transaction back by itself.
                    return Err(StoreError::Full);
                }
            }
            if !reload {
                reload |= self.guarded(now, |engine| engine.serve_waiters(now)).is_err();
            }
            self.run("COMMIT", "commit")
        });
        self.commits += 1;
        self.commands += tasks.len() as u64;
        if let Err(error) = &committed {
            tracing::error!(%error, commands = tasks.len(), "a commit failed; its commands were undone");
            if matches!(error, StoreError::Full) {
                self.disk.found_full(now);
            }
            self.undo();
            reload = true;
        }
        if reload {
            self.reload(now);
        }
        self.settle(&committed, now);
        for (at, task) in tasks.into_iter().enumerate() {
            let own = outcomes.get(at).cloned().unwrap_or(Ok(()));
            task.answer(own.and_then(|()| committed.clone()));
        }
    }

    /// One command in a commit of its own; for tests and simulators that have no threads.
    pub fn command<T>(
        &mut self,
        now: Moment,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.begin()?;
        let mut kept = None;
        let outcome = self.guarded(now, |engine| {
            kept = Some(work(engine)?);
            engine.serve_waiters(now)
        });
        let undone = matches!(&outcome, Err(error) if error.is_database());
        let committed = if self.connection.is_autocommit() {
            Err(StoreError::Full)
        } else {
            self.run("COMMIT", "commit")
        };
        self.commits += 1;
        if committed.is_err() {
            self.undo();
        }
        if undone || committed.is_err() {
            self.reload(now);
        }
        self.settle(&committed, now);
        outcome?;
        committed?;
        kept.ok_or(StoreError::Closed)
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.fresh.clear();
        self.run("BEGIN IMMEDIATE", "begin")
    }

    /// Runs one command inside a savepoint, so that one that fails takes none of its batch with it.
    fn guarded(
        &mut self,
        now: Moment,
        work: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.run("SAVEPOINT command", "set a savepoint")?;
        let outcome = work(self);
        match &outcome {
            Err(error) if error.is_database() => {
                if matches!(error, StoreError::Full) {
                    self.disk.found_full(now);
                }
                if !self.connection.is_autocommit() {
                    self.run("ROLLBACK TO command", "undo a command")?;
                    self.run("RELEASE command", "keep a command")?;
                }
            }
            _ => self.run("RELEASE command", "keep a command")?,
        }
        outcome
    }

    /// One of the statements that frame commands, from the cache.
    fn run(&self, sql: &'static str, step: &'static str) -> Result<(), StoreError> {
        let run = |mut statement: rusqlite::CachedStatement<'_>| statement.execute([]);
        self.connection.prepare_cached(sql).and_then(run).step(step)?;
        Ok(())
    }

    fn undo(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the failed commit could not be rolled back");
        }
    }

    /// Reads the books anew and keeps what only memory knows.
    fn reload(&mut self, now: Moment) {
        match restore::load(&self.connection, &self.book.policy, now) {
            Ok(loaded) => {
                let before = std::mem::replace(&mut self.book, loaded.book);
                self.book.started_ms = before.started_ms;
                self.book.fleet.carry_over(&before.fleet);
                self.book.live.carry_over(&before.live);
                self.book.run_times = before.run_times;
                self.book.chooser = before.chooser;
                self.book.totals = before.totals;
                self.next_epoch = self.next_epoch.max(loaded.next_epoch);
            }
            Err(error) => tracing::error!(%error, "the books could not be read from the disk"),
        }
    }

    /// Lets the answers of claims and the news of events out, once it is known how the commit went.
    fn settle(&mut self, committed: &Result<(), StoreError>, now: Moment) {
        for (waiter, response) in std::mem::take(&mut self.granted) {
            match committed {
                Ok(()) => waiter.answer(response),
                // The grants are undone, so the claim goes on waiting.
                Err(_) => self.waiters.push(waiter),
            }
        }
        for node in std::mem::take(&mut self.rung) {
            if committed.is_ok() {
                self.bell(node).send_modify(|version| *version += 1);
            }
        }
        self.expire_waiters(now);
        let newest = self
            .connection
            .prepare_cached("SELECT coalesce(max(id), 0) FROM events")
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)));
        if let Ok(newest) = newest {
            self.last_event.send_if_modified(|last| {
                let changed = *last < newest;
                *last = newest.max(*last);
                changed
            });
        }
    }

    /// Tells a node, after the commit, that it has a new order.
    pub(super) fn ring(&mut self, node: NodeNumber) {
        self.rung.insert(node);
    }

    /// The bell of a node.
    pub(super) fn bell(&mut self, node: NodeNumber) -> &watch::Sender<u64> {
        self.bells.entry(node).or_insert_with(|| watch::channel(0).0)
    }

    /// Changes what readers see beside the rows.
    pub(super) fn show(&self, change: impl FnOnce(&mut Overlay)) {
        change(&mut self.overlay.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts pages of the log back into the database; more of it when nothing else is to be done.
    pub(super) fn checkpoint(&self, truncate: bool) {
        let sql = if truncate {
            "PRAGMA wal_checkpoint(TRUNCATE)"
        } else {
            "PRAGMA wal_checkpoint(PASSIVE)"
        };
        let done = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        match done {
            Ok(0) => {}
            Ok(_) => tracing::debug!("a reader kept the log from being put back whole"),
            Err(error) => tracing::warn!(%error, "the database's log could not be put back"),
        }
    }
}

/// A closure that waits for its commit, and where its answer goes.
pub(super) struct Call<F, T> {
    pub(super) work: Option<F>,
    pub(super) result: Option<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Task for Call<F, T>
where
    F: FnOnce(&mut Engine, Moment) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, engine: &mut Engine, now: Moment) -> Result<(), StoreError> {
        let work = self.work.take().ok_or(StoreError::Closed)?;
        self.result = Some(work(engine, now)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        let answer = outcome.and_then(|()| result.ok_or(StoreError::Closed));
        // Whoever asked may have gone; the command is done all the same.
        let _gone = reply.send(answer).is_err();
    }
}
