//! The store on SQLite: one writing thread with group commit, a few reading ones.
//!
//! An acknowledged command is on disk (`synchronous = FULL` unless the operator chose otherwise by name): the writer
//! takes every command that waits, does them in one transaction, commits once and only then answers. The longer the
//! disk takes, the more commands share a commit. Nobody else writes, so nothing ever waits for a lock.
//!
//! It refuses remote filesystems, a second scheduler on the same file, a newer schema and an SQLite with the log-reset
//! fault. When the disk is nearly full it refuses submissions and keeps running work going.

mod backup;
mod claim;
mod control;
mod engine;
mod lane;
mod nodes;
mod open;
mod overlay;
mod query;
mod reader;
mod report;
mod restore;
mod result;
mod rows;
mod schema;
mod stats;
mod steps;
mod store;
mod submit;
mod sweep;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

pub use backup::{backup, restore};
pub use engine::{Engine, FreeSpace, Retention};
pub use open::{Durability, OpenError};

use self::engine::{Call, Disk, Task};
use self::lane::{Lane, Lanes, Next};
use self::overlay::Overlay;
use self::reader::Readers;
use super::clock::{Clock, SystemClock};
use super::error::StoreError;
use super::{Answer, Health};
use crate::core::Moment;
use crate::core::policy::Policy;

/// Log bytes above which the writer puts it back between two commits, and above which it waits for readers to let it.
const LOG: (u64, u64) = (32 << 20, 256 << 20);
/// Commits between two looks at the log's size, and bytes it may grow by before the next.
const LOOK_EVERY: (u64, u64) = (64, 8 << 20);
/// How long the writer sleeps when nobody asks anything.
const IDLE: Duration = Duration::from_secs(1);

/// How to open a store.
pub struct Options {
    /// The database's file.
    pub path: PathBuf,
    /// The operator's numbers.
    pub policy: Policy,
    /// How long finished work is kept.
    pub retention: Retention,
    /// When a commit is safe.
    pub durability: Durability,
    /// Threads that read.
    pub readers: usize,
    /// Submissions that may wait for the writer.
    pub queue: usize,
    /// Submissions are refused when the disk has fewer free bytes than this.
    pub disk_reserve: u64,
    /// Tells the free space; `None` asks the file's disk.
    pub free_space: Option<FreeSpace>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// A store in this file with every number at its default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            policy: Policy::default(),
            retention: Retention::default(),
            durability: Durability::Full,
            readers: 4,
            queue: 4096,
            disk_reserve: 64 << 20,
            free_space: None,
            clock: Arc::new(SystemClock),
        }
    }

    fn disk(&mut self) -> Disk {
        let path = self.path.clone();
        let ask = self
            .free_space
            .take()
            .unwrap_or_else(|| Box::new(move || open::free_space(&path)));
        Disk::new(ask, self.disk_reserve)
    }
}

impl Engine {
    /// Opens a database without threads, for simulators and audits. Takes no lock.
    pub fn open(mut options: Options) -> Result<Self, OpenError> {
        let disk = options.disk();
        let connection = open::writer(&options.path, options.durability)?;
        let now = options.clock.now();
        Self::new(connection, &options.policy, options.retention, disk, now).map_err(|source| {
            OpenError::Database {
                path: options.path,
                source,
            }
        })
    }
}

/// The store. Dropping it answers what waits, puts the log back and closes the file.
pub struct SqliteStore {
    lanes: Arc<Lanes>,
    readers: Readers,
    writer: Option<JoinHandle<()>>,
    path: PathBuf,
    overlay: Arc<RwLock<Overlay>>,
    events: watch::Receiver<i64>,
    _lock: open::Lock,
}

impl SqliteStore {
    /// Opens the store, bringing its file to this program's schema.
    pub fn open(mut options: Options) -> Result<Self, OpenError> {
        open::check_library()?;
        let lock = open::prepare(&options.path)?;
        let path = options.path.clone();
        let clock = Arc::clone(&options.clock);
        let (readers, queue) = (options.readers, options.queue);
        let disk = options.disk();
        let connection = open::writer(&path, options.durability)?;
        let engine = Engine::new(connection, &options.policy, options.retention, disk, clock.now()).map_err(
            |source| OpenError::Database {
                path: path.clone(),
                source,
            },
        )?;
        let readers = Readers::start(&path, readers)?;
        let lanes = Arc::new(Lanes::new(queue));
        let (overlay, events) = (Arc::clone(&engine.overlay), engine.last_event.subscribe());
        let writer = {
            let (lanes, clock, path) = (Arc::clone(&lanes), Arc::clone(&clock), path.clone());
            std::thread::Builder::new()
                .name("store-write".to_owned())
                .spawn(move || write(engine, &lanes, &*clock, &path))
                .map_err(open::io("start the writing thread for", &options.path))?
        };
        Ok(Self {
            lanes,
            readers,
            writer: Some(writer),
            path,
            overlay,
            events,
            _lock: lock,
        })
    }

    /// Has the writer do something.
    fn write<T: Send + 'static>(
        &self,
        lane: Lane,
        rows: usize,
        work: impl FnOnce(&mut Engine, Moment) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        let (reply, answer) = oneshot::channel();
        let call = Call {
            work: Some(work),
            result: None,
            reply,
        };
        self.submit_task(lane, rows, Box::new(call));
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn submit_task(&self, lane: Lane, rows: usize, task: Box<dyn Task>) {
        if let Err((task, error)) = self.lanes.push(lane, rows, task) {
            task.answer(Err(error));
        }
    }

    /// Has a reader do something.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Overlay) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        let (reply, answer) = oneshot::channel();
        let overlay = Arc::clone(&self.overlay);
        let asked = self.readers.ask(Box::new(move |connection| {
            let overlay = overlay.read().unwrap_or_else(PoisonError::into_inner);
            let _gone = reply.send(work(connection, &overlay)).is_err();
        }));
        Box::pin(async move {
            asked?;
            answer.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    /// Adds what the engine does not know to its health.
    fn complete(&self, mut health: Health) -> Health {
        let size = |suffix: &str| {
            std::fs::metadata(open::with_suffix(&self.path, suffix)).map_or(0, |facts| facts.len())
        };
        health.database_bytes = size("");
        health.wal_bytes = size("-wal");
        health.queued_commands = self.lanes.len() as u64;
        health.versions = format!(
            "SQLite {}, schema {}",
            rusqlite::version(),
            schema::MIGRATIONS.len()
        );
        if LOG.1 < health.wal_bytes && health.trouble.is_none() {
            health.trouble = Some(format!(
                "the database's log has {} MiB: some reader keeps it from being put back",
                health.wal_bytes >> 20
            ));
        }
        health
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.lanes.close();
        if let Some(writer) = self.writer.take() {
            // A thread that panicked has said so itself.
            let _panicked = writer.join().is_err();
        }
    }
}

/// The writing thread.
fn write(mut engine: Engine, lanes: &Lanes, clock: &dyn Clock, path: &std::path::Path) {
    let log = open::with_suffix(path, "-wal");
    let log_bytes = || std::fs::metadata(&log).map_or(0, |facts| facts.len());
    let mut dirty = false;
    let mut looked = (0, 0);
    loop {
        let now = clock.now();
        let wait = engine.next_waiter_ms().map_or(IDLE, |until| {
            Duration::from_millis(until.saturating_sub(now.boot_ms).max(1)).min(IDLE)
        });
        match lanes.next(wait) {
            Next::Batch(tasks) => {
                engine.batch(tasks, clock.now());
                dirty = true;
                let bytes = log_bytes();
                if looked.0 + LOOK_EVERY.0 <= engine.commits || looked.1 + LOOK_EVERY.1 <= bytes {
                    looked = (engine.commits, bytes);
                    if LOG.0 < bytes {
                        engine.checkpoint(LOG.1 < bytes);
                    }
                }
            }
            Next::Idle => {
                engine.expire_waiters(clock.now());
                if std::mem::take(&mut dirty) && 1 << 20 < log_bytes() {
                    engine.checkpoint(false);
                }
            }
            Next::Closed => break,
        }
    }
    engine.checkpoint(true);
}
