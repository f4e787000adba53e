//! Which rules the exec gate can settle, and in whose favour. Pure: no file is looked for here.
//!
//! The gate asks before the exec, so there are no new arguments yet. A test of arguments or age is taken out and left to
//! the exec event: a rule with such a test that wants the gate takes in on suspicion, one that does not is passed over.

use ffrtmp_api::Limits;
use serde::{Deserialize, Serialize};

use super::rule::{Admission, Needs, PlacementMode, Rule, RuleSet};

/// What a ready group is for. Rules of one class and one set of limits share their groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Directory below our tree.
    pub class: String,
    /// Limits that stand in the group.
    pub limits: Limits,
}

/// One rule as the gate sees it; the first that takes the process decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Kind of the group it gets; `None` leaves the process where it is.
    pub kind: Option<u32>,
    /// True where the rule names no placement, so that members of services are left to systemd.
    pub by_default: bool,
    /// The tests. It names no program, because the file is what brought it here.
    pub rule: Rule,
}

impl Choice {
    /// Which facts must be read for these.
    pub fn needs(choices: &[Self]) -> Needs {
        RuleSet::new(choices.iter().map(|choice| choice.rule.clone()).collect()).needs()
    }

    /// True when user or parent must be read.
    pub fn needs_owner(choices: &[Self]) -> bool {
        choices.iter().any(|choice| {
            let filters = &choice.rule.filters;
            !filters.users.is_empty() || !filters.uids.is_empty() || !filters.parents.is_empty()
        })
    }
}

/// True for a rule that may hold an exec.
pub fn is_gated(rule: &Rule) -> bool {
    rule.admission == Admission::Gate
        && !rule.wide()
        && matches!(rule.placement, None | Some(PlacementMode::Place))
}

/// Number of this kind in the list, where it is added when it is new. Numbers stay for as long as the list does.
pub fn kind_of(rule: &Rule, kinds: &mut Vec<Kind>) -> u32 {
    let wanted = |kind: &Kind| kind.class == rule.class && kind.limits == rule.limits;
    let at = kinds.iter().position(wanted).unwrap_or_else(|| {
        kinds.push(Kind {
            class: rule.class.clone(),
            limits: rule.limits.clone(),
        });
        kinds.len() - 1
    });
    at as u32
}

/// What is to be done with an exec of the file at `path`, in the order of the rules. Empty when no rule holds it.
pub fn choices(
    rules: &[Rule],
    path: &str,
    kinds: &mut Vec<Kind>,
    uid_of: impl Fn(&str) -> Option<u32>,
) -> Vec<Choice> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let means = |rule: &&Rule| {
        rule.wide()
            || rule.commands.iter().any(|command| command == name)
            || rule.files.iter().any(|file| file == path)
    };
    let mut choices: Vec<Choice> = rules
        .iter()
        .filter(means)
        .filter(|rule| is_gated(rule) || settled(rule))
        .map(|rule| Choice {
            kind: is_gated(rule).then(|| kind_of(rule, kinds)),
            by_default: rule.placement.is_none(),
            rule: before_exec(rule, &uid_of),
        })
        .collect();
    // What comes after the last rule that holds decides nothing.
    let held = choices.iter().rposition(|choice| choice.kind.is_some());
    choices.truncate(held.map_or(0, |last| last + 1));
    choices
}

/// True when every test of the rule can be made before the exec.
fn settled(rule: &Rule) -> bool {
    let filters = &rule.filters;
    filters.argv.is_none()
        && filters.not_argv.is_none()
        && filters.min_age_ms.is_none()
        && filters.max_age_ms.is_none()
}

/// The rule without its program, its arguments and its age, and with numbers for the names of users: reading those is
/// reading a file on disk, which the gate never does.
fn before_exec(rule: &Rule, uid_of: impl Fn(&str) -> Option<u32>) -> Rule {
    let mut rule = rule.clone();
    rule.commands.clear();
    rule.files.clear();
    let filters = &mut rule.filters;
    filters.argv = None;
    filters.not_argv = None;
    filters.min_age_ms = None;
    filters.max_age_ms = None;
    for user in filters.users.allow.iter_mut().chain(&mut filters.users.block) {
        if let Some(uid) = uid_of(user) {
            *user = uid.to_string();
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rule::Pattern;

    fn rule(name: &str, gated: bool) -> Rule {
        Rule {
            admission: if gated { Admission::Gate } else { Admission::Event },
            ..Rule::for_command(name.to_owned(), "ffmpeg".to_owned(), Limits::default())
        }
    }

    fn kinds_of(rules: &[Rule]) -> Vec<Option<u32>> {
        choices(rules, "/usr/bin/ffmpeg", &mut Vec::new(), |_| Some(7))
            .iter()
            .map(|choice| choice.kind)
            .collect()
    }

    #[test]
    fn only_rules_that_may_hold_and_those_before_them_reach_the_gate() {
        let mut argv = rule("argv", false);
        argv.filters.argv = Some(Pattern::parse("x").unwrap());
        let mut elsewhere = rule("elsewhere", true);
        elsewhere.commands = vec!["ffprobe".to_owned()];
        let mut observed = rule("observed", true);
        observed.placement = Some(PlacementMode::Observe);
        for (rules, kinds) in [
            (vec![rule("a", true)], vec![Some(0)]),
            (vec![rule("a", false)], vec![]),
            (vec![rule("a", false), rule("b", true)], vec![None, Some(0)]),
            (vec![rule("a", true), rule("b", false)], vec![Some(0)]),
            (vec![argv, rule("b", true)], vec![Some(0)]),
            (vec![elsewhere], vec![]),
            (vec![observed], vec![]),
        ] {
            assert_eq!(kinds_of(&rules), kinds, "{rules:?}");
        }
    }

    #[test]
    fn rules_of_one_class_and_one_set_of_limits_share_their_groups() {
        let mut live = rule("live", true);
        live.class = "live".to_owned();
        let kinds = kinds_of(&[rule("a", true), live, rule("b", true)]);
        assert_eq!(kinds, [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn what_the_gate_cannot_know_is_taken_out_and_users_are_numbers() {
        let mut argued = rule("a", true);
        argued.filters.argv = Some(Pattern::parse("-live").unwrap());
        argued.filters.min_age_ms = Some(5);
        argued.filters.users.allow = vec!["media".to_owned()];
        let all = choices(&[argued], "/usr/bin/ffmpeg", &mut Vec::new(), |_| Some(7));
        let filters = &all[0].rule.filters;
        assert!(filters.argv.is_none() && filters.min_age_ms.is_none());
        assert_eq!(filters.users.allow, ["7"]);
        assert!(Choice::needs_owner(&all) && all[0].rule.wide());
    }
}
