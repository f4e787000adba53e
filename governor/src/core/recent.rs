//! A bounded memory of the last things that happened to processes: the oldest goes when a new one comes.
//!
//! It owns eviction and nothing else; what is forgotten here is either on disk or can be had again from the kernel map.

use std::collections::{BTreeMap, VecDeque};

use ffrtmp_abi::ProcessKey;

/// At most `cap` values, one a process, found by process or by pid.
#[derive(Debug)]
pub(super) struct Recent<T> {
    cap: usize,
    values: BTreeMap<ProcessKey, T>,
    order: VecDeque<ProcessKey>,
}

impl<T> Recent<T> {
    /// Empty, for at most `cap` values.
    pub(super) fn new(cap: usize) -> Self {
        Self {
            cap,
            values: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Remembers a value; one that is there for the same process is replaced and counts as new.
    pub(super) fn insert(&mut self, key: ProcessKey, value: T) {
        self.remove(key);
        self.values.insert(key, value);
        self.order.push_back(key);
        while self.order.len() > self.cap {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: ProcessKey) -> Option<T> {
        let value = self.values.remove(&key)?;
        self.order.retain(|other| *other != key);
        Some(value)
    }

    /// The value of a process.
    pub(super) fn get(&self, key: ProcessKey) -> Option<&T> {
        self.values.get(&key)
    }

    /// The value of a process, to change it.
    pub(super) fn get_mut(&mut self, key: ProcessKey) -> Option<&mut T> {
        self.values.get_mut(&key)
    }

    /// The value of the youngest process that had this pid.
    pub(super) fn of_pid(&self, pid: u32) -> Option<(ProcessKey, &T)> {
        youngest(&self.values, pid)
    }

    /// All values, by process.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.values()
    }
}

/// The entry of the youngest process with this pid: keys sort by pid, then start.
pub(super) fn youngest<T>(values: &BTreeMap<ProcessKey, T>, pid: u32) -> Option<(ProcessKey, &T)> {
    let range = ProcessKey::new(pid, 0)..=ProcessKey::new(pid, u64::MAX);
    values.range(range).next_back().map(|(key, value)| (*key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_value_goes_first_and_a_renewed_one_is_not_the_oldest() {
        let mut recent = Recent::new(2);
        let key = |pid| ProcessKey::new(pid, 1);
        recent.insert(key(1), "one");
        recent.insert(key(2), "two");
        recent.insert(key(1), "one again");
        recent.insert(key(3), "three");
        assert_eq!(recent.get(key(2)), None);
        assert_eq!(recent.get(key(1)), Some(&"one again"));
        assert_eq!(recent.remove(key(1)), Some("one again"));
        recent.insert(key(4), "four");
        assert_eq!(recent.values().copied().collect::<Vec<_>>(), ["three", "four"]);
    }

    #[test]
    fn a_reused_pid_means_the_youngest_process() {
        let mut recent = Recent::new(9);
        recent.insert(ProcessKey::new(7, 900), "new");
        recent.insert(ProcessKey::new(7, 100), "old");
        recent.insert(ProcessKey::new(8, 999), "other");
        assert_eq!(recent.of_pid(7), Some((ProcessKey::new(7, 900), &"new")));
        assert_eq!(recent.of_pid(9), None);
    }
}
