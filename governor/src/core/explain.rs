//! The answer to "what became of this process?": the verdict in a sentence and the steps that led to it.
//!
//! It reads what the governor remembers and changes nothing. A process that was never seen has no answer here.

use ffrtmp_abi::ProcessKey;

use super::facts::{Found, ProcessFacts};
use super::job::State;
use super::recent::youngest;
use super::record::Job;
use super::redact::harmless;
use super::{Governor, Ignored, view};
use crate::control::types::{Explain, ExplainStep};

impl Governor {
    /// How the youngest process with this pid was judged; `None` for one that was never seen or is long forgotten.
    pub fn explain(&self, pid: u32, now_ns: u64) -> Option<Explain> {
        let answers: [Option<(ProcessKey, Explain)>; 4] = [
            youngest(&self.jobs, pid).map(|(key, job)| (key, self.explain_job(job))),
            youngest(&self.waiting, pid).map(|(key, facts)| (key, self.explain_waiting(facts, now_ns))),
            self.closed
                .of_pid(pid)
                .map(|(key, job)| (key, self.explain_job(job))),
            self.ignored
                .of_pid(pid)
                .map(|(key, ignored)| (key, explain_ignored(pid, ignored))),
        ];
        answers
            .into_iter()
            .flatten()
            .max_by_key(|(key, _)| *key)
            .map(|(_, explain)| explain)
    }

    fn explain_job(&self, job: &Job) -> Explain {
        let last_us = job.exit.as_ref().map_or(0, |exit| exit.at_ns) / 1_000;
        Explain {
            pid: job.key.pid,
            job: Some(view::view(job, &self.settings)),
            verdict: verdict(job),
            steps: job.steps.render(|left_out| ExplainStep {
                at_us: last_us.saturating_sub(job.origin_ns / 1_000),
                what: format!("{left_out} more steps were not kept"),
            }),
        }
    }

    fn explain_waiting(&self, facts: &ProcessFacts, now_ns: u64) -> Explain {
        let age_ms = now_ns.saturating_sub(facts.started_ns) / 1_000_000;
        let judged_ms = self
            .deadlines
            .of(facts.key)
            .map(|at_ns| at_ns.saturating_sub(facts.started_ns) / 1_000_000);
        let again = judged_ms.map_or(String::new(), |ms| format!(", judged again at {ms} ms"));
        Explain {
            pid: facts.key.pid,
            job: None,
            verdict: format!("waits: a rule wants it once it is older; it is {age_ms} ms old{again}"),
            steps: vec![ExplainStep {
                at_us: 0,
                what: appearance(facts),
            }],
        }
    }
}

fn explain_ignored(pid: u32, ignored: &Ignored) -> Explain {
    Explain {
        pid,
        job: None,
        verdict: format!("left alone: {}", ignored.why),
        steps: vec![
            ExplainStep {
                at_us: 0,
                what: ignored.appearance.clone(),
            },
            ExplainStep {
                at_us: ignored.judged_us,
                what: format!("no rule wants it: {}", ignored.why),
            },
        ],
    }
}

fn verdict(job: &Job) -> String {
    let by = match (&job.rule, job.found) {
        (Some(rule), _) => format!("by rule `{rule}`"),
        (None, Found::Run) => "because `ffrtmp run` started it".to_owned(),
        (None, _) => "because somebody attached to it".to_owned(),
    };
    let class = &job.class;
    let ended = job
        .reason()
        .map_or(String::new(), |reason| format!("; it ended: {}", reason.word()));
    let what = match (&job.not_placed, job.state) {
        (_, State::New | State::Placing) => format!("being placed in class `{class}` {by}"),
        (Some((_, why)), _) => format!("followed but not placed ({by}): {why}"),
        (None, _) if job.released => format!("followed only: its placement was undone ({by})"),
        (None, State::Observed) => format!("followed only, nothing is changed ({by})"),
        (None, _) => match job.placed_in_us() {
            Some(us) => format!("governed in class `{class}` {by}, placed after {us} µs"),
            None => format!("in class `{class}` {by}, not moved"),
        },
    };
    format!("{what}{ended}")
}

/// How a process came to our notice, in one line.
pub(super) fn appearance(facts: &ProcessFacts) -> String {
    let ProcessFacts { key, uid, ppid, .. } = facts;
    let how = match facts.found {
        Found::Exec => "executed",
        Found::Adopted => "was found running",
        Found::Attach => "was attached",
        Found::Run => "was started by `ffrtmp run`",
    };
    let filename = harmless(&facts.filename);
    format!("pid {} {how}: {filename} (uid {uid}, parent {ppid})", key.pid)
}
