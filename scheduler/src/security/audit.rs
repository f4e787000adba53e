//! The audit log: one JSON line for each request that changed something or was refused, in `audit.log` of the state
//! directory, mode 0600.
//!
//! A thread writes; requests never wait for it. When it falls behind, lines are dropped, counted, and the count is itself
//! a line. No secret and no body is ever written.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::file::FileError;

/// How long lines are gathered after some were written.
const TOGETHER: Duration = Duration::from_millis(5);
/// Lines that may wait. One is about 200 bytes.
const WAITING_MAX: usize = 8192;

/// One thing that was done or refused.
#[derive(Debug, Clone, Serialize)]
pub struct AuditLine {
    /// When.
    pub time: Timestamp,
    /// By whom, as [`super::scope::Identity::actor`] names them; `-` for nobody known.
    pub actor: String,
    /// From where.
    pub address: Option<IpAddr>,
    /// Method and path.
    pub action: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Why it was refused, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of the request, as in the answer's `x-request-id`.
    pub request: String,
}

enum Order {
    Line(Box<AuditLine>),
    Reopen,
}

/// Takes lines from anywhere.
#[derive(Clone)]
pub struct Audit {
    orders: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// Opens the log and starts its thread, which ends when the last [`Audit`] is gone.
    pub fn open(path: &Path) -> Result<(Self, JoinHandle<()>), FileError> {
        let file = append(path)?;
        let (orders, taken) = sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            path: path.to_path_buf(),
            out: BufWriter::new(file),
            dropped: Arc::clone(&dropped),
        };
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&taken))
            .map_err(FileError::at("start the thread of", path))?;
        Ok((Self { orders, dropped }, thread))
    }

    /// Writes a line, or counts it as dropped.
    pub fn write(&self, line: AuditLine) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.orders.try_send(Order::Line(Box::new(line)))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&self) {
        if self.orders.send(Order::Reopen).is_err() {
            tracing::warn!("the audit log's thread has ended");
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn append(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(FileError::at("open", path))
}

struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let mut next = Some(first);
            while let Some(order) = next {
                self.take(order);
                next = orders.try_recv().ok();
            }
            if let Err(error) = self.out.flush() {
                tracing::error!(%error, "the audit log was not written");
            }
            // A lone line was written at once; a flood of them is written together instead of waking this thread for each.
            std::thread::sleep(TOGETHER);
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Reopen => match append(&self.path) {
                Ok(file) => self.out = BufWriter::new(file),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the audit log was not opened anew"
                ),
            },
            Order::Line(line) => {
                let written = serde_json::to_writer(&mut self.out, &line).map_err(std::io::Error::from);
                if let Err(error) = written.and_then(|()| self.out.write_all(b"\n")) {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "a line of the audit log was not written");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_file_also_after_it_was_moved() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.log");
        let (audit, thread) = Audit::open(&path).unwrap();
        let line = |status| AuditLine {
            time: Timestamp::UNIX_EPOCH,
            actor: "master".to_owned(),
            address: None,
            action: "POST /jobs".to_owned(),
            status,
            reason: None,
            request: "r".to_owned(),
        };
        audit.write(line(201));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::metadata(&path).unwrap().len() == 0 {
            assert!(std::time::Instant::now() < deadline, "nothing was written");
            std::thread::yield_now();
        }
        std::fs::rename(&path, place.path().join("old")).unwrap();
        audit.reopen();
        audit.write(line(401));
        assert_eq!(audit.dropped(), 0);
        drop(audit);
        thread.join().unwrap();
        assert!(
            std::fs::read_to_string(place.path().join("old"))
                .unwrap()
                .contains("\"status\":201")
        );
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"status\":401"));
    }
}
