//! Limits that a job ran into: told once each while it runs, where the kernel announces it, and at the end from what its
//! group counted.
//!
//! It owns what counts as a breach. It refuses to guess: a counter nobody could read breaches nothing.

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::LimitBreach;

use super::event::{Effect, GroupUsage};
use super::record::Job;
use super::{Governor, exit};
use crate::control::types::Happened;

/// A quota that was used up in this share of the periods was too small for the job, as 1 / N. A quota that is reached now
/// and then does what it is there for.
const PERIODS_SHARE: u64 = 2;
/// So many periods say something about a job; with the usual 100 ms they are a second.
const PERIODS_MIN: u64 = 10;

impl Governor {
    /// The kernel says that a limit was reached. Word of a job that is closed, or that was let go, is a stray.
    pub(super) fn on_limit_reached(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        breach: LimitBreach,
        effects: &mut Vec<Effect>,
    ) {
        let job = self.jobs.get_mut(&key);
        let Some(job) = job.filter(|job| job.group.is_none() && job.has_limit(&breach.limit)) else {
            self.strays += 1;
            return;
        };
        if job.takes_breach(now_ns, breach) {
            self.publish(key, Happened::LimitBreached, effects);
            self.save_open(key, effects);
        }
    }

    /// What the group counted to its end; a limit that was told of before only gets its last figures.
    pub(super) fn tell_breaches(&mut self, now_ns: u64, key: ProcessKey, effects: &mut Vec<Effect>) {
        let found = self
            .jobs
            .get(&key)
            .and_then(|job| Some(at_end(job, job.group.as_ref()?)));
        for breach in found.unwrap_or_default() {
            let new = self
                .jobs
                .get_mut(&key)
                .is_some_and(|job| job.takes_breach(now_ns, breach));
            if new {
                self.publish(key, Happened::LimitBreached, effects);
            }
        }
    }

    /// True for a closed job that counts towards the SLA and that the platform failed.
    pub(super) fn missed_sla(&self, key: ProcessKey) -> bool {
        self.jobs
            .get(&key)
            .is_some_and(|job| exit::counts(job.intent, job.sla_eligible))
            && self
                .view(key)
                .is_some_and(|view| view.report.platform_sla_compliant == Some(false))
    }
}

impl Job {
    fn has_limit(&self, limit: &str) -> bool {
        self.placement
            .applied
            .iter()
            .any(|applied| applied.limit == limit)
    }

    /// True when this limit was not told of before.
    fn takes_breach(&mut self, now_ns: u64, breach: LimitBreach) -> bool {
        if let Some(known) = self.breached.iter_mut().find(|known| known.limit == breach.limit) {
            *known = breach;
            return false;
        }
        self.note(now_ns, format!("it ran into its limit {}", breach.limit));
        self.breached.push(breach);
        true
    }
}

/// What the counters of a job's group say of its limits. Kills alone count too: v1 may kill before it counts.
fn at_end(job: &Job, group: &GroupUsage) -> Vec<LimitBreach> {
    let mut found = Vec::new();
    let mut add = |limit: &str, times: u64, killed: Option<u64>| {
        if (times > 0 || killed.is_some_and(|killed| killed > 0)) && job.has_limit(limit) {
            found.push(LimitBreach {
                limit: limit.to_owned(),
                times,
                killed,
            });
        }
    };
    add("memory_max", group.memory_max_hits.unwrap_or(0), group.oom_kills);
    add("pids_max", group.pids_max_hits.unwrap_or(0), None);
    if let Some((used_up, all)) = group.cpu_periods
        && all >= PERIODS_MIN
        && used_up >= all / PERIODS_SHARE
    {
        add("cpu_max", used_up, None);
    }
    found
}
