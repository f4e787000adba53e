//! Whether the ledger can write, and what it has written: shared with `/readyz`, the metrics and `doctor`.
//!
//! Written by the ledger's thread only; everybody else reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether records reach the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum LedgerState {
    /// The last write worked.
    #[default]
    Ok,
    /// Writes fail; records wait in memory and in the kernel's map.
    Degraded {
        /// Since when.
        since: Timestamp,
        /// What failed, and what to do about it.
        error: String,
    },
}

/// Everything [`LedgerHealth`] knows, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// Whether records reach the disk.
    pub state: LedgerState,
    /// Records that wait to be written.
    pub backlog: u64,
    /// How long the oldest of them has waited; zero while none does.
    pub lag: Duration,
    /// Attempts to write that failed since the start.
    pub failures: u64,
    /// Closed records written since the start, by exit reason. Each job counts once.
    pub closed: BTreeMap<String, u64>,
}

/// Cheap to clone; all clones show the same ledger.
#[derive(Debug, Clone, Default)]
pub struct LedgerHealth(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<LedgerState>,
    backlog: AtomicU64,
    /// Since when the oldest unwritten record waits.
    oldest: Mutex<Option<Instant>>,
    failures: AtomicU64,
    written: AtomicU64,
    closed: Mutex<BTreeMap<String, u64>>,
}

impl LedgerHealth {
    /// Whether records reach the disk.
    pub fn state(&self) -> LedgerState {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Everything at once.
    pub fn snapshot(&self) -> LedgerSnapshot {
        let closed = self.0.closed.lock().unwrap_or_else(PoisonError::into_inner);
        LedgerSnapshot {
            state: self.state(),
            backlog: self.0.backlog.load(Ordering::Relaxed),
            lag: self
                .0
                .oldest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .map_or(Duration::ZERO, |since| since.elapsed()),
            failures: self.0.failures.load(Ordering::Relaxed),
            closed: closed.clone(),
        }
    }

    /// Notes a failure. True when the ledger was well before, so that the change is logged once.
    pub(crate) fn fail(&self, error: String) -> bool {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, was_well) = match &*state {
            LedgerState::Ok => (Timestamp::now(), true),
            LedgerState::Degraded { since, .. } => (*since, false),
        };
        *state = LedgerState::Degraded { since, error };
        was_well
    }

    /// Notes a success. Gives since when the ledger was degraded, if it was.
    pub(crate) fn recover(&self) -> Option<Timestamp> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *state) {
            LedgerState::Ok => None,
            LedgerState::Degraded { since, .. } => Some(since),
        }
    }

    /// How many orders, counted from the first, are on disk with all before them.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Acquire)
    }

    pub(super) fn set_written(&self, orders: u64) {
        self.0.written.store(orders, Ordering::Release);
    }

    /// How many records wait, and since when the oldest does.
    pub(super) fn set_backlog(&self, records: usize, oldest: Option<Instant>) {
        self.0.backlog.store(records as u64, Ordering::Relaxed);
        *self.0.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    pub(super) fn count_closed(&self, reason: &str) {
        let mut closed = self.0.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = closed.get_mut(reason) {
            *count += 1;
        } else {
            closed.insert(reason.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_age_of_the_oldest_record_and_zero_without_one() {
        let health = LedgerHealth::default();
        assert_eq!(health.snapshot().lag, Duration::ZERO);
        let since = Instant::now().checked_sub(Duration::from_secs(90)).unwrap();
        health.set_backlog(2, Some(since));
        assert!(health.snapshot().lag >= Duration::from_secs(90));
        health.set_backlog(0, None);
        assert_eq!(health.snapshot().lag, Duration::ZERO);
    }

    #[test]
    fn the_start_of_a_bad_time_is_kept_until_it_ends() {
        let health = LedgerHealth::default();
        assert!(health.fail("full".to_owned()));
        let LedgerState::Degraded { since: first, .. } = health.state() else {
            panic!("not degraded")
        };
        assert!(!health.fail("still full".to_owned()));
        assert_eq!(
            health.state(),
            LedgerState::Degraded {
                since: first,
                error: "still full".to_owned()
            }
        );
        assert_eq!(health.recover(), Some(first));
        assert_eq!(health.state(), LedgerState::Ok);
        assert_eq!(health.recover(), None);
        assert_eq!(health.snapshot().failures, 2);
    }
}
