//! A job of an earlier governor, taken up again: the ledger knows what was asked, the kernel map whether it lives.
//!
//! Without this a restart would know attached and started jobs only as processes no rule wants. It orders nothing:
//! groups and limits outlived the governor that made them.

use ffrtmp_api::JobId;

use super::Governor;
use super::event::{Effect, Placement};
use super::facts::{Found, ProcessFacts};
use super::job::State;
use super::process::{Opening, new_job};
use super::rule::PlacementMode;
use super::view::boot_ns;
use crate::control::types::JobView;

impl Governor {
    /// Takes up a job of this boot whose record in the ledger is open. To be called for every such record, before any
    /// event; a record that the kernel map no longer holds is then told of as `Drained`, and closes as unobserved.
    ///
    /// Not restored, because no record holds them: the time limit and the steps of `explain`.
    pub fn restore(&mut self, now_ns: u64, remembered: &JobView, effects: &mut Vec<Effect>) {
        let key = remembered.key.0;
        if self.jobs.contains_key(&key) || self.closed.get(key).is_some() {
            return;
        }
        let report = &remembered.report;
        let id = if self.ids.contains_key(&report.job_id) {
            JobId::unknown()
        } else {
            report.job_id.clone()
        };
        let opening = Opening {
            id,
            rule: report.rule.clone(),
            class: report.class.clone(),
            limits: report.limits.asked.clone(),
            placement: Some(remembered_mode(&report.placement.mode)),
            intent: report.intent,
            sla_eligible: report.sla_eligible,
            on_foreign_move: remembered.on_foreign_move,
            command: report.command.clone(),
        };
        let started_ns = boot_ns(self.settings.boot, report.start_time);
        let facts = remembered_facts(remembered, started_ns);
        let mut job = new_job(now_ns, &facts, opening, &self.settings.redactor);
        job.found = remembered.found;
        // Whether a `run` child has executed its program is not stored; it waits for microseconds, so by now it has.
        job.launched = true;
        job.placement = Placement {
            groups: report.placement.groups.clone(),
            applied: report.limits.applied.clone(),
            warnings: Vec::new(),
            at_ns: report
                .placement
                .placed_in_us
                .map_or(0, |us| job.origin_ns.saturating_add(us.saturating_mul(1_000))),
            origin: remembered.origin.clone().map(Box::new),
        };
        job.breached.clone_from(&report.limits.breached);
        for warning in &report.limits.warnings {
            job.warnings.push(warning.clone());
        }
        // When it failed is not stored; it was before this governor, and the process lived on at least until then.
        job.not_placed = report.placement.not_placed.clone().map(|why| (started_ns, why));
        job.state = match (&job.not_placed, job.mode) {
            (Some(_), _) => State::Unplaced,
            (None, PlacementMode::Observe) => State::Observed,
            (None, PlacementMode::Place | PlacementMode::Scope | PlacementMode::InPlace) => State::Governed,
        };
        job.note(now_ns, "taken up again after a restart of the governor");
        self.adopt(job);
        self.replay_end(now_ns, key, effects);
        self.order_wake(now_ns, effects);
    }
}

/// As much of the facts as a record holds. Its steps count from the program's start, as those of an exec do.
fn remembered_facts(remembered: &JobView, started_ns: u64) -> ProcessFacts {
    ProcessFacts {
        key: remembered.key.0,
        found: Found::Exec,
        started_ns,
        ppid: 0,
        uid: remembered.uid,
        user: None,
        basename: String::new(),
        filename: String::new(),
        argv: None,
        parent: None,
        cwd: None,
        cgroup: None,
        container: None,
    }
}

/// The mode behind a report's word. `none` is a placement that failed.
fn remembered_mode(word: &str) -> PlacementMode {
    match word {
        "observe" => PlacementMode::Observe,
        "in-place" => PlacementMode::InPlace,
        "scope" => PlacementMode::Scope,
        _ => PlacementMode::Place,
    }
}
