//! Groups and containers by the kernel's number for a place, so that an exec is judged without a look at /proc: there the
//! first look at a new process costs more than the judgement.

use std::collections::HashMap;
use std::sync::Arc;

use procfs::ProcessCGroups;

use crate::core::facts::ProcessFacts;

/// Most places kept; a machine has a few services that start what we know, and containers come and go.
const MAX: usize = 1024;

/// What /proc said of whoever sits there.
#[derive(Debug)]
struct Place {
    cgroup: Option<String>,
    container: Option<String>,
    listed: Arc<ProcessCGroups>,
}

/// Places seen so far. The second part of the key tells whether pid namespaces were looked at.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<(u64, bool), Place>);

impl Places {
    /// Fills in what is known of the place, and gives its groups. `None` when that is nothing.
    pub(super) fn fill(
        &self,
        number: u64,
        namespaces: bool,
        facts: &mut ProcessFacts,
    ) -> Option<Arc<ProcessCGroups>> {
        let place = self.0.get(&(number, namespaces))?;
        facts.cgroup.clone_from(&place.cgroup);
        facts.container.clone_from(&place.container);
        Some(Arc::clone(&place.listed))
    }

    /// Remembers what /proc said of a process that nobody has moved since its exec. 0 is no number.
    pub(super) fn learn(
        &mut self,
        number: u64,
        namespaces: bool,
        facts: &ProcessFacts,
        listed: Arc<ProcessCGroups>,
    ) {
        if number == 0 || facts.cgroup.is_none() {
            return;
        }
        if self.0.len() >= MAX {
            self.0.clear();
        }
        let place = Place {
            cgroup: facts.cgroup.clone(),
            container: facts.container.clone(),
            listed,
        };
        self.0.insert((number, namespaces), place);
    }

    /// Forgets all: somebody moves processes, so what was read last may be of another place.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::facts::Found;

    fn facts(cgroup: Option<&str>, container: Option<&str>) -> ProcessFacts {
        ProcessFacts {
            key: ffrtmp_abi::ProcessKey::new(7, 1),
            found: Found::Exec,
            started_ns: 1,
            ppid: 1,
            uid: 0,
            user: None,
            basename: "ffmpeg".to_owned(),
            filename: "/usr/bin/ffmpeg".to_owned(),
            argv: None,
            parent: None,
            cwd: None,
            cgroup: cgroup.map(str::to_owned),
            container: container.map(str::to_owned),
        }
    }

    fn nowhere() -> Arc<ProcessCGroups> {
        Arc::new(ProcessCGroups(Vec::new()))
    }

    #[test]
    fn a_place_is_known_by_its_number_until_somebody_moves_processes() {
        let mut places = Places::default();
        let told = facts(Some("/a.service"), Some("docker"));
        places.learn(7, true, &told, nowhere());
        places.learn(0, true, &told, nowhere());
        let known = |places: &Places, number, namespaces| {
            let mut facts = facts(None, None);
            places
                .fill(number, namespaces, &mut facts)
                .map(|_| (facts.cgroup, facts.container))
        };
        assert_eq!(known(&places, 7, true), Some((told.cgroup, told.container)));
        assert_eq!(known(&places, 7, false), None, "namespaces were looked at");
        assert_eq!(known(&places, 0, true), None, "no number");
        places.forget();
        assert_eq!(known(&places, 7, true), None);
    }

    #[test]
    fn there_are_never_more_than_fit() {
        let mut places = Places::default();
        let facts = facts(Some("/"), None);
        for number in 1..=MAX as u64 + 1 {
            places.learn(number, false, &facts, nowhere());
        }
        assert_eq!(places.0.len(), 1);
    }
}
