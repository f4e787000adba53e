//! Attempts that take a slot: granted, running, or being ended.

use std::collections::BTreeMap;

use ffrtmp_api::{AttemptKey, AttemptPhase, Epoch, Progress, Queue};

use super::blocklist::NodeNumber;
use super::{ClassId, Moment, Seq, TenantId};

/// Why an attempt is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its job was cancelled.
    Canceled,
    /// It made no progress.
    Stalled,
}

/// One attempt that takes slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Which.
    pub key: AttemptKey,
    /// Number of the job.
    pub seq: Seq,
    /// Where it is.
    pub node: NodeNumber,
    /// Slots it takes.
    pub slots: u32,
    /// Where it stands; never `Ended`.
    pub phase: AttemptPhase,
    /// Why it is being ended, while it is.
    pub stop: Option<Stop>,
    /// Queue of the job.
    pub queue: Queue,
    /// Tenant of the job.
    pub tenant: TenantId,
    /// Class of the job.
    pub class: ClassId,
    /// The operator wants it frozen.
    pub paused: bool,
    /// Boot time of the grant, or of our start.
    pub granted_ms: u64,
    /// Boot time of the last step of its phase or progress.
    pub moved_ms: u64,
    /// Boot time since which its node no longer lists it.
    pub missing_ms: Option<u64>,
    /// How far it is.
    pub progress: Progress,
}

impl Live {
    /// True when the fence lets its writes pass.
    pub fn in_force(&self) -> bool {
        self.stop.is_none()
    }
}

/// All attempts that take slots.
#[derive(Debug, Clone, Default)]
pub struct LiveSet {
    attempts: BTreeMap<Epoch, Live>,
    by_seq: BTreeMap<Seq, Epoch>,
}

impl LiveSet {
    /// Adds one.
    pub fn insert(&mut self, live: Live) {
        self.by_seq.insert(live.seq, live.key.epoch);
        self.attempts.insert(live.key.epoch, live);
    }

    /// Takes one out.
    pub fn remove(&mut self, epoch: Epoch) -> Option<Live> {
        let live = self.attempts.remove(&epoch)?;
        if self.by_seq.get(&live.seq) == Some(&epoch) {
            self.by_seq.remove(&live.seq);
        }
        Some(live)
    }

    /// One by its fence.
    pub fn get(&self, epoch: Epoch) -> Option<&Live> {
        self.attempts.get(&epoch)
    }

    /// One by its fence, to change it.
    pub fn get_mut(&mut self, epoch: Epoch) -> Option<&mut Live> {
        self.attempts.get_mut(&epoch)
    }

    /// The one of a job.
    pub fn of_job(&self, seq: Seq) -> Option<&Live> {
        self.attempts.get(self.by_seq.get(&seq)?)
    }

    /// All, oldest grant first.
    pub fn iter(&self) -> impl Iterator<Item = &Live> {
        self.attempts.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.attempts.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Takes over what only memory knows from the set before a reload.
    pub fn carry_over(&mut self, before: &Self) {
        for (epoch, live) in &mut self.attempts {
            if let Some(old) = before.attempts.get(epoch) {
                live.granted_ms = old.granted_ms;
                live.moved_ms = old.moved_ms;
                live.missing_ms = old.missing_ms;
                live.progress.clone_from(&old.progress);
            }
        }
    }

    /// Takes note of progress; only a step forward counts as a sign of life.
    pub fn progressed(&mut self, epoch: Epoch, progress: Progress, now: Moment) {
        if let Some(live) = self.attempts.get_mut(&epoch) {
            if progress.moved_since(&live.progress) {
                live.moved_ms = now.boot_ms;
            }
            live.progress = progress;
        }
    }
}
