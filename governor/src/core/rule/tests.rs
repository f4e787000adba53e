//! Rules against facts, as tables.

mod filters;

use std::path::PathBuf;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{CpuMax, Limits};

use super::*;
use crate::core::facts::Found;
use crate::core::redact::Redactor;

fn facts() -> ProcessFacts {
    ProcessFacts {
        key: ProcessKey::new(42, 1),
        found: Found::Exec,
        started_ns: 0,
        ppid: 7,
        uid: 1000,
        user: Some("bob".to_owned()),
        basename: "ffmpeg".to_owned(),
        filename: "/usr/bin/ffmpeg".to_owned(),
        argv: Some(
            ["ffmpeg", "-i", "in.mp4", "rtmp://host/live/key"]
                .map(str::to_owned)
                .to_vec(),
        ),
        parent: Some("nginx".to_owned()),
        cwd: Some(PathBuf::from("/srv/media/in")),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
        container: None,
    }
}

fn unknown_facts() -> ProcessFacts {
    ProcessFacts {
        user: None,
        argv: None,
        parent: None,
        cwd: None,
        cgroup: None,
        ..facts()
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn rule(change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule::for_command("r".to_owned(), "ffmpeg".to_owned(), Limits::default());
    change(&mut rule);
    rule
}

fn filtered(change: impl FnOnce(&mut Filters)) -> RuleSet {
    RuleSet::new(vec![rule(|rule| change(&mut rule.filters))])
}

fn pattern(text: &str) -> Option<Pattern> {
    Pattern::parse(text).ok()
}

/// `govern`, `later MS` or the reason.
fn told(rules: &RuleSet, facts: &ProcessFacts, age_ms: u64) -> String {
    match rules.decide(facts, age_ms) {
        Decision::Govern(action) => format!("govern by {}", action.rule),
        Decision::Ignore { why } => why,
        Decision::Later { age_ms } => format!("later {age_ms}"),
    }
}

#[test]
fn the_parents_pid_counts_even_when_its_name_is_unknown() {
    let rules = filtered(|f| f.parents.allow = vec![ParentRef::Name("x".into()), ParentRef::Pid(7)]);
    assert_eq!(told(&rules, &unknown_facts(), 0), "govern by r");
}

#[test]
fn names_longer_than_the_kernels_fifteen_characters_match_exactly() {
    let long = "ffmpeg-with-a-rather-long-name";
    let rules = RuleSet::new(vec![rule(|r| r.commands = strings(&[long]))]);
    let mut facts = facts();
    facts.basename = long.to_owned();
    assert_eq!(told(&rules, &facts, 0), "govern by r");
    facts.basename = long[..15].to_owned();
    assert_eq!(told(&rules, &facts, 0), "no rule names `ffmpeg-with-a-r`");

    facts = self::facts();
    facts.parent = Some("a-parent-of-lon".to_owned());
    let rules = filtered(|f| f.parents.allow = vec![ParentRef::Name("a-parent-of-long-name".into())]);
    assert_eq!(told(&rules, &facts, 0), "govern by r");
}

#[test]
fn a_whole_path_matches_only_itself_and_its_basename_passes_the_filter() {
    let rules = RuleSet::from_targets(&strings(&["/opt/ffmpeg/bin/ffmpeg"]), Limits::default());
    assert_eq!(rules.names(), ["ffmpeg"]);
    assert!(!rules.wide());
    assert_eq!(told(&rules, &facts(), 0), "no rule names `ffmpeg`");
    let mut facts = facts();
    facts.filename = "/opt/ffmpeg/bin/ffmpeg".to_owned();
    assert_eq!(told(&rules, &facts, 0), "govern by target:/opt/ffmpeg/bin/ffmpeg");
}

#[test]
fn the_first_rule_that_matches_now_wins() {
    let named = |name: &str, change: fn(&mut Filters)| {
        rule(|rule| {
            rule.name = name.to_owned();
            change(&mut rule.filters);
        })
    };
    let set = |rules: Vec<Rule>| RuleSet::new(rules);
    let open: fn(&mut Filters) = |_| ();
    let old: fn(&mut Filters) = |f| f.min_age_ms = Some(9_000);
    let older: fn(&mut Filters) = |f| f.min_age_ms = Some(20_000);
    let other: fn(&mut Filters) = |f| f.uids.allow = vec![0];
    let cases = [
        (set(vec![named("a", open), named("b", open)]), "govern by a"),
        (set(vec![named("a", other), named("b", open)]), "govern by b"),
        (set(vec![named("a", old), named("b", open)]), "govern by b"),
        (
            set(vec![named("a", older), named("b", old), named("c", other)]),
            "later 9000",
        ),
        (
            set(vec![named("a", other), named("b", other)]),
            "rule `a` wants uid in [0], this one belongs to uid 1000; one more rule for it does not match either",
        ),
        (
            set(vec![named("a", other), named("b", other), named("c", other)]),
            "rule `a` wants uid in [0], this one belongs to uid 1000; 2 more rules for it do not match either",
        ),
        (
            set(vec![rule(|r| {
                r.filters.min_age_ms = Some(9_000);
                r.filters.uids.allow = vec![0];
            })]),
            "rule `r` wants uid in [0], this one belongs to uid 1000",
        ),
    ];
    for (rules, want) in cases {
        assert_eq!(told(&rules, &facts(), 0), want);
    }
}

#[test]
fn a_rule_without_a_program_is_wide_and_takes_any() {
    let rules = RuleSet::new(vec![rule(|r| r.commands.clear())]);
    assert!(rules.wide());
    let mut facts = facts();
    facts.basename = "anything".to_owned();
    assert_eq!(told(&rules, &facts, 0), "govern by r");
}

#[test]
fn names_and_needs_are_those_of_all_rules() {
    let first = filtered(|f| f.parents.allow = vec![ParentRef::Pid(1)]);
    assert_eq!(
        first.needs(),
        Needs {
            namespaces: true,
            ..Needs::default()
        },
        "the default placement is another one in containers"
    );
    let placed = RuleSet::new(vec![rule(|r| r.placement = Some(PlacementMode::Place))]);
    assert_eq!(placed.needs(), Needs::default());
    let tests = RuleSet::new(vec![rule(|r| {
        r.placement = Some(PlacementMode::Place);
        r.filters.container = Some(ContainerTest::Inside(false));
    })]);
    assert!(tests.needs().namespaces);
    let second = filtered(|f| f.parents.block = vec![ParentRef::Name("x".into())]);
    let third = filtered(|f| f.dirs.block = vec!["/".into()]);
    let targets = RuleSet::from_targets(&strings(&["x", "ffmpeg", "x", ""]), Limits::default());
    assert_eq!(targets.len(), 2);
    let all = RuleSet::concat([&first, &second, &third, &targets]);
    assert_eq!(all.names(), ["ffmpeg", "x"]);
    assert_eq!(all.len(), 5);
    assert_eq!(
        all.needs(),
        Needs {
            parent: true,
            cwd: true,
            namespaces: true
        }
    );
}

#[test]
fn foreign_names_in_reasons_are_harmless() {
    let rules = filtered(|f| f.users.allow = strings(&["alice"]));
    let mut facts = facts();
    facts.user = Some("\u{1b}[31mbob".to_owned());
    assert!(!told(&rules, &facts, 0).contains('\u{1b}'));
    facts.basename = "\u{9b}x".to_owned();
    assert!(!told(&rules, &facts, 0).contains('\u{9b}'));
}

#[test]
fn a_rule_set_survives_the_control_socket() {
    let mut rules = filtered(|f| {
        f.argv = pattern("rtmp");
        f.parents.allow = vec![ParentRef::Pid(1), ParentRef::Name("x".into())];
        f.container = Some(ContainerTest::Runtimes(strings(&["docker"])));
        f.min_age_ms = Some(3);
    });
    rules.rules[0].limits.cpu_max = CpuMax::from_percent(150);
    rules.rules[0].placement = Some(PlacementMode::InPlace);
    let text = serde_json::to_string(&rules).unwrap();
    assert_eq!(serde_json::from_str::<RuleSet>(&text).unwrap(), rules);
}

#[test]
fn rows_show_rule_limits_and_a_clean_command() {
    let limits = Limits {
        nice: Some(5),
        ..Limits::default()
    };
    let mut rules = RuleSet::from_targets(&strings(&["ffmpeg"]), limits.clone());
    rules.rules[0].filters.min_age_ms = Some(10);
    let mut gone = unknown_facts();
    gone.basename = "x".to_owned();
    gone.filename = "/bin/x\n".to_owned();
    let rows = test_rows(
        &rules,
        &Redactor::default(),
        &[(facts(), 10), (facts(), 9), (gone, 10)],
    );
    assert_eq!(rows[0].command, "ffmpeg -i in.mp4 rtmp://host/live/***");
    assert_eq!(rows[0].verdict, TestVerdict::Govern);
    assert_eq!(rows[0].rule.as_deref(), Some("target:ffmpeg"));
    assert_eq!(rows[0].limits.as_ref(), Some(&limits));
    assert_eq!(rows[1].verdict, TestVerdict::Later { age_ms: 10 });
    assert_eq!(rows[2].command, "/bin/x\\n");
    assert_eq!(
        rows[2].verdict,
        TestVerdict::Ignore {
            why: "no rule names `x`".to_owned()
        }
    );
}
