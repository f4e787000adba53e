//! Moves by others: recorded, and undone where the job's rule says so.
//!
//! Owns the patience. A process that keeps being moved away is brought back a few times and then left: two managers that
//! both insist would otherwise move it for ever. It refuses to guess where a process sits; the host looks and says so.

use std::collections::BTreeMap;

use ffrtmp_abi::ProcessKey;

use super::Governor;
use super::event::{Effect, ForeignMove, Whereabouts};
use super::job::{State, Trigger};
use super::plan::not_enforced;
use super::record::Job;
use super::rule::{OnForeignMove, PlacementMode};
use crate::control::types::Happened;

/// The pid of systemd where it is the machine's first process, which is where it makes scopes.
const SYSTEMD: u32 = 1;

/// How often one process is brought back in one hierarchy within [`WINDOW_NS`] before we give in. A unit manager that
/// reloads moves once, or a few times in a row; whoever moves a sixth time within a minute means it.
pub(super) const RESTORES_MAX: u32 = 5;
/// See [`RESTORES_MAX`]; one minute.
pub(super) const WINDOW_NS: u64 = 60_000_000_000;
/// How many processes and hierarchies of one job are counted at a time. Whatever is beyond counts as a fight too.
const COUNTED_MAX: usize = 1_024;

/// How often each process of a job was brought back lately.
#[derive(Debug, Default)]
pub(super) struct Patience {
    counts: BTreeMap<(ProcessKey, u32), (u64, u32)>,
    lost: bool,
}

impl Patience {
    /// True while another move back is worth trying. False from the first time it is not, until the job is placed anew.
    fn holds(&mut self, now_ns: u64, moved: &ForeignMove) -> bool {
        if self.lost {
            return false;
        }
        self.counts
            .retain(|_, (since_ns, _)| now_ns.saturating_sub(*since_ns) < WINDOW_NS);
        let key = (moved.process, moved.hierarchy);
        let room = self.counts.len() < COUNTED_MAX;
        self.lost = match self.counts.get_mut(&key) {
            Some((_, count)) => {
                *count += 1;
                *count > RESTORES_MAX
            }
            None if room => {
                self.counts.insert(key, (now_ns, 1));
                false
            }
            None => true,
        };
        !self.lost
    }
}

impl Governor {
    /// Somebody else moved a process of a job. The host is asked where it sits now, because by the time we hear of it
    /// the move may have been undone already, or been one into a group below the job's own.
    pub(super) fn on_moved(
        &mut self,
        now_ns: u64,
        root: ProcessKey,
        moved: ForeignMove,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.advanced(root, Trigger::Moved) else {
            return;
        };
        let by_order = moved.mover == SYSTEMD && job.mode == PlacementMode::Scope;
        if by_order && job.scoped_in.insert(moved.hierarchy) {
            job.note(now_ns, "systemd moved it into its scope, as ordered");
            return;
        }
        let late_us = now_ns.saturating_sub(moved.at_ns) / 1_000;
        job.note(now_ns, format!("{}; noticed after {late_us} µs", told(&moved)));
        let ours = job.has_group() && matches!(job.state, State::Governed | State::Draining);
        let restore =
            ours && job.on_foreign_move == OnForeignMove::Restore && job.patience_holds(now_ns, &moved);
        if ours {
            effects.push(Effect::Recheck {
                key: root,
                moved,
                restore,
            });
        } else {
            job.warnings.push_new(told(&moved));
        }
        self.publish(root, Happened::Moved, effects);
    }

    /// The host has looked, and has brought it back if it was told to.
    pub(super) fn on_rechecked(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        moved: &ForeignMove,
        found: Whereabouts,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.advanced(key, Trigger::Moved) else {
            return;
        };
        if let Some(why) = found.failed {
            let warning = format!("pid {} could not be moved back: {why}", moved.process.pid);
            job.note(now_ns, warning.clone());
            job.warnings.push_new(warning);
        }
        if found.restored > 0 {
            job.note(now_ns, format!("moved back: {} moves", found.restored));
        }
        let warning = if found.outside.is_empty() {
            format!("{}; it is in the job's group again", told(moved))
        } else {
            format!("{}; limits there may no longer hold", told(moved))
        };
        job.warnings.push_new(warning);
        if moved.process == key {
            job.lose_limits(now_ns, moved.mover, found.outside);
        }
        self.save_open(key, effects);
    }
}

impl Job {
    fn patience_holds(&mut self, now_ns: u64, moved: &ForeignMove) -> bool {
        let had_given_in = self.patience.lost;
        let holds = self.patience.holds(now_ns, moved);
        if !holds && !had_given_in {
            let warning = format!(
                "pid {} keeps moving pid {} away; after {RESTORES_MAX} moves back within a minute it is left where it is",
                moved.mover, moved.process.pid
            );
            self.note(now_ns, warning.clone());
            self.warnings.push_new(warning);
        }
        holds
    }

    /// Takes limits of groups that the first process has left off the list of those in force, and says so.
    fn lose_limits(&mut self, now_ns: u64, mover: u32, outside: Vec<String>) {
        let lost: Vec<String> = self
            .in_force()
            .filter(|limit| outside.iter().any(|group| below(&limit.target, group)))
            .map(|limit| {
                let why = format!("pid {mover} moved the process out of the group");
                not_enforced(&limit.limit, why)
            })
            .collect();
        for warning in lost {
            self.note(now_ns, warning.clone());
            self.warnings.push_new(warning);
        }
        self.outside = outside;
    }

    /// Limits that hold for the first process where it sits now.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &ffrtmp_api::LimitOutcome> {
        self.placement
            .applied
            .iter()
            .filter(|limit| !self.outside.iter().any(|group| below(&limit.target, group)))
    }
}

/// True for a file of the group.
fn below(file: &str, group: &str) -> bool {
    file.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'))
}

fn told(moved: &ForeignMove) -> String {
    format!(
        "pid {} moved pid {} to another group in hierarchy {}",
        moved.mover, moved.process.pid, moved.hierarchy
    )
}
