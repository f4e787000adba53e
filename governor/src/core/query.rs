//! What the engine asks the core beside events: pure looks at its state.

use std::collections::BTreeMap;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Usage;

use ffrtmp_api::Limits;

use super::event::KernelUsage;
use super::explain::appearance;
use super::facts::ProcessFacts;
use super::job::State;
use super::rule::Decision;
use super::{Governor, usage};
use crate::control::types::{Explain, ExplainStep};

impl Governor {
    /// Adds a warning to a job's report.
    pub fn warn(&mut self, key: ProcessKey, warning: String) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.warnings.push_new(warning);
        }
    }

    /// What every live job has asked for, by its id.
    pub fn asked_of_live(&self) -> Vec<(String, Limits)> {
        let live = self.jobs.values().filter(|job| job.state.live() && !job.released);
        live.map(|job| (job.id.to_string(), job.limits.clone())).collect()
    }

    /// True for a process that was judged: a job, one that waits for its age, or a closed one still remembered.
    pub fn knows(&self, key: ProcessKey) -> bool {
        self.jobs.contains_key(&key) || self.waiting.contains_key(&key) || self.closed.get(key).is_some()
    }

    /// Class of a job that is not closed on disk yet.
    pub fn class_of(&self, key: ProcessKey) -> Option<&str> {
        self.jobs.get(&key).map(|job| job.class.as_str())
    }

    /// Number of rules in force, those of sessions included.
    pub fn rule_count(&self) -> usize {
        self.rules.count()
    }

    /// Figures of the core, by name.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let in_state = |state| self.jobs.values().filter(|job| job.state == state).count() as u64;
        BTreeMap::from([
            ("strays".to_owned(), self.strays),
            ("discovered".to_owned(), self.discovered),
            ("jobs_governed".to_owned(), in_state(State::Governed)),
            ("jobs_observed".to_owned(), in_state(State::Observed)),
            ("jobs_unplaced".to_owned(), in_state(State::Unplaced)),
            ("jobs_waiting".to_owned(), self.waiting.len() as u64),
            ("jobs_unsaved".to_owned(), in_state(State::Closed)),
        ])
    }

    /// Figures of a job that still lives, as a report shows them.
    pub fn live_usage(&self, key: ProcessKey, kernel: &KernelUsage) -> Usage {
        let had_group = self
            .jobs
            .get(&key)
            .is_some_and(|job| !job.placement.groups.is_empty());
        usage::usage(&usage::Source {
            kernel,
            group: None,
            had_group,
            finished: false,
            tier: &self.settings.tier,
        })
    }

    /// How a process that is no job would be judged now.
    pub fn explain_stranger(&self, now_ns: u64, facts: &ProcessFacts) -> Explain {
        let age_ms = now_ns.saturating_sub(facts.started_ns) / 1_000_000;
        let verdict = match self.rules.decide(facts, age_ms) {
            Decision::Govern(action) => {
                format!(
                    "is no job, yet rule `{}` would govern it; a reload adopts it",
                    action.rule
                )
            }
            Decision::Ignore { why } => format!("left alone: {why}"),
            Decision::Later { age_ms } => format!("left alone until it is {age_ms} ms old"),
        };
        let steps = vec![ExplainStep {
            at_us: 0,
            what: appearance(facts),
        }];
        Explain {
            pid: facts.key.pid,
            job: None,
            verdict,
            steps,
        }
    }
}
