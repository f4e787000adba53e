//! Questions to the ledger, each on a read-only connection of its own, so that the writer never waits for a reader.
//!
//! Blocking: callers on an async runtime use `spawn_blocking`.

use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_abi::ProcessKey;
use rusqlite::{Connection, OpenFlags};

use super::LedgerError;
use super::store::{self, Which};
use crate::control::types::{JobKey, JobView};

/// Reads a ledger's file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    path: PathBuf,
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The last closed jobs, newest first, at most `limit`.
    pub fn history(&self, limit: u32) -> Result<Vec<JobView>, LedgerError> {
        self.ask(Which::Closed, limit)
    }

    /// Jobs of this boot that an earlier governor left open, newest first.
    pub fn open_jobs(&self) -> Result<Vec<JobView>, LedgerError> {
        self.ask(Which::Open, u32::MAX)
    }

    /// Jobs with this label, newest first, at most `limit`. A label may recur.
    pub fn by_job_id(&self, job_id: &str, limit: u32) -> Result<Vec<JobView>, LedgerError> {
        self.ask(Which::Label(job_id), limit)
    }

    /// The job with this key; of several boots, the last.
    pub fn by_key(&self, key: JobKey) -> Result<Option<JobView>, LedgerError> {
        Ok(self.ask(Which::Key(key), 1)?.pop())
    }

    /// Which of these keys have a closed record of the boot with this number.
    pub fn closed_among(&self, boot_id: &str, keys: &[ProcessKey]) -> Result<Vec<ProcessKey>, LedgerError> {
        self.on_connection(|connection| store::closed_among(connection, boot_id, keys))
    }

    fn ask(&self, which: Which<'_>, limit: u32) -> Result<Vec<JobView>, LedgerError> {
        self.on_connection(|connection| store::read(connection, which, limit))
    }

    fn on_connection<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let read = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            // The writer never blocks readers; only a checkpoint's last moment or a set-aside file can.
            connection.busy_timeout(Duration::from_secs(2))?;
            ask(&connection)
        };
        read().map_err(|source| LedgerError::Read {
            path: self.path.clone(),
            source,
        })
    }
}
