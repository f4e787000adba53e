//! What the host answers: placed, not placed, released, retired, saved. Reactors of [`Governor`], one an event.
//!
//! Answers to the orders for one job come in the order of the orders. One that fits no state is a stray.

use ffrtmp_abi::ProcessKey;

use super::Governor;
use super::deadline::Due;
use super::event::{Effect, GroupUsage, Placement};
use super::job::{State, Trigger};
use super::record::Job;
use crate::control::types::Happened;

impl Governor {
    /// The job, moved along the table; `None` and one more stray when the event does not fit.
    pub(super) fn advanced(&mut self, key: ProcessKey, trigger: Trigger) -> Option<&mut Job> {
        let Some(job) = self
            .jobs
            .get_mut(&key)
            .filter(|job| job.state.after(trigger).is_some())
        else {
            self.strays += 1;
            return None;
        };
        job.advance(trigger);
        Some(job)
    }

    pub(super) fn on_placed(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        placement: Placement,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.advanced(key, Trigger::Placed) else {
            return;
        };
        job.take_placement(now_ns, placement);
        job.not_placed = None;
        let done = match job.placed_in_us() {
            Some(us) => format!("placed after {us} µs"),
            None => "limits that need no group are in force; it was not moved".to_owned(),
        };
        job.note(now_ns, done);
        self.publish(key, Happened::Placed, effects);
        self.save_open(key, effects);
    }

    pub(super) fn on_place_failed(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        why: String,
        placement: Placement,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.advanced(key, Trigger::PlaceFailed) else {
            return;
        };
        job.take_placement(now_ns, placement);
        job.note(now_ns, format!("not placed: {why}"));
        job.not_placed = Some((now_ns, why));
        self.publish(key, Happened::NotPlaced, effects);
        self.save_open(key, effects);
        self.retry_placement(now_ns, key);
    }

    /// A group that could not be made may be possible a moment later: the disk of limits was full, a class was being
    /// removed. A job that has a deadline already keeps that one; its end must not be late.
    fn retry_placement(&mut self, now_ns: u64, key: ProcessKey) {
        let allowed = self.settings.placement_retries;
        let Some(job) = self
            .jobs
            .get_mut(&key)
            .filter(|job| job.state == State::Unplaced && job.retries < allowed)
        else {
            return;
        };
        if self.deadlines.of(key).is_some() {
            return;
        }
        let seconds = 1_u64 << job.retries.min(12);
        job.retries += 1;
        let next = format!("it is tried again in {seconds} s ({} of {allowed})", job.retries);
        job.note(now_ns, next);
        let at_ns = now_ns.saturating_add(seconds.saturating_mul(1_000_000_000));
        self.deadlines.set(key, at_ns, Due::Place);
    }

    /// Stores a live job. One whose processes have all ended gets its final record soon, and needs no other.
    pub(super) fn save_open(&self, key: ProcessKey, effects: &mut Vec<Effect>) {
        if self.jobs.get(&key).is_some_and(|job| job.state.live()) {
            self.save(key, false, effects);
        }
    }

    pub(super) fn on_released(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        undone: &[String],
        warnings: &[String],
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.advanced(key, Trigger::Released) else {
            return;
        };
        job.drop_placement();
        job.note(now_ns, "released: its limits are no longer in force");
        for line in undone {
            job.note(now_ns, format!("undone: {line}"));
        }
        for warning in warnings {
            job.note(now_ns, format!("warning: {warning}"));
            job.warnings.push_new(warning.clone());
        }
        job.warnings
            .push_new("somebody released the job; from then on its limits were not in force".to_owned());
        self.publish(key, Happened::Released, effects);
        self.save_open(key, effects);
    }

    pub(super) fn on_retired(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        group: GroupUsage,
        warnings: &[String],
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.advanced(key, Trigger::Retired) else {
            return;
        };
        for warning in warnings {
            job.warnings.push_new(warning.clone());
        }
        // A job that never had a group is answered too; its empty figures would hide why they are empty.
        if job.has_group() || group != GroupUsage::default() {
            job.group = Some(group);
        }
        let id = job.id.clone();
        if self.ids.get(&id) == Some(&key) {
            self.ids.remove(&id);
        }
        self.tell_breaches(now_ns, key, effects);
        if let Some(job) = self.jobs.get_mut(&key) {
            job.note(now_ns, "closed");
        }
        self.save(key, true, effects);
        if self.missed_sla(key) {
            self.publish(key, Happened::SlaMissed, effects);
        }
        self.publish(key, Happened::Closed, effects);
    }

    pub(super) fn on_saved(&mut self, key: ProcessKey, effects: &mut Vec<Effect>) {
        if self.advanced(key, Trigger::Saved).is_none() {
            return;
        }
        if let Some(job) = self.jobs.remove(&key) {
            debug_assert_eq!(job.state, State::Gone);
            self.closed.insert(key, job);
        }
        effects.push(Effect::DropRecord { key });
    }
}
