//! Bringing a job's processes into its group, and telling what is in force afterwards.

use std::fs::File;
use std::sync::Arc;

use ffrtmp_abi::ProcessKey;

use super::{LinuxHost, Placed, needing_a_group, not_placed, policy};
use crate::core::event::{PlaceOrder, Placement};
use crate::core::plan::not_enforced;
use crate::core::rule::PlacementMode;
use crate::engine::clock;
use crate::host::cgroup::{CgroupError, Moved, Prepared};
use crate::host::process::Pinned;
use crate::host::procfs::listed_of;
use crate::host::spares::Spare;
use crate::host::{NotPlaced, priority};

impl LinuxHost {
    /// What every placement begins with: the process held fast, where it came from noted, and all that needs no group.
    pub(in crate::host) fn begin(&mut self, order: &PlaceOrder) -> Result<(Pinned, Placement), NotPlaced> {
        let mut placement = Placement::default();
        let lives = || self.kernel.surely_lives(order.key);
        let process = match Pinned::open_if(order.key, lives) {
            Ok(process) => process,
            Err(error) => return Err(not_placed(&error.into(), placement)),
        };
        self.settle_gate(order);
        let known = self.sits.take().filter(|(key, _)| *key == order.key);
        let listed = match known.map_or_else(|| listed_of(&process).map(Arc::new), |(_, listed)| Ok(listed)) {
            Ok(listed) => listed,
            Err(error) => return Err(not_placed(&error.into(), placement)),
        };
        let now = self.origin_of(&process, &listed);
        let moves = order.inside_unit || matches!(order.mode, PlacementMode::Place | PlacementMode::Scope);
        let frozen = self.tree.frozen(&listed).filter(|_| moves);
        let placed = self.placed.entry(order.key).or_insert(Placed {
            origin: Some(now),
            ..Placed::default()
        });
        if let Some(origin) = &mut placed.origin {
            priority::remember(&process, &order.limits, &mut origin.attributes);
        }
        placed.asked = order.limits.clone();
        placement.origin = placed.origin.clone().map(Box::new);
        let attributes = priority::apply(&process, &order.limits);
        placement.applied = attributes.applied;
        placement.warnings = attributes.warnings;
        match frozen {
            Some(path) => {
                let pid = process.pid();
                Err(not_placed(&CgroupError::Frozen { pid, path }, placement))
            }
            None => Ok((process, placement)),
        }
    }

    /// A group of our own below the class.
    pub(super) fn place_in_group(
        &mut self,
        order: &PlaceOrder,
        process: &Pinned,
        mut placement: Placement,
    ) -> Result<Placement, NotPlaced> {
        self.ceilings.confirm(&self.tree, &order.class);
        if let Some(taken) = self.gate.as_mut().and_then(|gate| gate.take(order.key.pid)) {
            return self.join_taken(order.key, process, taken, placement);
        }
        let filled = self.make_and_fill(order, process);
        self.spares.refill(&self.tree);
        match filled {
            Ok((prepared, moved)) => Ok(self.joined(order.key, prepared, &moved, placement)),
            Err(error) => {
                if let CgroupError::Create(refused) = &error {
                    // The words that users of the predecessor know to look for.
                    let why = refused.source.kind().to_string();
                    placement.warnings.push(format!("Cannot create cgroup ({why})"));
                    let limits = needing_a_group(&order.limits).into_iter();
                    placement
                        .warnings
                        .extend(limits.map(|limit| not_enforced(limit, "there is no group for it")));
                }
                Err(not_placed(&error, placement))
            }
        }
    }

    /// A group under its limits with the job's processes in it: a spare where one will do. A group that somebody removed
    /// before it was used is made once more.
    fn make_and_fill(
        &mut self,
        order: &PlaceOrder,
        process: &Pinned,
    ) -> Result<(Prepared, Moved), CgroupError> {
        let mut again = true;
        let mut spare = order
            .spare
            .then(|| self.spares.take(&order.class, &order.limits))
            .flatten();
        loop {
            let Spare { prepared, doors } = match spare.take() {
                Some(spare) => spare,
                None => Spare {
                    prepared: self.tree.prepare(&order.class, &order.name, &order.limits)?,
                    doors: Vec::new(),
                },
            };
            match self.fill(order.key, process, &prepared, &doors) {
                Ok(moved) => return Ok((prepared, moved)),
                Err(error) => {
                    self.tree.retire(&prepared.group);
                    if !(error.is_vanished() && std::mem::take(&mut again)) {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn fill(
        &self,
        key: ProcessKey,
        process: &Pinned,
        prepared: &Prepared,
        doors: &[File],
    ) -> Result<Moved, CgroupError> {
        let children = || policy::children(&self.kernel, key, self.owners.get(&key));
        self.tree.place(&prepared.group, doors, process, children)
    }

    /// Moves the process and its descendants into a group that is ready, and notes what is in force.
    pub(in crate::host) fn join(
        &mut self,
        key: ProcessKey,
        process: &Pinned,
        prepared: Prepared,
        placement: Placement,
    ) -> Result<Placement, NotPlaced> {
        match self.fill(key, process, &prepared, &[]) {
            Ok(moved) => Ok(self.joined(key, prepared, &moved, placement)),
            Err(error) => {
                // A scope is systemd's to remove, and in use.
                if self.placed.get(&key).is_none_or(|placed| placed.scope.is_none()) {
                    self.tree.retire(&prepared.group);
                }
                Err(not_placed(&error, placement))
            }
        }
    }

    pub(in crate::host) fn joined(
        &mut self,
        key: ProcessKey,
        mut prepared: Prepared,
        moved: &Moved,
        mut placement: Placement,
    ) -> Placement {
        placement.at_ns = clock::boot_ns();
        prepared.settle(moved);
        let Prepared {
            group,
            applied,
            warnings,
            ..
        } = prepared;
        placement.groups = group.paths();
        self.kernel
            .housed(key, group.dirs().first().map(|dir| dir.path.clone()));
        placement.applied.extend(applied);
        placement.warnings.extend(warnings);
        if let Some(placed) = self.placed.get_mut(&key)
            && let Some(earlier) = placed.group.replace(group.clone())
            && earlier != group
        {
            self.tree.retire(&earlier);
        }
        self.leave_leftover(key.pid);
        placement
    }
}
