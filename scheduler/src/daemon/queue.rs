//! From settings to a store that is open, and back to one that is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DaemonError;
use crate::config::{Config, Durability};
use crate::core::policy::Policy;
use crate::store::Store;
use crate::store::sqlite::{self, Options, Retention, SqliteStore};

/// How often it is looked whether the last request has let go of the store.
const LOOK: Duration = Duration::from_millis(10);

/// Closes a store once nobody uses it, or gives up after this time; true when it is closed. Blocks.
pub(super) type Closer = Box<dyn FnOnce(Duration) -> bool + Send>;

/// A store, and how to close it.
pub struct Queue {
    pub(super) store: Arc<dyn Store>,
    pub(super) close: Closer,
}

impl Queue {
    /// A store that closes when it is dropped.
    pub fn new<S: Store>(store: Arc<S>) -> Self {
        Self {
            store: Arc::clone(&store) as Arc<dyn Store>,
            close: Box::new(move |patience| close(store, patience)),
        }
    }
}

fn close<S>(mut store: Arc<S>, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        store = match Arc::try_unwrap(store) {
            Ok(last) => {
                drop(last);
                return true;
            }
            Err(_) if Instant::now() >= deadline => return false,
            Err(shared) => shared,
        };
        std::thread::sleep(LOOK);
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn options(config: &Config) -> Options {
    let jobs = &config.jobs;
    let policy = Policy {
        max_retries: jobs.max_retries,
        stale_live_ms: ms(jobs.stale_live),
        stale_batch_ms: ms(jobs.stale_batch),
        ..Policy::default()
    };
    Options {
        policy: policy.with_heartbeat(ms(config.heartbeat)),
        retention: Retention {
            jobs_ms: jobs
                .retention
                .map(|span| i64::try_from(ms(span)).unwrap_or(i64::MAX)),
        },
        durability: match config.durability {
            Durability::Full => sqlite::Durability::Full,
            Durability::Normal => sqlite::Durability::Normal,
        },
        disk_reserve: config.limits.disk_reserve_bytes,
        ..Options::new(&config.database)
    }
}

/// Opens the database of these settings, making it where there is none.
pub async fn open_queue(config: &Config) -> Result<Queue, DaemonError> {
    let options = options(config);
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(options)).await??;
    tracing::info!("queue in {}", config.database.display());
    Ok(Queue::new(Arc::new(store)))
}
