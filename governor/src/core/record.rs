//! What the core keeps of one job, and the small changes its events make.
//!
//! It owns the fields and their consistency; when they change is the governor's, how they are shown is [`super::view`]'s.

use std::collections::BTreeSet;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{ExitReason, Intent, JobId, LimitBreach, Limits};

use super::event::{ExitFacts, GroupUsage, KernelUsage, Placement};
use super::exit::{self, Circumstances, EndOrder, GroupMemory};
use super::facts::Found;
use super::foreign::Patience;
use super::job::{State, Trigger};
use super::rule::{OnForeignMove, PlacementMode};
use super::unit::Unit;
use crate::control::types::ExplainStep;

/// How many steps and how many warnings of one job are kept. A job that somebody moves back and forth all day must
/// not grow without bound; what is beyond is counted.
pub(super) const NOTES_MAX: usize = 64;

/// A list that keeps its first entries and counts the rest.
#[derive(Debug)]
pub(super) struct Notes<T> {
    kept: Vec<T>,
    left_out: u64,
}

impl<T> Default for Notes<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            left_out: 0,
        }
    }
}

impl<T: Clone + PartialEq> Notes<T> {
    /// Adds an entry, or counts it when the list is full.
    pub(super) fn push(&mut self, entry: T) {
        if self.kept.len() < NOTES_MAX {
            self.kept.push(entry);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds an entry unless it is there already.
    pub(super) fn push_new(&mut self, entry: T) {
        if !self.kept.contains(&entry) {
            self.push(entry);
        }
    }

    /// The entries; `rest` makes one more of the number left out.
    pub(super) fn render(&self, rest: impl FnOnce(u64) -> T) -> Vec<T> {
        let mut all = self.kept.clone();
        if self.left_out > 0 {
            all.push(rest(self.left_out));
        }
        all
    }
}

/// One job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: ProcessKey,
    pub(super) found: Found,
    pub(super) uid: u32,
    pub(super) id: JobId,
    pub(super) command: Option<Vec<String>>,
    /// When the program started, boot-time clock, ns.
    pub(super) started_ns: u64,
    /// What "since" counts from: the exec where we saw it, else the moment the job came to us.
    pub(super) origin_ns: u64,
    pub(super) rule: Option<String>,
    pub(super) class: String,
    pub(super) limits: Limits,
    pub(super) intent: Intent,
    pub(super) sla_eligible: bool,
    pub(super) on_foreign_move: OnForeignMove,
    pub(super) patience: Patience,
    /// The job's groups that its first process was moved out of.
    pub(super) outside: Vec<String>,
    /// What is wanted; what came of it is `placement`, `not_placed` and `released`.
    pub(super) mode: PlacementMode,
    /// The mode the rule or the request named.
    pub(super) asked_mode: Option<PlacementMode>,
    /// The systemd service it was found in.
    pub(super) unit: Option<Unit>,
    /// `ffrtmp run` in a service: the job stays in it, so that stopping the service ends it.
    pub(super) inside_unit: bool,
    /// Hierarchies in which systemd moved it into the scope that we ordered; any move after that is a foreign one.
    pub(super) scoped_in: BTreeSet<u32>,
    pub(super) state: State,
    pub(super) placement: Placement,
    /// When and why the placement failed.
    pub(super) not_placed: Option<(u64, String)>,
    pub(super) released: bool,
    /// How often the placement was ordered again.
    pub(super) retries: u32,
    /// The end we ordered, and when.
    pub(super) end_order: Option<(u64, EndOrder)>,
    /// A waiting `run` child has executed its program.
    pub(super) launched: bool,
    pub(super) exit: Option<ExitFacts>,
    pub(super) drained: bool,
    pub(super) live: u32,
    pub(super) usage: KernelUsage,
    pub(super) group: Option<GroupUsage>,
    /// Limits it ran into, one entry a limit.
    pub(super) breached: Vec<LimitBreach>,
    pub(super) warnings: Notes<String>,
    pub(super) steps: Notes<ExplainStep>,
}

impl Job {
    /// Moves along the table. False for a stray, which must then change nothing.
    pub(super) fn advance(&mut self, trigger: Trigger) -> bool {
        match self.state.after(trigger) {
            Some(next) => {
                self.state = next;
                true
            }
            None => false,
        }
    }

    /// Adds a step to what `explain` shows.
    pub(super) fn note(&mut self, at_ns: u64, what: impl Into<String>) {
        self.steps.push(ExplainStep {
            at_us: at_ns.saturating_sub(self.origin_ns) / 1_000,
            what: what.into(),
        });
    }

    /// Takes over what a placement did, whether it succeeded as a whole or not.
    pub(super) fn take_placement(&mut self, now_ns: u64, placement: Placement) {
        let at_ns = if placement.at_ns == 0 {
            now_ns
        } else {
            placement.at_ns
        };
        for group in &placement.groups {
            self.note(at_ns, format!("moved to {group}"));
        }
        for limit in &placement.applied {
            self.note(
                at_ns,
                format!("{} is {} in {}", limit.limit, limit.value, limit.target),
            );
        }
        for warning in &placement.warnings {
            self.note(at_ns, format!("warning: {warning}"));
            self.warnings.push_new(warning.clone());
        }
        self.placement = placement;
        self.released = false;
        self.patience = Patience::default();
        self.outside.clear();
    }

    /// Forgets a placement that was undone.
    pub(super) fn drop_placement(&mut self) {
        self.placement = Placement::default();
        self.outside.clear();
        self.released = true;
    }

    /// True when the job sits, or sat to its end, in a group of its own.
    pub(super) fn has_group(&self) -> bool {
        !self.placement.groups.is_empty()
    }

    /// Microseconds from the origin to the last move; `None` when nothing was moved.
    pub(super) fn placed_in_us(&self) -> Option<u64> {
        (self.placement.at_ns > 0).then(|| self.placement.at_ns.saturating_sub(self.origin_ns) / 1_000)
    }

    /// Why its first process ended; `None` while it lives.
    pub(super) fn reason(&self) -> Option<ExitReason> {
        let exit = self.exit.as_ref()?;
        let in_force = |name: &str| self.in_force().any(|limit| limit.limit == name);
        Some(exit::classify(
            exit,
            &Circumstances {
                pid: self.key.pid,
                order: self.end_order,
                memory: GroupMemory {
                    group: self.has_group(),
                    limit: self.limits.memory_max.filter(|_| in_force("memory_max")),
                    peak: self.group.as_ref().and_then(|group| group.memory_peak),
                },
            },
        ))
    }

    /// True when limits were asked for, none could be placed, and the process outlived the failure. One that ended
    /// before it could be placed was not failed by the platform.
    pub(super) fn limits_missing(&self) -> bool {
        match (&self.not_placed, &self.exit) {
            (Some((failed_ns, _)), Some(exit)) => !self.limits.is_empty() && *failed_ns < exit.at_ns,
            (Some(_), None) => !self.limits.is_empty(),
            (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_the_first_entries_and_count_the_rest() {
        let mut notes = Notes::default();
        for n in 0..NOTES_MAX as u64 + 3 {
            notes.push(n);
        }
        notes.push_new(0);
        let all = notes.render(|left_out| 1_000 + left_out);
        assert_eq!(all.len(), NOTES_MAX + 1);
        assert_eq!(all.last(), Some(&1_003));
    }
}
