//! Processes that the gate moved before their exec: taken over as jobs, or put back.

use ffrtmp_abi::ProcessKey;
use procfs::ProcessCGroups;

use super::LinuxHost;
use crate::core::event::{PlaceOrder, Placement};
use crate::core::origin::{Attributes, Origin};
use crate::core::rule::PlacementMode;
use crate::host::NotPlaced;
use crate::host::cgroup::Moved;
use crate::host::file::chain;
use crate::host::gate::Taken;
use crate::host::process::Pinned;

impl LinuxHost {
    /// Puts a process back whose job is to sit elsewhere, or not to be moved at all.
    pub(super) fn settle_gate(&mut self, order: &PlaceOrder) {
        let pid = order.key.pid;
        let Some(taken) = self.gate.as_ref().and_then(|gate| gate.taken(pid)) else {
            return;
        };
        let as_ordered = order.mode == PlacementMode::Place
            && taken.kind.class == order.class
            && taken.kind.limits == order.limits;
        if !as_ordered {
            self.put_back(pid);
        }
    }

    /// Where a process came from, by its list of groups: for one that the gate moved, where it was before that.
    pub(super) fn origin_of(&self, process: &Pinned, listed: &ProcessCGroups) -> Origin {
        let taken = self.gate.as_ref().and_then(|gate| gate.taken(process.pid()));
        let before = taken.and_then(|taken| taken.groups.as_ref());
        self.tree.origin(before.unwrap_or(listed), Attributes::default())
    }

    /// Makes the group that the gate moved it into its own.
    pub(super) fn join_taken(
        &mut self,
        key: ProcessKey,
        process: &Pinned,
        taken: Taken,
        placement: Placement,
    ) -> Result<Placement, NotPlaced> {
        if !self.tree.contains(&taken.prepared.group, process) {
            // Some hierarchy refused it at the gate; what is said of that is found out here.
            return self.join(key, process, taken.prepared, placement);
        }
        let moved = Moved {
            pids: vec![process.pid()],
            ..Moved::default()
        };
        let mut placement = self.joined(key, taken.prepared, &moved, placement);
        placement.at_ns = taken.at_ns;
        Ok(placement)
    }

    /// Undoes what the gate did to a process that is no job of its own. Nothing for any other.
    pub fn put_back(&mut self, pid: u32) {
        let Some(taken) = self.gate.as_mut().and_then(|gate| gate.take_to_put_back(pid)) else {
            return;
        };
        if let Ok(process) = Pinned::of_pid(pid)
            && !self.tree.outside_all(&taken.prepared.group, &process)
        {
            let origin = match &taken.groups {
                Some(groups) => self.tree.origin(groups, Attributes::default()),
                None => self.tree.beside(),
            };
            let undone = self.tree.undo(&process, &origin);
            for why in undone.warnings {
                tracing::warn!(pid, why, "the gate's move could not be undone");
            }
        }
        for error in self.tree.retire(&taken.prepared.group).left {
            tracing::debug!(error = %chain(&error), "a group of the gate stays until the next start");
        }
    }
}
