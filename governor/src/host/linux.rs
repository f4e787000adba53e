//! The real machine behind [`Host`]: groups, priorities and signals of the jobs the engine governs.
//!
//! Nothing acts on a bare pid: each effect opens the process by its key first. A process that ended meanwhile makes the
//! effect fail softly, never somebody else suffer it.

mod gate;
mod leftovers;
mod place;
mod policy;

use std::collections::HashMap;
use std::sync::Arc;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;
use procfs::ProcessCGroups;

use super::cgroup::{Announcer, CgroupError, Group, Leftover, Tree, TreeOptions};
use super::file::chain;
use super::gate::Gate;
use super::leaving::still_leaving;
use super::policy::Ceilings;
use super::process::Pinned;
use super::scope::Pending;
use super::source::Source;
use super::spares::Spares;
use super::systemd::Scopes;
use super::{Host, NotPlaced, Retire};
use crate::core::event::{GroupUsage, PlaceOrder, Placement, Whereabouts, Whom};
use crate::core::origin::Origin;
use crate::core::plan::not_enforced;
use crate::core::pressure::ClassOutcome;
use crate::core::rule::{Pair, PlacementMode};
use crate::engine::clock;

/// What was done to one job.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) group: Option<Group>,
    pub(super) origin: Option<Origin>,
    /// What was asked for last; a release puts back only what still is as asked.
    pub(super) asked: Limits,
    /// The systemd scope that the group belongs to; systemd removes it.
    pub(super) scope: Option<String>,
}

/// This machine.
#[derive(Debug)]
pub struct LinuxHost {
    /// Who tells of processes.
    pub kernel: Source,
    pub(crate) tree: Tree,
    pub(super) placed: HashMap<ProcessKey, Placed>,
    /// Who asks systemd for scopes, where systemd runs.
    pub(super) scopes: Option<Scopes>,
    /// Placements that wait for systemd's answer.
    pub(super) pending: HashMap<ProcessKey, Pending>,
    /// Groups of an earlier governor that still hold processes.
    leftovers: Vec<Leftover>,
    /// Users without privilege that asked for a job: nothing of other users is touched on their behalf.
    owners: HashMap<ProcessKey, u32>,
    /// What is held above the jobs.
    ceilings: Ceilings,
    /// The exec gate, where there may be one.
    pub gate: Option<Gate>,
    /// Groups made ahead of need.
    spares: Spares,
    /// Where the process sits that executed just now, as /proc would list it.
    pub(crate) sits: Option<(ProcessKey, Arc<ProcessCGroups>)>,
}

impl LinuxHost {
    /// Looks at the hierarchies and removes what a dead governor left empty.
    pub fn new(
        kernel: Source,
        options: TreeOptions,
        daemon: bool,
        ceilings: Ceilings,
        scopes: Option<Scopes>,
        spares: Spares,
    ) -> Result<Self, CgroupError> {
        let tree = Tree::open(options)?;
        let mut leftovers = Vec::new();
        // An engine of `ffrtmp run` lives beside others and leaves their groups alone.
        if daemon {
            let (live, left) = tree.adopt_leftovers()?;
            for error in left {
                tracing::warn!(%error, "a group of an earlier governor stays");
            }
            leftovers = live;
        }
        Ok(Self {
            kernel,
            tree,
            placed: HashMap::new(),
            scopes,
            pending: HashMap::new(),
            leftovers,
            owners: HashMap::new(),
            ceilings,
            gate: None,
            spares,
            sits: None,
        })
    }

    /// Where limits are written, a line for each hierarchy.
    pub fn hierarchies(&self) -> Vec<String> {
        let mut lines = self.tree.describe();
        if self.scopes.is_some() {
            lines.push("systemd: scopes below ffrtmp.slice for processes of its services".to_owned());
        }
        lines
    }

    /// Keeps groups ready for these pairs of class and limits, and for no others.
    pub fn keep_spares(&mut self, pairs: Vec<Pair>) {
        self.spares.want(&self.tree, pairs);
    }

    /// Gives back what was held above the jobs and removes our empty directories; called when an engine ends.
    pub fn tidy(&mut self, jobs_live: bool) {
        if let Some(gate) = &mut self.gate {
            gate.close(&self.tree);
        }
        self.spares.end(&self.tree);
        self.ceilings.end(jobs_live);
        self.tree.cleanup();
    }
}

impl Host for LinuxHost {
    fn order_scope(&mut self, order: &PlaceOrder) -> Option<Result<Placement, NotPlaced>> {
        self.ask_for_scope(order)
    }

    fn place(&mut self, order: &PlaceOrder) -> Result<Placement, NotPlaced> {
        let (process, mut placement) = self.begin(order)?;
        match order.mode {
            PlacementMode::Place => self.place_in_group(order, &process, placement),
            PlacementMode::InPlace if order.inside_unit => self.place_inside_unit(order, &process, placement),
            PlacementMode::Scope | PlacementMode::InPlace | PlacementMode::Observe => {
                placement
                    .warnings
                    .extend(needing_a_group(&order.limits).into_iter().map(|limit| {
                        not_enforced(limit, "it needs a group of the job's own; use placement place")
                    }));
                placement.at_ns = clock::boot_ns();
                Ok(placement)
            }
        }
    }

    fn recheck(&mut self, key: ProcessKey, process: ProcessKey, restore: bool) -> Whereabouts {
        let mut found = Whereabouts::default();
        let Some(Placed {
            group: Some(group), ..
        }) = self.placed.get(&key)
        else {
            return found;
        };
        // One that ended sits nowhere.
        let Ok(process) = Pinned::open(process) else {
            return found;
        };
        let mut outside = self.tree.outside(group, &process);
        if restore && !outside.is_empty() {
            // Children it had in the other group come along.
            let others = || {
                let members = self.kernel.members_of(key).into_iter();
                members.filter(|one| *one != process.key()).collect()
            };
            match self.tree.place(group, &[], &process, others) {
                Ok(moved) => {
                    found.restored = moved.pids.len();
                    let reasons = moved.refused.into_iter().map(|(_, why)| why);
                    found.failed = reasons.chain(moved.warnings).next();
                }
                Err(error) if error.is_gone() => {}
                Err(error) => found.failed = Some(chain(&error)),
            }
            outside = self.tree.outside(group, &process);
        }
        found.outside = outside.iter().map(|path| path.display().to_string()).collect();
        found
    }

    fn retire(&mut self, key: ProcessKey) -> Retire {
        self.owners.remove(&key);
        // An answer of systemd's that comes now finds nobody to place; the scope goes with its last process.
        self.pending.remove(&key);
        let Some(Placed {
            group: Some(group),
            scope,
            ..
        }) = self.placed.get(&key)
        else {
            self.placed.remove(&key);
            return Retire::Done {
                group: GroupUsage::default(),
                warnings: Vec::new(),
            };
        };
        if scope.is_some() {
            // systemd removes the group in the moment it is empty, so it is read now.
            let usage = self.tree.usage(group);
            self.placed.remove(&key);
            return Retire::Done {
                group: usage,
                warnings: Vec::new(),
            };
        }
        // The exit tracepoint comes a moment before the task leaves its groups.
        if let Some(events) = still_leaving(group) {
            return Retire::Later(events);
        }
        let usage = self.tree.usage(group);
        let left = self.tree.retire(group).left;
        self.placed.remove(&key);
        let warnings = left
            .iter()
            .map(|error| format!("group not removed: {}", chain(error)))
            .collect();
        Retire::Done {
            group: usage,
            warnings,
        }
    }

    fn release(&mut self, key: ProcessKey) -> (Vec<String>, Vec<String>) {
        let Some(Placed {
            group,
            origin: Some(origin),
            asked,
            scope,
        }) = self.placed.remove(&key)
        else {
            return (
                Vec::new(),
                vec!["where it came from is not known; nothing was changed".to_owned()],
            );
        };
        let mut members = self.kernel.members_of(key);
        if members.is_empty() {
            members.push(key);
        }
        let from = group.as_ref().map_or(&[][..], Group::dirs);
        let mut done = self.tree.release_from(&members, from, &origin, &asked);
        if let Some(pending) = self.pending.get_mut(&key) {
            done.undone
                .push("the scope that systemd is making will be left at once".to_owned());
            pending.released = Some((origin, asked));
        }
        if let Some(group) = group.filter(|_| scope.is_none()) {
            let retired = self.tree.retire(&group);
            done.undone.extend(
                retired
                    .removed
                    .iter()
                    .map(|path| format!("removed {}", path.display())),
            );
            done.warnings
                .extend(retired.left.iter().map(|error| chain(error)));
        }
        (done.undone, done.warnings)
    }

    fn signal(&mut self, key: ProcessKey, signal: i32, whom: Whom) -> Result<(), String> {
        let members = match whom {
            Whom::First => vec![key],
            Whom::Everyone => self.kernel.members_of(key),
        };
        let owner = self.owners.get(&key).copied();
        for member in members {
            if owner.is_some_and(|uid| !policy::may_signal(uid, member)) {
                continue;
            }
            match Pinned::open(member).and_then(|process| process.signal(signal)) {
                Ok(()) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(chain(&error)),
            }
        }
        Ok(())
    }

    fn limit_class(&mut self, class: &str, limits: &Limits) -> ClassOutcome {
        // Made under what stood above them before, and a v1 quota that stands refuses a lower one above it.
        self.spares.discard(&self.tree);
        if let Some(gate) = &mut self.gate {
            gate.discard(&self.tree);
        }
        let outcome = self.ceilings.limit_class(&self.tree, class, limits);
        // Jobs that were placed below a lower ceiling had their quotas cut to it.
        if limits.cpu_max.is_none() {
            for placed in self
                .placed
                .values()
                .filter(|placed| placed.asked.cpu_max.is_some())
            {
                if let Some(group) = placed
                    .group
                    .as_ref()
                    .filter(|group| Tree::is_of_class(group, class))
                {
                    self.tree.raise_again(group, &placed.asked);
                }
            }
        }
        self.spares.refill(&self.tree);
        if let Some(gate) = &mut self.gate {
            gate.refill(&self.tree);
        }
        outcome
    }

    fn announcers(&mut self, key: ProcessKey) -> (Vec<Announcer>, u64) {
        match self.placed.get(&key) {
            Some(Placed {
                group: Some(group),
                asked,
                ..
            }) => self.tree.announcers(group, asked),
            _ => (Vec::new(), 0),
        }
    }

    fn drop_record(&mut self, key: ProcessKey) {
        self.put_back(key.pid);
        self.kernel.remove(key);
    }
}

/// Names of the limits that only a control group can enforce.
pub(super) fn needing_a_group(limits: &Limits) -> Vec<&'static str> {
    let asked = [
        ("cpu_max", limits.cpu_max.is_some()),
        ("cpu_weight", limits.cpu_weight.is_some()),
        ("memory_max", limits.memory_max.is_some()),
        ("io_weight", limits.io_weight.is_some()),
        ("io_max", limits.io_max.is_some()),
        ("pids_max", limits.pids_max.is_some()),
        ("cpu_set", limits.cpu_set.is_some()),
    ];
    asked
        .into_iter()
        .filter(|(_, asked)| *asked)
        .map(|(name, _)| name)
        .collect()
}

pub(super) fn not_placed(error: &CgroupError, placement: Placement) -> NotPlaced {
    let why = if error.is_gone() {
        "it ended before it could be placed".to_owned()
    } else {
        chain(error)
    };
    NotPlaced { why, placement }
}
