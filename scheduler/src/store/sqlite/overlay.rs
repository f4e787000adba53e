//! What changes too often for the disk and readers show all the same: the progress of running attempts.

use std::collections::HashMap;

use ffrtmp_api::{Epoch, Progress};

/// Figures of running attempts, by fence.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    progress: HashMap<Epoch, (Progress, i64)>,
}

impl Overlay {
    /// Notes progress and when it came (milliseconds since 1970).
    pub(super) fn set(&mut self, epoch: Epoch, progress: Progress, at_ms: i64) {
        self.progress.insert(epoch, (progress, at_ms));
    }

    /// Forgets an attempt that is over.
    pub(super) fn remove(&mut self, epoch: Epoch) {
        self.progress.remove(&epoch);
    }

    /// The progress of an attempt.
    pub(super) fn get(&self, epoch: Epoch) -> Option<&(Progress, i64)> {
        self.progress.get(&epoch)
    }
}
