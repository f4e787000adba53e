//! Process descriptors of adopted processes: the net below the kernel record.
//!
//! A process that user space admits may pass its exit tracepoint before its record is in the map. Its descriptor tells
//! of the end all the same, so that no record stays open for ever.

use std::collections::HashMap;

use ffrtmp_abi::ProcessKey;

use crate::core::pressure::PressureRule;
use crate::host::cgroup::Announcer;
use crate::host::pressure::Trigger;
use crate::host::process::Pinned;

/// What a token stands for.
#[derive(Debug)]
pub(super) enum Watched {
    /// An adopted process; readable when it ended.
    Process(Pinned),
    /// `cgroup.events` of a job's group whose last process is leaving.
    Group(ProcessKey, std::fs::File),
    /// `cgroup.events` of a group that an earlier governor left and no job claims.
    Leftover(std::fs::File),
    /// A limit of a job that the kernel announces when it is reached.
    Limit(ProcessKey, Announcer),
    /// A stall the kernel is to announce, for this rule.
    Pressure(Box<PressureRule>, Trigger),
}

/// Descriptors by epoll token.
#[derive(Debug)]
pub(super) struct Watchdog {
    next: u64,
    watched: HashMap<u64, Watched>,
}

impl Watchdog {
    /// Tokens start at `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            next: first,
            watched: HashMap::new(),
        }
    }

    /// The token the next descriptor gets.
    pub(super) fn next_token(&self) -> u64 {
        self.next
    }

    /// Keeps a descriptor under [`Self::next_token`].
    pub(super) fn add(&mut self, watched: Watched) {
        self.watched.insert(self.next, watched);
        self.next += 1;
    }

    /// Gives back every descriptor of an earlier governor's group.
    pub(super) fn take_leftovers(&mut self) -> Vec<std::fs::File> {
        let leftovers = self
            .watched
            .extract_if(|_, watched| matches!(watched, Watched::Leftover(_)));
        let file = |(_, watched)| match watched {
            Watched::Leftover(events) => Some(events),
            Watched::Process(_) | Watched::Group(..) | Watched::Limit(..) | Watched::Pressure(..) => None,
        };
        leftovers.filter_map(file).collect()
    }

    /// Keeps a descriptor that goes on under the token it had.
    pub(super) fn put_back(&mut self, token: u64, watched: Watched) {
        self.watched.insert(token, watched);
    }

    /// Gives a descriptor back.
    pub(super) fn take(&mut self, token: u64) -> Option<Watched> {
        self.watched.remove(&token)
    }
}
