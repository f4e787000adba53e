//! Placement under systemd: a scope that systemd makes, or a group inside the unit a job was started in.
//!
//! A scope takes two steps, because nobody here waits for systemd: the order goes out, and when the answer comes the
//! limits are read back and the descendants brought in. An order whose job ended or was released meanwhile places nothing.

use std::collections::HashSet;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;

use super::NotPlaced;
use super::cgroup::Group;
use super::file::chain;
use super::linux::{LinuxHost, needing_a_group, not_placed};
use super::process::{Pinned, read_stat};
use super::systemd::{self, ScopeAnswer, ScopeOrder};
use crate::core::event::{PlaceOrder, Placement};
use crate::core::origin::Origin;
use crate::core::plan::not_enforced;
use crate::core::unit::{scope_of, slice_of};
use crate::engine::clock;

/// A placement that waits for systemd.
#[derive(Debug)]
pub(super) struct Pending {
    order: PlaceOrder,
    placement: Placement,
    /// Somebody released the job meanwhile: where it came from, and what was asked.
    pub(super) released: Option<(Origin, Limits)>,
}

impl LinuxHost {
    /// True while systemd's answer for this job is outstanding.
    pub fn awaits(&self, key: ProcessKey) -> bool {
        self.pending.contains_key(&key)
    }

    pub(super) fn ask_for_scope(&mut self, order: &PlaceOrder) -> Option<Result<Placement, NotPlaced>> {
        let (_process, placement) = match self.begin(order) {
            Ok(begun) => begun,
            Err(refused) => return Some(Err(refused)),
        };
        let pending = Pending {
            order: order.clone(),
            placement,
            released: None,
        };
        // An order that is out already will be answered, and then the newer limits are written.
        if self.pending.insert(order.key, pending).is_some() {
            return None;
        }
        let known = self
            .placed
            .get(&order.key)
            .and_then(|placed| placed.scope.clone());
        let ask = ScopeOrder {
            key: order.key,
            exists: known.is_some(),
            scope: known.unwrap_or_else(|| scope_name(order)),
            slice: slice_of(&order.class),
            pids: vec![order.key.pid],
            part_of: order.unit.as_ref().map(|unit| unit.name.clone()),
            limits: order.limits.clone(),
        };
        if self.scopes.as_ref().is_some_and(|scopes| scopes.order(ask)) {
            return None;
        }
        let placement = self.pending.remove(&order.key)?.placement;
        let why = systemd::absent().unwrap_or_else(|| "nobody here talks to systemd any more".to_owned());
        Some(Err(without_group(order, placement, &why)))
    }

    /// Ends a placement that systemd has answered. `None` when there is nothing to tell of it.
    pub fn finish_scope(&mut self, answer: ScopeAnswer) -> Option<Result<Placement, NotPlaced>> {
        let key = answer.key;
        let Pending {
            order,
            mut placement,
            released,
        } = self.pending.remove(&key)?;
        let process = match Pinned::open(key) {
            Ok(process) => process,
            Err(error) => return Some(Err(not_placed(&error.into(), placement))),
        };
        let group = self.tree.group_named(&process, &answer.scope);
        if let Some((origin, asked)) = released {
            let from = group.iter().flat_map(Group::dirs).cloned().collect::<Vec<_>>();
            let undone = self.tree.release_from(&[key], &from, &origin, &asked);
            tracing::info!(
                pid = key.pid,
                ?undone,
                "a scope was made for a job that had been released"
            );
            return None;
        }
        match answer.result {
            Ok(said) => placement.warnings.extend(said),
            Err(error) => return Some(Err(without_group(&order, placement, &chain(&error)))),
        }
        let Some(group) = group else {
            let why = format!("systemd made {}, but the process is not in it", answer.scope);
            return Some(Err(without_group(&order, placement, &why)));
        };
        if let Some(placed) = self.placed.get_mut(&key) {
            placed.scope = Some(answer.scope);
        }
        let prepared = self.tree.adopt(group, &order.limits);
        Some(self.join(key, &process, prepared, placement))
    }

    /// A group of the job's own inside the unit that `ffrtmp run` was started in; without one the job stays in the
    /// unit's own group.
    pub(super) fn place_inside_unit(
        &mut self,
        order: &PlaceOrder,
        process: &Pinned,
        mut placement: Placement,
    ) -> Result<Placement, NotPlaced> {
        let Some(unit) = &order.unit else {
            return Err(without_group(order, placement, "its unit is not known"));
        };
        // The wrapper and what it started: whoever else sits there was put there by somebody else.
        let parent = read_stat(process.pid()).map(|stat| stat.ppid.cast_unsigned());
        let own: HashSet<u32> = parent.into_iter().chain([process.pid()]).collect();
        let made = self
            .tree
            .prepare_inside(unit, &order.name, &order.limits, |pid| own.contains(&pid));
        match made {
            Ok(prepared) => self.join(order.key, process, prepared, placement),
            Err(why) => {
                let limits = needing_a_group(&order.limits).into_iter();
                placement
                    .warnings
                    .extend(limits.map(|limit| not_enforced(limit, &why)));
                placement.at_ns = clock::boot_ns();
                Ok(placement)
            }
        }
    }
}

/// Jobs without an id of their own share one, so the pid is part of the name.
fn scope_name(order: &PlaceOrder) -> String {
    let pid = format!("-{}", order.key.pid);
    if order.name.ends_with(&pid) {
        scope_of(&order.name)
    } else {
        scope_of(&format!("{}{pid}", order.name))
    }
}

/// A placement that failed, with each limit that is not in force therefore.
fn without_group(order: &PlaceOrder, mut placement: Placement, why: &str) -> NotPlaced {
    let limits = needing_a_group(&order.limits).into_iter();
    placement
        .warnings
        .extend(limits.map(|limit| not_enforced(limit, why)));
    NotPlaced {
        why: why.to_owned(),
        placement,
    }
}
