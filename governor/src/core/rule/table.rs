//! What a rule set would do with given processes: the pure half of `ffrtmp rules test`. Nothing is applied.

use ffrtmp_api::Limits;
use serde::{Deserialize, Serialize};

use super::{Decision, RuleSet};
use crate::core::facts::ProcessFacts;
use crate::core::redact::{Redactor, harmless};

/// What would become of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestVerdict {
    /// A rule takes it.
    Govern,
    /// No rule takes it, for this reason.
    Ignore {
        /// One sentence.
        why: String,
    },
    /// A rule would take it at this age.
    Later {
        /// Milliseconds.
        age_ms: u64,
    },
}

/// One line of `ffrtmp rules test`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestRow {
    /// The process.
    pub pid: u32,
    /// Its command line, redacted and harmless; its path where the arguments are not known.
    pub command: String,
    /// What would become of it.
    pub verdict: TestVerdict,
    /// The rule that takes it.
    pub rule: Option<String>,
    /// The class it would get.
    pub class: Option<String>,
    /// The limits it would get.
    pub limits: Option<Limits>,
}

/// Judges every process with its age in milliseconds, in the order given.
pub fn test_rows(rules: &RuleSet, redactor: &Redactor, processes: &[(ProcessFacts, u64)]) -> Vec<TestRow> {
    processes
        .iter()
        .map(|(facts, age_ms)| row(rules, redactor, facts, *age_ms))
        .collect()
}

fn row(rules: &RuleSet, redactor: &Redactor, facts: &ProcessFacts, age_ms: u64) -> TestRow {
    let command = match &facts.argv {
        Some(argv) if !argv.is_empty() => redactor.clean(argv).join(" "),
        _ => harmless(&facts.filename),
    };
    let empty = |verdict| TestRow {
        pid: facts.key.pid,
        command: command.clone(),
        verdict,
        rule: None,
        class: None,
        limits: None,
    };
    match rules.decide(facts, age_ms) {
        Decision::Govern(action) => TestRow {
            rule: Some(action.rule),
            class: Some(action.class),
            limits: Some(action.limits),
            ..empty(TestVerdict::Govern)
        },
        Decision::Ignore { why } => empty(TestVerdict::Ignore { why }),
        Decision::Later { age_ms } => empty(TestVerdict::Later { age_ms }),
    }
}
