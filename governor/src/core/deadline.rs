//! When the core must be woken: one deadline a process, and the earliest of them all ordered from the host.
//!
//! It owns times only; what is done at a deadline is the governor's.

use std::collections::{BTreeMap, BTreeSet};

use ffrtmp_abi::ProcessKey;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The process is old enough for a rule: judge it again.
    Judge,
    /// The placement failed a while ago: try it again.
    Place,
    /// The job's time limit passed: ask it to end.
    End,
    /// It was asked to end and lives still: end it.
    Kill,
}

/// All deadlines.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_key: BTreeMap<ProcessKey, (u64, Due)>,
    by_time: BTreeSet<(u64, ProcessKey)>,
    ordered_ns: Option<u64>,
}

impl Deadlines {
    /// Sets the deadline of a process; an earlier one of the same process is replaced.
    pub(super) fn set(&mut self, key: ProcessKey, at_ns: u64, due: Due) {
        self.clear(key);
        self.by_key.insert(key, (at_ns, due));
        self.by_time.insert((at_ns, key));
    }

    /// Takes the deadline of a process away.
    pub(super) fn clear(&mut self, key: ProcessKey) {
        if let Some((at_ns, _)) = self.by_key.remove(&key) {
            self.by_time.remove(&(at_ns, key));
        }
    }

    /// Takes out one deadline that has passed.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(ProcessKey, Due)> {
        let &(at_ns, key) = self.by_time.first()?;
        if now_ns < at_ns {
            return None;
        }
        self.by_time.remove(&(at_ns, key));
        self.by_key.remove(&key).map(|(_, due)| (key, due))
    }

    /// The host's timer fired: whatever was ordered is used up, even when it fired too early.
    pub(super) fn fired(&mut self) {
        self.ordered_ns = None;
    }

    /// The time to order from the host, or `None` when what is ordered already is right. No deadline left is no
    /// order: an old one wakes us once for nothing, which costs less than a second kind of effect. `beside` is the
    /// earliest deadline that belongs to no process.
    pub(super) fn order(&mut self, now_ns: u64, beside: Option<u64>) -> Option<u64> {
        let earliest = self.earliest().into_iter().chain(beside).min()?;
        if self.ordered_ns == Some(earliest) {
            return None;
        }
        self.ordered_ns = Some(earliest);
        Some(earliest.max(now_ns))
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.by_time.first().map(|&(at_ns, _)| at_ns)
    }

    /// The deadline of a process.
    pub(super) fn of(&self, key: ProcessKey) -> Option<u64> {
        self.by_key.get(&key).map(|&(at_ns, _)| at_ns)
    }
}

/// Why a process that some rule waited for is left alone after all.
pub(super) fn ended_young(age_ms: u64) -> String {
    format!("it ended before the age of {age_ms} ms that a rule waits for")
}

#[cfg(test)]
impl Deadlines {
    /// Everybody who has a deadline.
    pub(super) fn keys(&self) -> impl Iterator<Item = ProcessKey> {
        self.by_key.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_ordered_once_and_again_when_it_changes() {
        let mut deadlines = Deadlines::default();
        let key = |pid| ProcessKey::new(pid, 1);
        assert_eq!(deadlines.order(0, None), None);
        deadlines.set(key(1), 50, Due::End);
        assert_eq!(deadlines.order(0, None), Some(50));
        assert_eq!(deadlines.order(0, None), None);
        deadlines.set(key(2), 20, Due::Judge);
        assert_eq!(deadlines.order(0, None), Some(20));
        deadlines.clear(key(2));
        assert_eq!(
            deadlines.order(0, None),
            Some(50),
            "a later minimum replaces the earlier order"
        );
        assert_eq!(deadlines.pop(49), None);
        deadlines.fired();
        assert_eq!(
            deadlines.order(49, None),
            Some(50),
            "a timer that fired too early is ordered anew"
        );
        assert_eq!(deadlines.pop(50), Some((key(1), Due::End)));
        assert_eq!(deadlines.pop(50), None);
    }

    #[test]
    fn an_order_is_never_in_the_past() {
        let mut deadlines = Deadlines::default();
        deadlines.set(ProcessKey::new(1, 1), 5, Due::Kill);
        assert_eq!(deadlines.order(9, None), Some(9));
    }
}
