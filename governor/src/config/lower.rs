//! From the file's rules, targets, filters and limits to the core's rule set. Every fault is noted with its place.
//!
//! Order: the explicit `rules` first, then one rule for each target of the predecessor's keys. Default limits and global
//! filters belong to the targets alone; an explicit rule says all it means itself.

use std::collections::BTreeSet;

use ffrtmp_api::JobId;

use super::at::At;
use super::error::Problems;
use super::filters;
use super::limits::{self, Stated};
use super::raw::{RawCommand, RawConfig, RawFilters, RawRule};
use crate::core::rule::{Admission, PlacementMode, Rule, RuleSet};

/// What is governed when the file names nothing, as the predecessor did.
pub(super) const DEFAULT_TARGETS: [&str; 2] = ["ffmpeg", "gst-launch-1.0"];
/// Bytes of one path component (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// All rules of the file.
pub(super) fn rules(raw: RawConfig, problems: &mut Problems) -> RuleSet {
    let watch_keys = raw.target_commands.is_some()
        || raw.commands.is_some()
        || raw.default_limits.is_some()
        || raw.filters.is_some();
    // A file of nothing but rules means just these; every other file has the predecessor's targets.
    let usual_targets = raw.rules.is_none() || watch_keys;
    let explicit = raw.rules.unwrap_or_default();
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    for (index, at) in explicit.into_iter().enumerate() {
        let path = format!("rules[{index}]");
        let rule = explicit_rule(&at, index, &path, problems);
        if !names.insert(rule.name.clone()) {
            let place = at
                .value
                .name
                .as_ref()
                .map_or((at.line, at.column), |name| (name.line, name.column));
            let at = At {
                value: (),
                line: place.0,
                column: place.1,
            };
            problems.add(
                &at,
                &path,
                format!("rule name \"{}\" is used twice; choose another", rule.name),
            );
        }
        rules.push(rule);
    }

    let defaults = limits::lower(raw.default_limits.as_ref(), "default_limits", problems);
    let shared = raw.filters.unwrap_or_default();
    // Lowered here as well, so that its faults are told under its own path even when no target uses it.
    filters::lower(&shared, "filters", problems);
    let mut commands = raw.commands.unwrap_or_default();
    let targets = targets(raw.target_commands.as_deref(), usual_targets, problems);
    for target in targets {
        let own = commands.remove(&target);
        rules.push(target_rule(&target, own, &defaults, &shared, problems));
    }
    for (name, own) in commands {
        if !is_command(&name) && !is_program_path(&name) {
            problems.add(&own, "commands", format!("\"{name}\" {NOT_A_COMMAND}"));
        }
        rules.push(target_rule(&name, Some(own), &defaults, &shared, problems));
    }
    RuleSet::new(rules)
}

const NOT_A_COMMAND: &str = "is no program's name; write one such as ffmpeg, or a whole path";

/// The names under `target_commands`, each once.
fn targets(listed: Option<&[At<String>]>, usual: bool, problems: &mut Problems) -> Vec<String> {
    let Some(listed) = listed else {
        let names = if usual { &DEFAULT_TARGETS[..] } else { &[] };
        return names.iter().map(|&name| name.to_owned()).collect();
    };
    let mut names: Vec<String> = Vec::new();
    for (index, at) in listed.iter().enumerate() {
        if !is_command(&at.value) && !is_program_path(&at.value) {
            problems.add(
                at,
                &format!("target_commands[{index}]"),
                format!("\"{}\" {NOT_A_COMMAND}", at.value),
            );
        }
        if !names.contains(&at.value) {
            names.push(at.value.clone());
        }
    }
    names
}

fn target_rule(
    target: &str,
    own: Option<At<Option<RawCommand>>>,
    defaults: &Stated,
    shared: &RawFilters,
    problems: &mut Problems,
) -> Rule {
    let own = own.and_then(|at| at.value).unwrap_or_default();
    let path = format!("commands.{target}");
    let limits = limits::lower(own.limits.as_ref(), &format!("{path}.limits"), problems).over(defaults);
    let mut rule = Rule::for_command(format!("target:{target}"), target.to_owned(), limits);
    if target.contains('/') {
        rule.files = std::mem::take(&mut rule.commands);
    }
    let merged = own.filters.unwrap_or_default().or(shared);
    rule.filters = filters::lower(&merged, &format!("{path}.filters"), problems);
    rule
}

fn explicit_rule(at: &At<RawRule>, index: usize, path: &str, problems: &mut Problems) -> Rule {
    let raw = &at.value;
    let name = match &raw.name {
        Some(name) => label(name, &format!("{path}.name"), problems),
        None => format!("rule-{}", index + 1),
    };
    let class = match &raw.class {
        Some(class) => label(class, &format!("{path}.class"), problems),
        None => Rule::DEFAULT_CLASS.to_owned(),
    };
    check_gate(raw, path, problems);
    let rule = Rule {
        name,
        commands: programs(
            raw.commands.as_deref(),
            &format!("{path}.commands"),
            is_command,
            problems,
        ),
        files: programs(
            raw.files.as_deref(),
            &format!("{path}.files"),
            is_program_path,
            problems,
        ),
        filters: raw
            .filters
            .as_ref()
            .map(|raw| filters::lower(raw, &format!("{path}.filters"), problems))
            .unwrap_or_default(),
        class,
        limits: limits::lower(raw.limits.as_ref(), &format!("{path}.limits"), problems).alone(),
        placement: raw.placement,
        intent: raw.intent.unwrap_or_default(),
        sla_eligible: raw.sla_eligible.unwrap_or_default(),
        on_foreign_move: raw.on_foreign_move.unwrap_or_default(),
        admission: raw
            .admission
            .as_ref()
            .map_or_else(Admission::default, |at| at.value),
    };
    match &raw.wide {
        Some(wide) if wide.value && !rule.wide() => problems.add(
            wide,
            &format!("{path}.wide"),
            "the rule names its programs and says wide; keep one of the two",
        ),
        Some(wide) if wide.value => {}
        _ if rule.wide() => problems.add(
            at,
            path,
            format!(
                "rule \"{}\" names no program; list them under commands or files, or say wide: true to look at every exec of the machine",
                rule.name
            ),
        ),
        _ => {}
    }
    rule
}

/// The gate moves a process before anything is known but who executes which file.
fn check_gate(raw: &RawRule, path: &str, problems: &mut Problems) {
    let Some(at) = raw.admission.as_ref().filter(|at| at.value == Admission::Gate) else {
        return;
    };
    let aged = raw
        .filters
        .as_ref()
        .is_some_and(|filters| filters.min_runtime.is_some());
    let why = if raw.commands.is_none() && raw.files.is_none() {
        "gate holds the execs of programs the rule names; list them under commands or files"
    } else if !matches!(raw.placement, None | Some(PlacementMode::Place)) {
        "gate puts a process into its group before it runs; write placement: place, or admission: event"
    } else if aged {
        "gate acts before the first instruction, min_runtime waits for an age; keep one of the two"
    } else {
        return;
    };
    problems.add(at, &format!("{path}.admission"), why);
}

/// A name that serves as directory and label: what a job id may be made of.
pub(super) fn label(at: &At<String>, path: &str, problems: &mut Problems) -> String {
    if JobId::parse(&at.value).is_err() {
        problems.add(
            at,
            path,
            format!(
                "\"{}\" is not possible; write 1 to 128 of A-Z a-z 0-9 . _ : @ -, not starting with a dot",
                at.value
            ),
        );
    }
    at.value.clone()
}

fn programs(
    list: Option<&[At<String>]>,
    path: &str,
    fits: fn(&str) -> bool,
    problems: &mut Problems,
) -> Vec<String> {
    let list = list.unwrap_or_default();
    for (index, at) in list.iter().enumerate() {
        if !fits(&at.value) {
            problems.add(
                at,
                &format!("{path}[{index}]"),
                format!("\"{}\" {}", at.value, hint(path)),
            );
        }
    }
    list.iter().map(|at| at.value.clone()).collect()
}

fn hint(path: &str) -> &'static str {
    if path.ends_with("files") {
        "is no path of a program; write one such as /usr/bin/ffmpeg, or use commands for basenames"
    } else {
        "is no basename; write one such as ffmpeg, or use files for whole paths"
    }
}

fn is_command(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.contains(['/', '\0']) && name != "." && name != ".."
}

fn is_program_path(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(_, name)| is_command(name)) && !path.contains('\0')
}
