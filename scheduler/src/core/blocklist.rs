//! Kinds of work a node is not given for a while, because the platform failed there again and again.
//!
//! A block always ends, so that a cluster of one node recovers by itself.

use std::collections::BTreeMap;

use super::policy::Policy;
use super::{ClassId, Moment};

/// Number of a node in the database.
pub type NodeNumber = i64;

/// One node's record with one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strikes {
    /// Failures in a row.
    pub count: u32,
    /// Boot time until which the node is not given the class; 0 when it is.
    pub until_ms: u64,
}

/// All records. What is not here has no failure.
#[derive(Debug, Clone, Default)]
pub struct Blocklist {
    records: BTreeMap<(NodeNumber, ClassId), Strikes>,
}

impl Blocklist {
    /// Puts a record back, as read from the disk.
    pub fn restore(&mut self, node: NodeNumber, class: ClassId, strikes: Strikes) {
        self.records.insert((node, class), strikes);
    }

    /// What the record is after one more failure.
    pub fn struck(&self, policy: &Policy, node: NodeNumber, class: ClassId, now: Moment) -> Strikes {
        let count = self.records.get(&(node, class)).map_or(0, |record| record.count) + 1;
        let until_ms = match count.checked_sub(policy.strikes) {
            None => 0,
            // Doubled with each further failure, up to sixteen times.
            Some(further) => now.boot_ms + (policy.block_ms << further.min(4)),
        };
        Strikes { count, until_ms }
    }

    /// Forgets the failures of a node with a class; false when there were none.
    pub fn clear(&mut self, node: NodeNumber, class: ClassId) -> bool {
        self.records.remove(&(node, class)).is_some()
    }

    /// Forgets all of a node.
    pub fn forget(&mut self, node: NodeNumber) {
        self.records.retain(|(of, _), _| *of != node);
    }

    /// True when the node has failures with this class on record.
    pub fn has(&self, node: NodeNumber, class: ClassId) -> bool {
        self.records.contains_key(&(node, class))
    }

    /// True while the node is not given the class.
    pub fn blocked(&self, node: NodeNumber, class: ClassId, now: Moment) -> bool {
        self.records
            .get(&(node, class))
            .is_some_and(|record| now.boot_ms < record.until_ms)
    }

    /// Classes the node is not given now.
    pub fn of(&self, node: NodeNumber, now: Moment) -> Vec<(ClassId, Strikes)> {
        self.records
            .range((node, ClassId::MIN)..=(node, ClassId::MAX))
            .filter(|(_, record)| now.boot_ms < record.until_ms)
            .map(|((_, class), record)| (*class, *record))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_block_and_time_or_a_success_unblocks() {
        let policy = Policy::default();
        let at = |boot_ms| Moment { wall_ms: 0, boot_ms };
        let mut list = Blocklist::default();
        for _ in 0..3 {
            assert!(!list.blocked(1, 2, at(0)));
            let strikes = list.struck(&policy, 1, 2, at(0));
            list.restore(1, 2, strikes);
        }
        assert!(list.blocked(1, 2, at(policy.block_ms - 1)));
        assert!(!list.blocked(1, 2, at(policy.block_ms)), "a block ends by itself");
        assert!(!list.blocked(1, 3, at(0)), "another class is not blocked");
        assert!(!list.blocked(2, 2, at(0)), "another node is not blocked");
        let fourth = list.struck(&policy, 1, 2, at(0));
        assert_eq!(fourth.until_ms, 2 * policy.block_ms);
        assert!(list.clear(1, 2));
        assert!(!list.blocked(1, 2, at(0)));
    }
}
