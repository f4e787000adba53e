//! `ffrtmp rules test`: what a rules file would do to the processes that run now. Changes nothing.

use std::path::Path;

use ffrtmp_governor::core::facts::ProcessFacts;
use ffrtmp_governor::core::redact::Redactor;
use ffrtmp_governor::core::rule::{Decision, RuleSet};
use ffrtmp_governor::host::procfs::all_processes;
use serde_json::{Value, json};

use super::watch;
use crate::args::Format;
use crate::backend;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Tests a file against the live processes.
pub fn test(file: &Path, all: bool, output: &mut Output) -> Result<ExitCode, Failure> {
    let rules = backend::read_rules(&watch::read(file)?, &file.display().to_string())?;
    let processes = all_processes(rules.needs());
    let judged = judge(&rules, &processes, all);
    if output.format() == Format::Json {
        output.json(&judged.iter().map(as_json).collect::<Vec<_>>())?;
        return Ok(ExitCode::Success);
    }
    output.talk(&format!(
        "{} of {} processes would be governed",
        judged
            .iter()
            .filter(|(_, decision)| matches!(decision, Decision::Govern(_)))
            .count(),
        processes.len()
    ));
    let mut rows = Rows::new(&["PID", "USER", "DECISION", "RULE", "CLASS", "WHY", "COMMAND"]);
    for (facts, decision) in &judged {
        rows.push(cells(facts, decision));
    }
    output.rows(&rows)?;
    Ok(ExitCode::Success)
}

fn judge<'a>(rules: &RuleSet, processes: &'a [ProcessFacts], all: bool) -> Vec<(&'a ProcessFacts, Decision)> {
    let now = crate::plain::boot_ns();
    processes
        .iter()
        .map(|facts| {
            let age_ms = now.saturating_sub(facts.started_ns) / 1_000_000;
            (facts, rules.decide(facts, age_ms))
        })
        .filter(|(_, decision)| all || !matches!(decision, Decision::Ignore { .. }))
        .collect()
}

fn command(facts: &ProcessFacts) -> String {
    let argv = facts.argv.clone().unwrap_or_else(|| vec![facts.filename.clone()]);
    Redactor::default().clean(&argv).join(" ")
}

fn cells(facts: &ProcessFacts, decision: &Decision) -> Vec<String> {
    let user = facts.user.clone().unwrap_or_else(|| facts.uid.to_string());
    let (word, rule, class, why) = match decision {
        Decision::Govern(action) => ("govern", action.rule.clone(), action.class.clone(), String::new()),
        Decision::Ignore { why } => ("ignore", String::new(), String::new(), why.clone()),
        Decision::Later { age_ms } => (
            "later",
            String::new(),
            String::new(),
            format!("a rule matches once it is {age_ms} ms old"),
        ),
    };
    vec![
        facts.key.pid.to_string(),
        user,
        word.to_owned(),
        rule,
        class,
        why,
        command(facts),
    ]
}

fn as_json((facts, decision): &(&ProcessFacts, Decision)) -> Value {
    let decided = match decision {
        Decision::Govern(action) => json!({
            "decision": "govern",
            "rule": action.rule,
            "class": action.class,
            "limits": action.limits,
            "placement": action.placement,
            "intent": action.intent,
            "sla_eligible": action.sla_eligible,
        }),
        Decision::Ignore { why } => json!({"decision": "ignore", "why": why}),
        Decision::Later { age_ms } => json!({"decision": "later", "age_ms": age_ms}),
    };
    json!({
        "pid": facts.key.pid,
        "uid": facts.uid,
        "user": facts.user,
        "command": command(facts),
        "decided": decided,
    })
}
