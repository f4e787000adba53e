//! The real machine behind [`Host`]: groups, priorities and signals of the jobs the engine governs.
//!
//! Nothing acts on a bare pid: each effect opens the process by its key first. A process that ended meanwhile makes the
//! effect fail softly, never somebody else suffer it.

mod leftovers;
mod policy;

use std::collections::HashMap;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;

use super::cgroup::{CgroupError, Group, Leftover, Moved, Prepared, Tree, TreeOptions};
use super::kernel::Kernel;
use super::leaving::still_leaving;
use super::policy::Ceilings;
use super::priority;
use super::process::Pinned;
use super::{Host, NotPlaced, Retire};
use crate::core::event::{GroupUsage, PlaceOrder, Placement, Whereabouts, Whom};
use crate::core::origin::Origin;
use crate::core::plan::not_enforced;
use crate::core::pressure::ClassOutcome;
use crate::core::rule::PlacementMode;
use crate::engine::clock;

/// What was done to one job.
#[derive(Debug)]
struct Placed {
    group: Option<Group>,
    origin: Option<Origin>,
    /// What was asked for last; a release puts back only what still is as asked.
    asked: Limits,
}

/// This machine.
#[derive(Debug)]
pub struct LinuxHost {
    /// The kernel programs.
    pub kernel: Kernel,
    tree: Tree,
    placed: HashMap<ProcessKey, Placed>,
    /// Groups of an earlier governor that still hold processes.
    leftovers: Vec<Leftover>,
    /// Users without privilege that asked for a job: nothing of other users is touched on their behalf.
    owners: HashMap<ProcessKey, u32>,
    /// What is held above the jobs.
    ceilings: Ceilings,
}

impl LinuxHost {
    /// Looks at the hierarchies and removes what a dead governor left empty.
    pub fn new(
        kernel: Kernel,
        options: TreeOptions,
        daemon: bool,
        ceilings: Ceilings,
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
            leftovers,
            owners: HashMap::new(),
            ceilings,
        })
    }

    /// Where limits are written, a line for each hierarchy.
    pub fn hierarchies(&self) -> Vec<String> {
        self.tree.describe()
    }

    /// Gives back what was held above the jobs and removes our empty directories; called when an engine ends.
    pub fn tidy(&mut self, jobs_live: bool) {
        self.ceilings.end(jobs_live);
        self.tree.cleanup();
    }

    fn place_in_group(
        &mut self,
        order: &PlaceOrder,
        process: &Pinned,
        mut placement: Placement,
    ) -> Result<Placement, NotPlaced> {
        self.ceilings.confirm(&self.tree, &order.class);
        let (mut prepared, moved) = match self.make_and_fill(order, process) {
            Ok(done) => done,
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
                return Err(not_placed(&error, placement));
            }
        };
        placement.at_ns = clock::boot_ns();
        prepared.settle(&moved);
        let Prepared {
            group,
            applied,
            warnings,
            ..
        } = prepared;
        placement.groups = group.paths();
        placement.applied.extend(applied);
        placement
            .warnings
            .extend(warnings.into_iter().chain(moved.warnings));
        if let Some(placed) = self.placed.get_mut(&order.key)
            && let Some(earlier) = placed.group.replace(group)
        {
            self.tree.retire(&earlier);
        }
        self.leave_leftover(order.key.pid);
        Ok(placement)
    }

    /// A group under its limits with the job's processes in it. A group that somebody removed before it was used is made
    /// once more.
    fn make_and_fill(&self, order: &PlaceOrder, process: &Pinned) -> Result<(Prepared, Moved), CgroupError> {
        let key = order.key;
        let children = || policy::children(&self.kernel, key, self.owners.get(&key));
        let mut again = true;
        loop {
            let prepared = self.tree.prepare(&order.class, &order.name, &order.limits)?;
            match self.tree.place(&prepared.group, process, children) {
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
}

impl Host for LinuxHost {
    fn place(&mut self, order: &PlaceOrder) -> Result<Placement, NotPlaced> {
        let mut placement = Placement::default();
        let process = match Pinned::open(order.key) {
            Ok(process) => process,
            Err(error) => return Err(not_placed(&error.into(), placement)),
        };
        let now = match self.tree.origin(&process) {
            Ok(now) => now,
            Err(error) => return Err(not_placed(&error, placement)),
        };
        let frozen = self.tree.frozen(&process);
        let placed = self.placed.entry(order.key).or_insert(Placed {
            group: None,
            origin: Some(now),
            asked: Limits::default(),
        });
        placed.asked = order.limits.clone();
        placement.origin = placed.origin.clone().map(Box::new);
        let attributes = priority::apply(&process, &order.limits);
        placement.applied = attributes.applied;
        placement.warnings = attributes.warnings;
        match order.mode {
            PlacementMode::Place => match frozen {
                Some(path) => {
                    let pid = process.pid();
                    Err(not_placed(&CgroupError::Frozen { pid, path }, placement))
                }
                None => self.place_in_group(order, &process, placement),
            },
            PlacementMode::Scope => Err(NotPlaced {
                why: "placement scope needs systemd units, which this version does not make; use place"
                    .to_owned(),
                placement,
            }),
            PlacementMode::InPlace | PlacementMode::Observe => {
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
            let kernel = &self.kernel;
            let members = || {
                kernel
                    .members_of(key)
                    .into_iter()
                    .filter(|one| *one != process.key())
            };
            match self.tree.place(group, &process, || members().collect()) {
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
        let Some(Placed {
            group: Some(group), ..
        }) = self.placed.get(&key)
        else {
            self.placed.remove(&key);
            return Retire::Done {
                group: GroupUsage::default(),
                warnings: Vec::new(),
            };
        };
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
        let mut done = self.tree.release(&members, &origin, &asked);
        if let Some(group) = group {
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
        outcome
    }

    fn drop_record(&mut self, key: ProcessKey) {
        self.kernel.remove(key);
    }
}

/// Names of the limits that only a control group can enforce.
fn needing_a_group(limits: &Limits) -> Vec<&'static str> {
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

fn not_placed(error: &CgroupError, placement: Placement) -> NotPlaced {
    let why = if error.is_gone() {
        "it ended before it could be placed".to_owned()
    } else {
        chain(error)
    };
    NotPlaced { why, placement }
}

/// An error with its causes, for a record that is read far from here.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
