//! What an earlier governor left: groups with live processes, claimed by its jobs or removed when they empty.

use super::{LinuxHost, Placed};
use crate::control::types::JobView;
use crate::host::cgroup::Leftover;
use crate::host::leaving::events_of;

impl LinuxHost {
    /// Learns what an earlier governor did to a job it left open, as the ledger tells it.
    pub fn restore(&mut self, job: &JobView) {
        let paths = &job.report.placement.groups;
        let ours = |leftover: &mut Leftover| leftover.group.paths().iter().any(|path| paths.contains(path));
        let group = self
            .leftovers
            .extract_if(.., ours)
            .next()
            .map(|leftover| leftover.group);
        let (group, scope) = match (group, self.tree.scope_at(paths)) {
            (None, Some((group, scope))) => (Some(group), Some(scope)),
            (group, _) => (group, None),
        };
        if group.is_some() || job.origin.is_some() {
            let placed = Placed {
                group,
                scope,
                origin: job.origin.clone(),
                asked: job.report.limits.asked.clone(),
            };
            self.placed.insert(job.key.0, placed);
        }
    }

    /// Removes groups of an earlier governor that no job claimed and that are empty by now. Gives a file for each one that
    /// is not, which reports when that changes. A tree of v1 alone has no such file; there the next start removes them.
    pub fn sweep_leftovers(&mut self) -> Vec<std::fs::File> {
        let tree = &self.tree;
        let mut files = Vec::new();
        self.leftovers.retain(|leftover| {
            // Read before the look at the group, so that a change after the look is reported.
            let events = events_of(&leftover.group);
            let kept = tree.in_use(&leftover.group) || !tree.retire(&leftover.group).left.is_empty();
            if kept {
                files.extend(events.map(|(file, _)| file));
            }
            kept
        });
        files
    }

    /// A group of an earlier governor is removed once its processes sit in one of ours.
    pub(super) fn leave_leftover(&mut self, pid: u32) {
        let tree = &self.tree;
        self.leftovers.retain(|leftover| {
            !leftover.pids.contains(&pid) || !tree.retire(&leftover.group).left.is_empty()
        });
    }
}
