//! Two names of one process: the key by which a lower tier recorded it, which has the precision of a tick, and the exact
//! one that the kernel's maps have. A governor that gets its programs back goes on with the name in the ledger.

use std::collections::HashMap;

use ffrtmp_abi::decode::Entry;
use ffrtmp_abi::{Header, ProcessKey};

/// Told and exact keys. Empty unless a governor of a lower tier ran before.
#[derive(Debug, Default)]
pub struct Aliases {
    exact: HashMap<ProcessKey, ProcessKey>,
    told: HashMap<ProcessKey, ProcessKey>,
}

impl Aliases {
    /// What is told as `told` is `exact` in the kernel.
    pub(super) fn add(&mut self, told: ProcessKey, exact: ProcessKey) {
        if told != exact {
            self.exact.insert(told, exact);
            self.told.insert(exact, told);
        }
    }

    /// Forgets what is told as `told`.
    pub(super) fn remove(&mut self, told: ProcessKey) {
        if let Some(exact) = self.exact.remove(&told) {
            self.told.remove(&exact);
        }
    }

    /// The kernel's key.
    pub(super) fn exact(&self, key: ProcessKey) -> ProcessKey {
        self.exact.get(&key).copied().unwrap_or(key)
    }

    /// The key in the ledger.
    pub(super) fn told(&self, key: ProcessKey) -> ProcessKey {
        self.told.get(&key).copied().unwrap_or(key)
    }

    /// Replaces the kernel's keys in an entry.
    pub(super) fn tell(&self, entry: &mut Entry) {
        if self.told.is_empty() {
            return;
        }
        let header: &mut Header = match entry {
            Entry::Exec(exec) => &mut exec.header.header,
            Entry::Exit(exit) | Entry::Drained(exit) => &mut exit.header,
            Entry::Move(moved) => &mut moved.header,
        };
        header.key = self.told(header.key);
        header.root = self.told(header.root);
    }
}

#[cfg(test)]
mod tests {
    use ffrtmp_abi::{ExitEvent, Kind};

    use super::*;

    #[test]
    fn an_entry_has_the_ledgers_keys_and_the_way_back_is_exact() {
        let (told, exact) = (ProcessKey::new(7, 10), ProcessKey::new(7, 13));
        let stranger = ProcessKey::new(8, 20);
        let mut aliases = Aliases::default();
        aliases.add(told, exact);
        aliases.add(stranger, stranger);
        let header = Header {
            kind: Kind::Exit as u32,
            len: size_of::<ExitEvent>() as u32,
            at_ns: 1,
            key: stranger,
            root: exact,
        };
        let mut entry = Entry::Exit(ExitEvent {
            header,
            live: 0,
            pad: 0,
        });
        aliases.tell(&mut entry);
        let Entry::Exit(exit) = entry else {
            panic!("{entry:?}")
        };
        assert_eq!((exit.header.key, exit.header.root), (stranger, told));
        assert_eq!((aliases.exact(told), aliases.exact(stranger)), (exact, stranger));
        aliases.remove(told);
        assert_eq!((aliases.exact(told), aliases.told(exact)), (told, exact));
    }
}
