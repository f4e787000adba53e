//! What became of the webhook's events. Written by its tasks, read by everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Figures since the start, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookSnapshot {
    /// The server took them.
    pub delivered: u64,
    /// The server will never take them (a redirect, or a 4xx that no retry helps).
    pub refused: u64,
    /// Every try failed.
    pub given_up: u64,
    /// The queue was full.
    pub dropped: u64,
    /// Tries that failed and were followed by another.
    pub retried: u64,
    /// They wait, the one on its way included.
    pub queued: u64,
}

impl WebhookSnapshot {
    /// Events that the server will never see.
    pub fn lost(&self) -> u64 {
        self.refused + self.given_up + self.dropped
    }
}

/// Cheap to clone; all clones show the same webhook.
#[derive(Debug, Clone, Default)]
pub struct WebhookStats(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    delivered: AtomicU64,
    refused: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
    retried: AtomicU64,
    queued: AtomicU64,
    /// Drops since the last delivery.
    row: AtomicU64,
}

impl WebhookStats {
    /// Everything at once.
    pub fn snapshot(&self) -> WebhookSnapshot {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        WebhookSnapshot {
            delivered: read(&self.0.delivered),
            refused: read(&self.0.refused),
            given_up: read(&self.0.given_up),
            dropped: read(&self.0.dropped),
            retried: read(&self.0.retried),
            queued: read(&self.0.queued),
        }
    }

    pub(super) fn queue_one(&self) {
        self.0.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unqueue_one(&self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// True for the first one since a delivery, so that a row of them is logged once.
    pub(super) fn drop_one(&self) -> bool {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
        self.0.row.fetch_add(1, Ordering::Relaxed) == 0
    }

    pub(super) fn deliver_one(&self) {
        self.0.delivered.fetch_add(1, Ordering::Relaxed);
        self.0.row.store(0, Ordering::Relaxed);
    }

    pub(super) fn refuse_one(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give_one_up(&self) {
        self.0.given_up.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retry_one(&self) {
        self.0.retried.fetch_add(1, Ordering::Relaxed);
    }
}
