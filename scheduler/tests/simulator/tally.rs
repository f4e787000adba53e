//! What happened in a simulation, so that a quiet one is noticed.

use std::collections::BTreeMap;

/// How often each thing happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    pub(crate) fn assert_eventful(&self) {
        for what in [
            "submitted",
            "nearly full",
            "existing",
            "full",
            "no page left",
            "granted",
            "published",
            "stale",
            "lost answer",
            "dropped",
            "doubled",
            "cut",
            "crash of a node",
            "restart of a node",
            "sleep",
            "crash of the scheduler",
            "cancel",
            "retry",
            "stalled",
            "node lost",
            "returned",
            "clock jump",
            "wall clock set",
            "edit",
            "pause",
        ] {
            assert!(
                self.counts.contains_key(what),
                "no {what} ever happened: {self:?}"
            );
        }
    }
}
