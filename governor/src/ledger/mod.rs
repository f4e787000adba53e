//! What outlives the daemon: jobs, processes, exits, usage and warnings, in SQLite, written by a thread of its own.
//!
//! **Owns** the file. Nobody else writes it; readers open connections of their own ([`Reader`]), which WAL lets them do
//! without stopping the writer.
//!
//! **Exactly once.** A closed record leaves the kernel's map only after it was acknowledged, and it is acknowledged
//! only after its COMMIT. A crash between the two makes the engine save it again; the key (boot, pid, start) finds the
//! row, which is closed and stays as it is. `synchronous=FULL`, because the acknowledged record exists nowhere else:
//! with NORMAL a power cut could take back a commit whose record has already left the kernel. Commits are grouped, so
//! the price is one fsync a batch.
//!
//! **Failure.** A full disk, a read-only file or a missing directory never stops the governor: records wait in memory,
//! one entry a job, and in the kernel's map; [`LedgerHealth`] says so, and the thread tries again with growing pauses.
//! A damaged file is set aside under another name. Only a file of a newer program is an error, because writing to it
//! could break what that program relies on.
//!
//! **Refuses** to redact (done before records come here) and to judge what a record means.

mod connect;
mod health;
mod reader;
mod schema;
mod store;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use connect::{Database, Place};
pub use health::{LedgerHealth, LedgerSnapshot, LedgerState};
pub use reader::Reader;
use writer::Writer;

use crate::control::types::JobKey;
use crate::engine::handle::{Command, EngineHandle, SaveQueue};

/// Why the ledger cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A newer program wrote the file.
    #[error(
        "ledger {} has schema {found}, this program knows up to {known}; start the newer ffrtmp-governor, or name another file with --ledger",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest this program knows.
        known: usize,
    },
    /// A question was not answered.
    #[error("read ledger {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The writer's thread did not start.
    #[error("start the ledger's thread")]
    Thread(#[source] std::io::Error),
}

/// How long closed records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age since the end of the job.
    pub max_age: Duration,
    /// Number of closed jobs.
    pub max_jobs: u64,
}

impl Default for Retention {
    /// 90 days and 1,000,000 jobs: about 3 GB at the 3 KB a job takes with its indexes.
    fn default() -> Self {
        Self {
            max_age: Duration::from_hours(90 * 24),
            max_jobs: 1_000_000,
        }
    }
}

/// Retention of a ledger in memory, where every record costs memory of the process.
const IN_MEMORY: Retention = Retention {
    max_age: Duration::from_hours(24),
    max_jobs: 1_000,
};

/// An opened ledger whose thread has not started.
#[derive(Debug)]
pub struct Ledger {
    database: Database,
    health: LedgerHealth,
    retention: Retention,
}

impl Ledger {
    /// Opens or makes the file, and closes what earlier boots left open. `boot_id` is the kernel's, see [`boot_id`].
    ///
    /// A file that cannot be opened or written for now gives a degraded ledger, see [`LedgerHealth`]; only a newer
    /// schema is an error.
    pub fn open(path: &Path, boot_id: &str) -> Result<Self, LedgerError> {
        Self::start(Place::File(path.to_path_buf()), boot_id, Retention::default())
    }

    /// A ledger that ends with the process, for engines without a file. It keeps the last 1,000 closed jobs.
    pub fn memory(boot_id: &str) -> Result<Self, LedgerError> {
        Self::start(Place::Memory, boot_id, IN_MEMORY)
    }

    fn start(place: Place, boot_id: &str, retention: Retention) -> Result<Self, LedgerError> {
        let mut database = Database::new(place, boot_id.to_owned());
        let health = LedgerHealth::default();
        if let Err(trouble) = database.connect() {
            writer::degrade(&database, &health, trouble)?;
        }
        Ok(Self {
            database,
            health,
            retention,
        })
    }

    /// Keeps closed records as long as this says.
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// What the thread will tell about itself.
    pub fn health(&self) -> LedgerHealth {
        self.health.clone()
    }

    /// Reads what was written; `None` for a ledger in memory, whose records the engine still remembers itself.
    pub fn reader(&self) -> Option<Reader> {
        match &self.database.place {
            Place::File(path) => Some(Reader::new(path.clone())),
            Place::Memory => None,
        }
    }

    /// Starts the thread. `acknowledge` is called with the keys of closed records after their commit; when it answers
    /// false (the engine's queue is full) the same keys are offered again later. The thread ends when every clone of
    /// the queue is gone and what was queued is written.
    pub fn spawn(
        self,
        acknowledge: impl FnMut(&[JobKey]) -> bool + Send + 'static,
    ) -> Result<(SaveQueue, JoinHandle<()>), LedgerError> {
        let (queue, orders) = channel();
        let writer = Writer::new(self.database, self.health, self.retention, acknowledge);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&orders))
            .map_err(LedgerError::Thread)?;
        Ok((queue, thread))
    }
}

/// Where acknowledgements go. The engine needs the ledger's queue to start, and the ledger needs the engine's handle
/// to acknowledge: this is filled in once the engine runs, and until then acknowledgements wait.
#[derive(Debug, Clone, Default)]
pub struct LateEngine(Arc<OnceLock<EngineHandle>>);

impl LateEngine {
    /// Acknowledgements reach this engine from now on. Only the first call counts.
    pub fn connect(&self, engine: EngineHandle) {
        self.0.get_or_init(|| engine);
    }

    /// The callback for [`Ledger::spawn`].
    pub fn acknowledge(&self) -> impl FnMut(&[JobKey]) -> bool + Send + use<> {
        let engine = Arc::clone(&self.0);
        move |keys| {
            engine
                .get()
                .is_some_and(|engine| engine.send(Command::Saved(keys.to_vec())))
        }
    }
}

/// The kernel's number for this boot.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}
