//! Filters as users write them, made into the core's tests. The same block stands globally, for one command and in a rule.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::at::{At, Quantity, SwitchOrList};
use super::error::Problems;
use super::raw::RawFilters;
use crate::core::facts::RUNTIMES;
use crate::core::rule::{AllowBlock, ContainerTest, Filters, ParentRef, Pattern};

/// Lowers one block of filters that stands at `path`.
pub(super) fn lower(raw: &RawFilters, path: &str, problems: &mut Problems) -> Filters {
    let key = |name: &str| format!("{path}.{name}");
    let lowered = Filters {
        users: AllowBlock {
            allow: texts(raw.allowed_users.as_deref()),
            block: texts(raw.blocked_users.as_deref()),
        },
        uids: AllowBlock {
            allow: ids(raw.allowed_uids.as_deref(), &key("allowed_uids"), problems),
            block: ids(raw.blocked_uids.as_deref(), &key("blocked_uids"), problems),
        },
        parents: AllowBlock {
            allow: parents(raw.allowed_parents.as_deref(), &key("allowed_parents"), problems),
            block: parents(raw.blocked_parents.as_deref(), &key("blocked_parents"), problems),
        },
        dirs: AllowBlock {
            allow: paths(raw.allowed_dirs.as_deref(), &key("allowed_dirs"), problems),
            block: paths(raw.blocked_dirs.as_deref(), &key("blocked_dirs"), problems),
        },
        cgroups: AllowBlock {
            allow: paths(raw.allowed_cgroups.as_deref(), &key("allowed_cgroups"), problems),
            block: paths(raw.blocked_cgroups.as_deref(), &key("blocked_cgroups"), problems),
        },
        cgroup_pattern: pattern(raw.cgroup_regex.as_ref(), &key("cgroup_regex"), problems),
        argv: pattern(raw.argv.as_ref(), &key("argv"), problems),
        not_argv: pattern(raw.blocked_argv.as_ref(), &key("blocked_argv"), problems),
        container: container(raw.container.as_ref(), &key("container"), problems),
        min_age_ms: age(raw.min_runtime.as_ref(), &key("min_runtime"), problems),
        max_age_ms: age(raw.max_runtime.as_ref(), &key("max_runtime"), problems),
    };
    if let (Some(min), Some(max), Some(at)) = (lowered.min_age_ms, lowered.max_age_ms, &raw.max_runtime)
        && max < min
    {
        problems.add(
            at,
            &key("max_runtime"),
            "is below min_runtime, so that nothing could match; raise it",
        );
    }
    lowered
}

fn texts(list: Option<&[At<String>]>) -> Vec<String> {
    list.unwrap_or_default()
        .iter()
        .map(|at| at.value.clone())
        .collect()
}

fn ids(list: Option<&[At<i64>]>, path: &str, problems: &mut Problems) -> Vec<u32> {
    let mut ids = Vec::new();
    for (index, at) in list.unwrap_or_default().iter().enumerate() {
        match u32::try_from(at.value) {
            Ok(id) => ids.push(id),
            Err(_) => problems.add(
                at,
                &format!("{path}[{index}]"),
                format!("{} is no user id; write 0 to 4294967295", at.value),
            ),
        }
    }
    ids
}

fn parents(list: Option<&[At<Quantity>]>, path: &str, problems: &mut Problems) -> Vec<ParentRef> {
    let mut parents = Vec::new();
    for (index, at) in list.unwrap_or_default().iter().enumerate() {
        let parent = match &at.value {
            Quantity::Number(pid) => u32::try_from(*pid)
                .ok()
                .filter(|&pid| pid > 0)
                .map(ParentRef::Pid),
            Quantity::Text(text) if text.is_empty() => None,
            Quantity::Text(text) => Some(
                text.parse()
                    .map_or_else(|_| ParentRef::Name(text.clone()), ParentRef::Pid),
            ),
        };
        match parent {
            Some(parent) => parents.push(parent),
            None => problems.add(
                at,
                &format!("{path}[{index}]"),
                format!("{} is no parent; write a pid above 0, or a name", at.value),
            ),
        }
    }
    parents
}

fn paths(list: Option<&[At<String>]>, path: &str, problems: &mut Problems) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (index, at) in list.unwrap_or_default().iter().enumerate() {
        let dir = Path::new(&at.value);
        if dir.is_absolute() && !dir.components().any(|part| part == Component::ParentDir) {
            paths.push(dir.to_owned());
        } else {
            problems.add(
                at,
                &format!("{path}[{index}]"),
                format!(
                    "\"{}\" is no absolute path; start it with / and leave out ..",
                    at.value
                ),
            );
        }
    }
    paths
}

/// A regular expression; its error is told in one line.
pub(super) fn pattern(at: Option<&At<String>>, path: &str, problems: &mut Problems) -> Option<Pattern> {
    let at = at?;
    match Pattern::parse(&at.value) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let text = error.to_string();
            let reason = text
                .lines()
                .last()
                .unwrap_or("it does not compile")
                .trim_start_matches("error: ");
            problems.add(
                at,
                path,
                format!("\"{}\" is no regular expression: {reason}", at.value),
            );
            None
        }
    }
}

fn container(at: Option<&At<SwitchOrList>>, path: &str, problems: &mut Problems) -> Option<ContainerTest> {
    let at = at?;
    match &at.value {
        SwitchOrList::Switch(inside) => Some(ContainerTest::Inside(*inside)),
        SwitchOrList::List(runtimes) => {
            for runtime in runtimes.iter().filter(|name| !RUNTIMES.contains(&name.as_str())) {
                problems.add(
                    at,
                    path,
                    format!(
                        "\"{runtime}\" is no container runtime; write {}",
                        RUNTIMES.join(", ")
                    ),
                );
            }
            Some(ContainerTest::Runtimes(runtimes.clone()))
        }
    }
}

fn age(at: Option<&At<String>>, path: &str, problems: &mut Problems) -> Option<u64> {
    duration(at, path, problems).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// A duration with its unit; a bare 0 is one as well.
pub(super) fn duration(at: Option<&At<String>>, path: &str, problems: &mut Problems) -> Option<Duration> {
    let at = at?;
    match humantime::parse_duration(&at.value) {
        Ok(duration) => Some(duration),
        Err(_) if at.value.trim() == "0" => Some(Duration::ZERO),
        Err(_) => {
            let text = format!(
                "\"{}\" is no duration; write a number with its unit, such as 10s, 5m or 1h30m",
                at.value
            );
            problems.add(at, path, text);
            None
        }
    }
}
