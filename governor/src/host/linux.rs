//! The real machine behind [`Host`]: groups, priorities and signals of the jobs the engine governs.
//!
//! Nothing acts on a bare pid: each effect opens the process by its key first. A process that ended meanwhile makes the
//! effect fail softly, never somebody else suffer it.

use std::collections::HashMap;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;

use super::cgroup::{CgroupError, Group, Leftover, Origin, Prepared, Tree, TreeOptions};
use super::kernel::Kernel;
use super::priority;
use super::process::Pinned;
use super::scope::Pending;
use super::systemd::Scopes;
use super::{Host, NotPlaced, Retire};
use crate::core::event::{GroupUsage, PlaceOrder, Placement, Whom};
use crate::core::plan::not_enforced;
use crate::core::rule::PlacementMode;
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
    /// The kernel programs.
    pub kernel: Kernel,
    pub(super) tree: Tree,
    pub(super) placed: HashMap<ProcessKey, Placed>,
    /// Who asks systemd for scopes, where systemd runs.
    pub(super) scopes: Option<Scopes>,
    /// Placements that wait for systemd's answer.
    pub(super) pending: HashMap<ProcessKey, Pending>,
    /// Groups of an earlier governor that still hold processes.
    leftovers: Vec<Leftover>,
}

impl LinuxHost {
    /// Looks at the hierarchies and removes what a dead governor left empty.
    pub fn new(
        kernel: Kernel,
        options: TreeOptions,
        daemon: bool,
        scopes: Option<Scopes>,
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

    /// Learns of a group that an earlier governor made for a job it left open. Where the job came from is not known any
    /// more, so it cannot be released.
    pub fn restore(&mut self, key: ProcessKey, paths: &[String]) {
        let ours = |leftover: &mut Leftover| leftover.group.paths().iter().any(|path| paths.contains(path));
        let found = self.leftovers.extract_if(.., ours).next();
        if let Some(leftover) = found {
            self.placed.insert(
                key,
                Placed {
                    group: Some(leftover.group),
                    ..Placed::default()
                },
            );
        } else if let Some((group, scope)) = self.tree.scope_at(paths) {
            self.placed.insert(
                key,
                Placed {
                    group: Some(group),
                    scope: Some(scope),
                    ..Placed::default()
                },
            );
        }
    }

    /// Removes our empty directories; called when an engine ends.
    pub fn tidy(&self) {
        self.tree.cleanup();
    }

    fn place_in_group(
        &mut self,
        order: &PlaceOrder,
        process: &Pinned,
        mut placement: Placement,
    ) -> Result<Placement, NotPlaced> {
        let prepared = match self.tree.prepare(&order.class, &order.name, &order.limits) {
            Ok(prepared) => prepared,
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
        self.join(order.key, process, prepared, placement)
    }

    /// Moves the process and its descendants into a group that is ready, and notes what is in force.
    pub(super) fn join(
        &mut self,
        key: ProcessKey,
        process: &Pinned,
        mut prepared: Prepared,
        mut placement: Placement,
    ) -> Result<Placement, NotPlaced> {
        let kernel = &self.kernel;
        let children = || {
            kernel
                .members_of(key)
                .into_iter()
                .filter(|child| *child != key)
                .collect()
        };
        let moved = match self.tree.place(&prepared.group, process, children) {
            Ok(moved) => moved,
            Err(error) => {
                // A scope is systemd's to remove, and in use.
                if self.placed.get(&key).is_none_or(|placed| placed.scope.is_none()) {
                    self.tree.retire(&prepared.group);
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
        if let Some(placed) = self.placed.get_mut(&key)
            && let Some(earlier) = placed.group.replace(group.clone())
            && earlier != group
        {
            self.tree.retire(&earlier);
        }
        self.leave_leftover(key.pid);
        Ok(placement)
    }

    /// What every placement begins with: the process held fast, where it came from noted, and all that needs no group.
    pub(super) fn begin(&mut self, order: &PlaceOrder) -> Result<(Pinned, Placement), NotPlaced> {
        let mut placement = Placement::default();
        let process = match Pinned::open(order.key) {
            Ok(process) => process,
            Err(error) => return Err(not_placed(&error.into(), placement)),
        };
        if !self.placed.contains_key(&order.key) {
            let origin = match self.tree.origin(&process) {
                Ok(origin) => origin,
                Err(error) => return Err(not_placed(&error, placement)),
            };
            self.placed.insert(
                order.key,
                Placed {
                    origin: Some(origin),
                    ..Placed::default()
                },
            );
        }
        if let Some(placed) = self.placed.get_mut(&order.key) {
            placed.asked = order.limits.clone();
        }
        let attributes = priority::apply(&process, &order.limits);
        placement.applied = attributes.applied;
        placement.warnings = attributes.warnings;
        Ok((process, placement))
    }

    /// A group of an earlier governor is removed once its processes sit in one of ours.
    fn leave_leftover(&mut self, pid: u32) {
        let tree = &self.tree;
        self.leftovers.retain(|leftover| {
            !leftover.pids.contains(&pid) || !tree.retire(&leftover.group).left.is_empty()
        });
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

    fn retire(&mut self, key: ProcessKey) -> Retire {
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
        if let Some(events) = group.still_leaving() {
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
        for member in members {
            match Pinned::open(member).and_then(|process| process.signal(signal)) {
                Ok(()) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(chain(&error)),
            }
        }
        Ok(())
    }

    fn drop_record(&mut self, key: ProcessKey) {
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

/// An error with its causes, for a record that is read far from here.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
