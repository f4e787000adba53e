//! Limits: spellings, units and what replaces what.

use ffrtmp_api::{IoClass, IoPriority, Limits};

use super::{action, limits};

#[test]
fn every_limit_acts_in_both_spellings() {
    type Read = fn(&Limits) -> String;
    let cases: &[(&str, Read, &str)] = &[
        (
            "cpu_quota: 150",
            |l| l.cpu_max.unwrap().to_string(),
            "150000 100000",
        ),
        (
            "cpu_quota: 102400",
            |l| l.cpu_max.unwrap().to_string(),
            "102400000 100000",
        ),
        (
            "cpu_max: 50000 200000",
            |l| l.cpu_max.unwrap().to_string(),
            "50000 200000",
        ),
        (
            "cpu_max: 50000",
            |l| l.cpu_max.unwrap().to_string(),
            "50000 100000",
        ),
        ("cpu_weight: 200", |l| l.cpu_weight.unwrap().to_string(), "200"),
        (
            "memory_limit: 2048",
            |l| l.memory_max.unwrap().to_string(),
            "2147483648",
        ),
        (
            "memory_limit: '512'",
            |l| l.memory_max.unwrap().to_string(),
            "536870912",
        ),
        (
            "memory_limit: 2GiB",
            |l| l.memory_max.unwrap().to_string(),
            "2147483648",
        ),
        (
            "memory_limit: 1.5G",
            |l| l.memory_max.unwrap().to_string(),
            "1610612736",
        ),
        (
            "memory_max: 1048576",
            |l| l.memory_max.unwrap().to_string(),
            "1048576",
        ),
        (
            "memory_max: 512M",
            |l| l.memory_max.unwrap().to_string(),
            "536870912",
        ),
        ("io_weight: 75", |l| l.io_weight.unwrap().to_string(), "75"),
        (
            "io_max: 8:0 rbps=1048576 wiops=max",
            |l| l.io_max.clone().unwrap(),
            "8:0 rbps=1048576 wiops=max",
        ),
        ("pids_max: 64", |l| l.pids_max.unwrap().to_string(), "64"),
        ("cpu_set: 0-1,4", |l| l.cpu_set.clone().unwrap(), "0-1,4"),
        ("cpu_set: 3", |l| l.cpu_set.clone().unwrap(), "3"),
        ("nice: -5", |l| l.nice.unwrap().to_string(), "-5"),
        (
            "oom_score_adj: 500",
            |l| l.oom_score_adj.unwrap().to_string(),
            "500",
        ),
        (
            "oom_score: -100",
            |l| l.oom_score_adj.unwrap().to_string(),
            "-100",
        ),
    ];
    for (line, read, want) in cases {
        assert_eq!(
            read(&limits(&format!("default_limits:\n  {line}\n"))),
            *want,
            "{line}"
        );
        let rule = format!("rules:\n  - commands: [ffmpeg]\n    limits:\n      {line}\n");
        assert_eq!(read(&limits(&rule)), *want, "{line}");
    }
}

#[test]
fn io_priorities_have_a_class_and_a_level() {
    for (text, class, level) in [
        ("best-effort", IoClass::BestEffort, 4),
        ("best-effort:7", IoClass::BestEffort, 7),
        ("realtime:0", IoClass::Realtime, 0),
        ("idle", IoClass::Idle, 0),
    ] {
        let priority = limits(&format!("default_limits: {{io_priority: '{text}'}}")).io_priority;
        assert_eq!(priority, Some(IoPriority { class, level }));
    }
}

#[test]
fn zero_and_max_mean_no_limit() {
    for line in [
        "cpu_quota: 0",
        "cpu_max: max",
        "memory_limit: 0",
        "memory_max: 0",
        "io_weight: 0",
    ] {
        assert!(
            limits(&format!("default_limits: {{{line}}}")).is_empty(),
            "{line}"
        );
    }
}

#[test]
fn a_commands_limits_replace_the_default_ones_key_by_key() {
    let text = "default_limits: {cpu_quota: 200, memory_limit: 1024, io_weight: 10, nice: 5}\n\
                commands:\n  ffmpeg:\n    limits: {cpu_max: 50000 100000, memory_limit: 0, io_weight: 0}\n";
    let own = limits(text);
    assert_eq!(own.cpu_max.unwrap().to_string(), "50000 100000");
    assert_eq!((own.memory_max, own.io_weight, own.nice), (None, None, Some(5)));
    let other = action(text, "gst-launch-1.0").limits;
    assert_eq!(other.cpu_max.unwrap().to_string(), "200000 100000");
    assert_eq!((other.memory_max, other.io_weight), (Some(1 << 30), Some(10)));
    let lifted = limits("default_limits: {cpu_quota: 200}\ncommands: {ffmpeg: {limits: {cpu_quota: 0}}}");
    assert_eq!(lifted.cpu_max, None);
}
