//! The daemon's ledger: opened before the engine, closed after it.

use std::error::Error;
use std::thread::JoinHandle;

use super::{DaemonError, DaemonOptions, LedgerAt, PATIENCE};
use crate::control::types::JobView;
use crate::engine::{SaveQueue, Saved};
use crate::ledger::{self, LateEngine, Ledger, LedgerHealth, Reader, Retention};

/// The ledger's thread and the views on it.
pub(super) struct Store {
    pub(super) health: LedgerHealth,
    pub(super) reader: Option<Reader>,
    boot_id: String,
    thread: JoinHandle<()>,
}

impl Store {
    /// Jobs of this boot that an earlier governor left open. A ledger that cannot be read gives none: the kernel's
    /// map and the pass over the machine find what lives.
    pub(super) fn restore(&self) -> Vec<JobView> {
        let Some(reader) = &self.reader else {
            return Vec::new();
        };
        reader.open_jobs().unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn Error,
                "what an earlier governor left open is not known"
            );
            Vec::new()
        })
    }

    /// Tells which of the records that the kernel still holds are closed here.
    pub(super) fn saved(&self) -> Option<Saved> {
        let reader = self.reader.clone()?;
        let boot_id = self.boot_id.clone();
        Some(Saved(Box::new(move |keys| {
            reader.closed_among(&boot_id, keys).unwrap_or_else(|error| {
                let error = &error as &dyn Error;
                tracing::warn!(error, "records that are stored already will be stored again");
                Vec::new()
            })
        })))
    }

    /// Waits until what was queued is written. The queue has ended with the engine.
    pub(super) async fn close(self) {
        let joined = tokio::task::spawn_blocking(move || self.thread.join().is_ok());
        match tokio::time::timeout(PATIENCE, joined).await {
            Ok(Ok(true)) => {}
            Ok(_) => {
                tracing::error!("the ledger's thread broke; what it had not written is in the kernel's map");
            }
            Err(_) => tracing::warn!(
                "the ledger has not finished within {} s; what it had not written is in the kernel's map",
                PATIENCE.as_secs()
            ),
        }
    }
}

/// Opens the ledger and starts its thread.
pub(super) fn open_ledger(options: &DaemonOptions) -> Result<(Store, SaveQueue, LateEngine), DaemonError> {
    let boot_id = ledger::boot_id().map_err(DaemonError::BootId)?;
    let store = match &options.ledger {
        LedgerAt::File(path) => Ledger::open(path, &boot_id)?.with_retention(Retention {
            max_age: options.config.retention,
            ..Retention::default()
        }),
        LedgerAt::Memory => Ledger::memory(&boot_id)?,
    };
    let (health, reader) = (store.health(), store.reader());
    let late = LateEngine::default();
    let (saves, thread) = store.spawn(late.acknowledge())?;
    let store = Store {
        health,
        reader,
        boot_id,
        thread,
    };
    Ok((store, saves, late))
}
