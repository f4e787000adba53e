//! What the gate shows of itself to `doctor` and the metrics.

use std::collections::BTreeMap;

use super::Gate;
use super::wire::Counts;
use crate::control::types::{GateStatus, PolicyLine};

/// What can hold an exec for longer all the same; documented in docs/gate.md.
const RISKS: [&str; 2] = [
    "governor and gate both stopped at once (SIGSTOP, a frozen v2 group above both): held execs wait until one of them goes on",
    "a v1 freezer on a group above the gate: a frozen v1 process cannot be killed, so held execs wait for the thaw",
];

impl Gate {
    /// As it stands now.
    pub fn status(&self) -> GateStatus {
        let marked = self.marked.values().map(|(path, why)| PolicyLine {
            in_force: why.is_none(),
            text: match why {
                None => path.display().to_string(),
                Some(why) => format!("{}: {why}", path.display()),
            },
        });
        GateStatus {
            pid: self.pid.filter(|_| self.channel.is_some()),
            off: self.off.clone(),
            marked: marked.collect(),
            ready: self.lent.len(),
            restarts: self.restarts,
            lacks: self.lacks.clone(),
            risks: RISKS.map(str::to_owned).to_vec(),
            counters: named(&self.all_counts(), self.put_back),
            moves: self.moves.summary(),
        }
    }

    /// True when some rule wants it.
    pub fn is_wanted(&self) -> bool {
        self.supervisor.is_some() || self.off.is_some()
    }

    pub(super) fn all_counts(&self) -> Counts {
        let (a, b) = (&self.earlier, &self.counts);
        Counts {
            held: a.held + b.held,
            placed: a.placed + b.placed,
            inside: a.inside + b.inside,
            elsewhere: a.elsewhere + b.elsewhere,
            unwanted: a.unwanted + b.unwanted,
            timeouts: a.timeouts + b.timeouts,
            no_group: a.no_group + b.no_group,
            refused: a.refused + b.refused,
        }
    }
}

fn named(counts: &Counts, put_back: u64) -> BTreeMap<String, u64> {
    let Counts {
        held,
        placed,
        inside,
        elsewhere,
        unwanted,
        timeouts,
        no_group,
        refused,
    } = *counts;
    let pairs = [
        ("held", held),
        ("placed", placed),
        ("inside", inside),
        ("elsewhere", elsewhere),
        ("unwanted", unwanted),
        ("timeouts", timeouts),
        ("no_group", no_group),
        ("refused", refused),
        ("put_back", put_back),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}
