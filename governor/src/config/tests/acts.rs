//! Every key of the predecessor's file, and every key of ours, changes what happens.

mod limits;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{Intent, Limits};

use super::super::{Config, ConfigError, LogFormat, LogLevel, PinPlace, load, parse};
use crate::core::facts::{Found, ProcessFacts};
use crate::core::rule::{Action, Admission, Decision, PlacementMode};

fn config(text: &str) -> Config {
    parse("f.yaml", text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn facts(basename: &str) -> ProcessFacts {
    ProcessFacts {
        key: ProcessKey::new(42, 1),
        found: Found::Exec,
        started_ns: 0,
        ppid: 7,
        uid: 1000,
        user: Some("bob".to_owned()),
        basename: basename.to_owned(),
        filename: format!("/usr/bin/{basename}"),
        argv: Some(vec![
            basename.to_owned(),
            "-i".to_owned(),
            "rtmp://h/app".to_owned(),
        ]),
        parent: Some("nginx".to_owned()),
        cwd: Some(PathBuf::from("/srv/media/in")),
        cgroup: Some("/system.slice/docker-1.scope".to_owned()),
        container: Some("docker".to_owned()),
    }
}

fn decide(text: &str, basename: &str, age_ms: u64) -> Decision {
    config(text).rules.decide(&facts(basename), age_ms)
}

fn action(text: &str, basename: &str) -> Action {
    match decide(text, basename, 60_000) {
        Decision::Govern(action) => action,
        other => panic!("{text}\n{other:?}"),
    }
}

fn limits(text: &str) -> Limits {
    action(text, "ffmpeg").limits
}

/// `govern`, `later`, or `ignore`.
fn outcome(text: &str, age_ms: u64) -> &'static str {
    match decide(text, "ffmpeg", age_ms) {
        Decision::Govern(_) => "govern",
        Decision::Later { .. } => "later",
        Decision::Ignore { .. } => "ignore",
    }
}

#[test]
fn an_empty_file_is_the_default() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "~\n",
        "rules:\n",
        "filters:\ncommands:\n",
    ] {
        let empty = config(text);
        assert_eq!(empty.rules.names(), ["ffmpeg", "gst-launch-1.0"], "{text:?}");
        assert_eq!(empty.listen.to_string(), "127.0.0.1:9091");
        assert_eq!(empty.socket, Path::new("/run/ffrtmp/governor.sock"));
        assert_eq!(empty.ledger, Path::new("/var/lib/ffrtmp/governor.db"));
        assert_eq!(empty.records, 65_536);
        assert_eq!(empty.scan_interval, Duration::from_secs(10));
        assert!(limits(text).is_empty());
    }
}

#[test]
fn every_daemon_key_acts() {
    let config = config(
        "listen: '[::1]:9100'\nsocket: /tmp/s.sock\nledger: /tmp/l.db\nretention: 7d\nrecords: 2048\npins: off\nplacement_retries: 0\nspares: 9\n\
         scan_interval: 3s\ncgroup: {base: /media.slice/}\nlog: {format: json, level: debug}\n\
         redact: {patterns: ['job-(\\d+)'], defaults: false}\n",
    );
    assert_eq!(config.listen.to_string(), "[::1]:9100");
    assert_eq!(config.socket, Path::new("/tmp/s.sock"));
    assert_eq!(config.ledger, Path::new("/tmp/l.db"));
    assert_eq!(config.retention, Duration::from_hours(7 * 24));
    assert_eq!(config.records, 2048);
    assert_eq!(config.placement_retries, 0);
    assert_eq!(config.spares, 9);
    assert_eq!(config.pins, PinPlace::Off);
    assert_eq!(config.scan_interval, Duration::from_secs(3));
    assert_eq!(config.cgroup_base.as_deref(), Some(Path::new("media.slice")));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.log_level, LogLevel::Debug);
    assert_eq!(
        config.redaction.text("job-17 -password x rtmp://h/a/key"),
        "job-*** -password x rtmp://h/a/key"
    );
    let both = super::super::parse("f", "redact: {patterns: [abc]}").unwrap();
    assert_eq!(both.redaction.text("abc rtmp://h/a/key"), "*** rtmp://h/a/***");
}

#[test]
fn targets_are_the_commands_given_and_those_with_a_block_of_their_own() {
    let names = |text: &str| config(text).rules.names();
    assert_eq!(names("target_commands: [ffmpeg, x265]"), ["ffmpeg", "x265"]);
    assert_eq!(names("target_commands: []"), Vec::<String>::new());
    assert_eq!(
        names("target_commands: [ffmpeg, ffmpeg, /opt/bin/enc]"),
        ["enc", "ffmpeg"]
    );
    assert_eq!(names("commands: {x265: }"), ["ffmpeg", "gst-launch-1.0", "x265"]);
    assert_eq!(names("target_commands: [a]\ncommands: {b: {}}"), ["a", "b"]);
    assert_eq!(names("rules: [{commands: [a]}]"), ["a"]);
    assert_eq!(
        names("rules: [{commands: [a]}]\ndefault_limits: {nice: 1}"),
        ["a", "ffmpeg", "gst-launch-1.0"]
    );
    assert_eq!(names("rules: []"), Vec::<String>::new());
}

/// A filter, what it makes of the facts, and a value of the same key that makes the opposite of them.
const FILTERS: &[(&str, &str, &str)] = &[
    ("allowed_users: [bob]", "govern", "allowed_users: [alice]"),
    ("allowed_users: [1000]", "govern", "allowed_users: [1001]"),
    ("blocked_users: [bob]", "ignore", "blocked_users: [alice]"),
    ("allowed_uids: [1000]", "govern", "allowed_uids: [0]"),
    ("blocked_uids: [1000]", "ignore", "blocked_uids: [0]"),
    ("allowed_parents: [7]", "govern", "allowed_parents: [1]"),
    ("allowed_parents: [nginx]", "govern", "allowed_parents: [sshd]"),
    ("allowed_parents: ['7']", "govern", "allowed_parents: ['8']"),
    ("blocked_parents: [7]", "ignore", "blocked_parents: [1]"),
    ("blocked_parents: [nginx]", "ignore", "blocked_parents: [sshd]"),
    ("min_runtime: 60s", "govern", "min_runtime: 61s"),
    ("max_runtime: 1m", "govern", "max_runtime: 59s"),
    ("allowed_dirs: [/srv/media]", "govern", "allowed_dirs: [/srv/med]"),
    ("blocked_dirs: [/srv]", "ignore", "blocked_dirs: [/home]"),
    (
        "allowed_cgroups: [/system.slice]",
        "govern",
        "allowed_cgroups: [/user.slice]",
    ),
    (
        "blocked_cgroups: [/system.slice]",
        "ignore",
        "blocked_cgroups: [/user.slice]",
    ),
    ("cgroup_regex: docker", "govern", "cgroup_regex: ^/user"),
    ("argv: rtmps?://", "govern", "argv: srt://"),
    ("blocked_argv: rtmps?://", "ignore", "blocked_argv: srt://"),
    ("container: true", "govern", "container: false"),
    ("container: [docker]", "govern", "container: [lxc]"),
];

#[test]
fn every_filter_acts_globally_for_one_command_and_in_a_rule() {
    for (filter, want, opposite) in FILTERS {
        for (line, govern) in [(filter, *want == "govern"), (opposite, *want != "govern")] {
            for text in [
                format!("filters:\n  {line}\n"),
                format!("commands:\n  ffmpeg:\n    filters:\n      {line}\n"),
                format!("filters:\n  {line}\ncommands:\n  ffmpeg:\n    limits: {{nice: 1}}\n"),
                format!("rules:\n  - commands: [ffmpeg]\n    filters:\n      {line}\n"),
            ] {
                assert_eq!(outcome(&text, 60_000) == "govern", govern, "{text}");
            }
        }
    }
}

#[test]
fn a_commands_filter_replaces_the_global_one_of_the_same_key_and_no_other() {
    for (filter, want, opposite) in FILTERS {
        let text = format!("filters:\n  {opposite}\ncommands:\n  ffmpeg:\n    filters:\n      {filter}\n");
        assert_eq!(outcome(&text, 60_000), *want, "{text}");
    }
    let other_key = "filters: {blocked_uids: [1000]}\ncommands: {ffmpeg: {filters: {allowed_users: [bob]}}}";
    assert_eq!(outcome(other_key, 0), "ignore");
    let lifted = "filters: {blocked_uids: [1000]}\ncommands: {ffmpeg: {filters: {blocked_uids: []}}}";
    assert_eq!(outcome(lifted, 0), "govern");
    assert!(matches!(
        decide(lifted, "gst-launch-1.0", 0),
        Decision::Ignore { .. }
    ));
}

#[test]
fn a_process_younger_than_min_runtime_is_asked_about_again_at_that_age() {
    let text = "filters: {min_runtime: 5s}\ncommands: {ffmpeg: {filters: {min_runtime: 1m30s}}}";
    assert_eq!(decide(text, "ffmpeg", 0), Decision::Later { age_ms: 90_000 });
    assert_eq!(
        decide(text, "gst-launch-1.0", 4_999),
        Decision::Later { age_ms: 5_000 }
    );
    assert_eq!(outcome("filters: {min_runtime: 0}", 0), "govern");
}

#[test]
fn the_gate_is_set_up_as_asked() {
    let config = parse("watch.yaml", "gate: {directories: [/opt/bin], ready: 3, budget: 50ms}\nrules:\n  - {commands: [a], admission: gate}").unwrap();
    assert_eq!(config.gate.directories, [std::path::Path::new("/opt/bin")]);
    assert_eq!(
        (config.gate.ready, config.gate.budget),
        (3, Duration::from_millis(50))
    );
    assert_eq!(config.rules.rules()[0].admission, Admission::Gate);
}

#[test]
fn every_key_of_a_rule_acts() {
    let text = "rules:\n  - name: live\n    commands: [ffmpeg]\n    class: live\n    limits: {nice: 1}\n    \
                placement: in-place\n    admission: event\n    intent: soak\n    sla_eligible: true\n    \
                on_foreign_move: accept\n  - files: [/usr/bin/x]\n  - wide: true\n";
    let live = action(text, "ffmpeg");
    assert_eq!((live.rule.as_str(), live.class.as_str()), ("live", "live"));
    assert_eq!(live.placement, Some(PlacementMode::InPlace));
    assert_eq!((live.intent, live.sla_eligible), (Intent::Soak, true));
    let by_path = action(text, "x");
    assert_eq!(
        (by_path.rule.as_str(), by_path.class.as_str()),
        ("rule-2", "default")
    );
    assert_eq!(
        (by_path.placement, by_path.intent, by_path.sla_eligible),
        (None, Intent::Production, false)
    );
    assert_eq!(action(text, "anything").rule, "rule-3");
    assert!(config(text).rules.wide());
    for (word, mode) in [
        ("place", PlacementMode::Place),
        ("scope", PlacementMode::Scope),
        ("observe", PlacementMode::Observe),
    ] {
        let text = format!("rules: [{{commands: [ffmpeg], placement: {word}}}]");
        assert_eq!(action(&text, "ffmpeg").placement, Some(mode));
    }
}

#[test]
fn explicit_rules_stand_before_the_targets() {
    let text = "rules: [{name: mine, commands: [ffmpeg], filters: {allowed_users: [alice]}}]\n\
                target_commands: [ffmpeg]\n";
    assert_eq!(action(text, "ffmpeg").rule, "target:ffmpeg");
    assert_eq!(action(&text.replace("alice", "bob"), "ffmpeg").rule, "mine");
}

#[test]
fn anchors_and_merges_work_as_yaml_says() {
    let text = "default_limits: &limits {nice: 3, cpu_weight: 50}\n\
                commands: {ffmpeg: {limits: {<<: *limits, nice: 4}}}\n";
    assert_eq!((limits(text).nice, limits(text).cpu_weight), (Some(4), Some(50)));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.yaml");
    let error = load(&missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot read configuration {}", missing.display())
    );
    assert!(std::error::Error::source(&error).is_some());

    let large = dir.path().join("large.yaml");
    std::fs::write(&large, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(matches!(load(&large), Err(ConfigError::Read { .. })));
    std::fs::write(&large, b"listen: \xff\xfe").unwrap();
    assert!(matches!(load(&large), Err(ConfigError::Read { .. })));
    std::fs::write(&large, "listen: x").unwrap();
    assert!(
        load(&large)
            .unwrap_err()
            .to_string()
            .starts_with(&format!("{}:1:9: listen: ", large.display()))
    );
}

#[test]
fn control_characters_of_a_file_never_reach_the_message() {
    let error = parse("f.yaml", "\"\\e[31m\": 1\n").unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
    let error = parse("f.yaml", "listen: \"\\e[31m\"\n").unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
}
