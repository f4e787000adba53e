//! What a wrong file is told, word for word. Each case is one file; positions are line and column from 1.

use insta::assert_snapshot;

use super::super::parse;

fn wrong(text: &str) -> String {
    match parse("watch.yaml", text) {
        Ok(config) => format!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_wrong_structure_is_told_with_its_place_and_what_would_be_right() {
    assert_snapshot!(wrong("scan_intervall: 10s"), @r#"watch.yaml:1:1: unknown key "scan_intervall"; did you mean "scan_interval"?"#);
    assert_snapshot!(wrong("commands:\n  ffmpeg:\n    limits:\n      cpu_qouta: 200"), @r#"watch.yaml:4:7: commands.ffmpeg.limits: unknown key "cpu_qouta"; did you mean "cpu_quota"?"#);
    assert_snapshot!(wrong("default_limits:\n  foo: 1"), @r#"watch.yaml:2:3: default_limits: unknown key "foo"; allowed here: cpu_quota, cpu_max, cpu_weight, memory_limit, memory_max, io_weight, io_max, pids_max, cpu_set, nice, io_priority, oom_score_adj, oom_score"#);
    assert_snapshot!(wrong("rules:\n  - commands: [ffmpeg]\n    fliters: {}"), @r#"watch.yaml:3:5: rules[0]: unknown key "fliters"; did you mean "filters"?"#);
    assert_snapshot!(wrong("default_limits:\n  cpu_quota: fifty"), @r#"watch.yaml:2:14: default_limits.cpu_quota: write a whole number"#);
    assert_snapshot!(wrong("default_limits:\n  cpu_quota: 1.5"), @r#"watch.yaml:2:14: default_limits.cpu_quota: write a whole number"#);
    assert_snapshot!(wrong("default_limits: {cpu_quota: 99999999999999999999}"), @r#"watch.yaml:1:29: default_limits.cpu_quota: write a whole number"#);
    assert_snapshot!(wrong("default_limits: 7"), @r#"watch.yaml:1:17: default_limits: write keys below it, indented"#);
    assert_snapshot!(wrong("target_commands: ffmpeg"), @r#"watch.yaml:1:18: target_commands: write a list, such as [a, b]"#);
    assert_snapshot!(wrong("commands: [ffmpeg]"), @r#"watch.yaml:1:11: commands: write keys below it, indented"#);
    assert_snapshot!(wrong("commands:\n  ffmpeg: 3"), @r#"watch.yaml:2:11: commands.ffmpeg: write keys below it, indented"#);
    assert_snapshot!(wrong("rules:\n  - ffmpeg"), @r#"watch.yaml:2:5: rules[0]: write keys below it, indented"#);
    assert_snapshot!(wrong("rules:\n  - commands: [a]\n    placement: plce"), @r#"watch.yaml:3:16: rules[0].placement: "plce" is not possible; write place, scope, in-place or observe"#);
    assert_snapshot!(wrong("log: {format: xml}"), @r#"watch.yaml:1:15: log.format: "xml" is not possible; write text or json"#);
    assert_snapshot!(wrong("listen: {a: 1}"), @r#"watch.yaml:1:9: listen: write one text"#);
    assert_snapshot!(wrong("filters: {container: 3}"), @r#"watch.yaml:1:11: filters.container: found integer `3`; write true, false or a list of texts"#);
    assert_snapshot!(wrong("filters: {blocked_parents: [true]}"), @r#"watch.yaml:1:29: filters.blocked_parents[0]: found boolean `true`; write a whole number or a text"#);
    assert_snapshot!(wrong("default_limits: {memory_limit: 1.5}"), @r#"watch.yaml:1:18: default_limits.memory_limit: found floating point `1.5`; write a whole number or a text"#);
    assert_snapshot!(wrong("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2"), @r#"watch.yaml:2:1: key "listen" is given twice; keep one"#);
    assert_snapshot!(wrong("commands:\n  ffmpeg: {}\n  ffmpeg: {}"), @r#"watch.yaml:3:3: commands: key "ffmpeg" is given twice; keep one"#);
    assert_snapshot!(wrong("listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2"), @r#"watch.yaml:3:1: a second document starts here; keep one document in the file"#);
    assert_snapshot!(wrong("filters: [a"), @r#"watch.yaml:1:10: filters: write keys below it, indented"#);
    assert_snapshot!(wrong("default_limits: *x"), @r#"watch.yaml:1:17: reference to unknown value"#);
    assert_snapshot!(wrong("just text"), @r#"watch.yaml:1:1: write keys below it, indented"#);
}

#[test]
fn rules_that_cannot_be_meant_are_refused_with_every_fault_at_once() {
    assert_snapshot!(wrong("rules:\n  - commands: [a]\n    wide: 3"), @r#"watch.yaml:3:11: rules[0].wide: write true or false"#);
    assert_snapshot!(wrong("rules:\n  - wide: true\n    admission: gate"), @"watch.yaml:3:16: rules[0].admission: gate holds the execs of programs the rule names; list them under commands or files");
    assert_snapshot!(wrong("rules:\n  - commands: [a]\n    placement: scope\n    admission: gate"), @"watch.yaml:4:16: rules[0].admission: gate puts a process into its group before it runs; write placement: place, or admission: event");
    assert_snapshot!(wrong("rules:\n  - commands: [a]\n    filters: {min_runtime: 1s}\n    admission: gate"), @"watch.yaml:4:16: rules[0].admission: gate acts before the first instruction, min_runtime waits for an age; keep one of the two");
    assert_snapshot!(wrong("rules:\n  - name: all"), @r#"watch.yaml:2:5: rules[0]: rule "all" names no program; list them under commands or files, or say wide: true to look at every exec of the machine"#);
    assert_snapshot!(wrong("rules:\n  - commands: [a]\n    wide: true"), @r#"watch.yaml:3:11: rules[0].wide: the rule names its programs and says wide; keep one of the two"#);
    assert_snapshot!(wrong("rules:\n  - {name: x, commands: [a]}\n  - {name: x, commands: [b]}"), @r#"watch.yaml:3:12: rules[1]: rule name "x" is used twice; choose another"#);
    assert_snapshot!(wrong("rules:\n  - name: a/b\n    class: ..\n    commands: [/usr/bin/ffmpeg]\n    files: [ffmpeg]"), @r#"
    watch.yaml:2:11: rules[0].name: "a/b" is not possible; write 1 to 128 of A-Z a-z 0-9 . _ : @ -, not starting with a dot
    watch.yaml:3:12: rules[0].class: ".." is not possible; write 1 to 128 of A-Z a-z 0-9 . _ : @ -, not starting with a dot
    watch.yaml:4:16: rules[0].commands[0]: "/usr/bin/ffmpeg" is no basename; write one such as ffmpeg, or use files for whole paths
    watch.yaml:5:13: rules[0].files[0]: "ffmpeg" is no path of a program; write one such as /usr/bin/ffmpeg, or use commands for basenames
    "#);
}

#[test]
fn limits_that_cannot_be_meant_are_refused_with_every_fault_at_once() {
    assert_snapshot!(wrong("default_limits:\n  cpu_quota: -5\n  cpu_weight: 0\n  memory_limit: -1\n  io_weight: 101\n  pids_max: 0\n  nice: -21\n  oom_score: 1001"), @r#"
    watch.yaml:2:14: default_limits.cpu_quota: -5 is not possible; write percent of one core, 1 to 102400 (200 is two cores), or 0 for no limit
    watch.yaml:3:15: default_limits.cpu_weight: 0 is not possible; write 1 to 10000; 100 is normal
    watch.yaml:4:17: default_limits.memory_limit: -1 is not possible; write MiB, or a size such as 2GiB, or 0 for no limit
    watch.yaml:5:14: default_limits.io_weight: 101 is not possible; write 1 to 100, or 0 for the default
    watch.yaml:6:13: default_limits.pids_max: 0 is not possible; write at least 1
    watch.yaml:7:9: default_limits.nice: -21 is not possible; write -20 (first) to 19 (last)
    watch.yaml:8:14: default_limits.oom_score: 1001 is not possible; write -1000 (never killed) to 1000 (killed first)
    "#);
    assert_snapshot!(wrong("default_limits:\n  cpu_quota: 102401\n  memory_limit: 9999999999999\n  cpu_set: 3-1\n  io_max: fast\n  io_priority: urgent"), @r#"
    watch.yaml:2:14: default_limits.cpu_quota: 102401 is not possible; write percent of one core, 1 to 102400 (200 is two cores), or 0 for no limit
    watch.yaml:3:17: default_limits.memory_limit: 9999999999999 is not possible; write MiB, or a size such as 2GiB, or 0 for no limit
    watch.yaml:4:12: default_limits.cpu_set: "3-1" is not possible; write CPU numbers and ranges, such as "0-3,8"
    watch.yaml:5:11: default_limits.io_max: "fast" is not possible; write "MAJOR:MINOR rbps=N wbps=N riops=N wiops=N"
    watch.yaml:6:16: default_limits.io_priority: "urgent" is not possible; write best-effort:0 to 7, realtime:0 to 7, or idle
    "#);
    assert_snapshot!(wrong("default_limits:\n  cpu_max: 1 100000\n  memory_max: 4096\n  cpu_weight: 99999999999"), @r#"
    watch.yaml:2:12: default_limits.cpu_max: 1 100000 is not possible; the smallest quota is 1000 us (1 % of a core at 100 ms)
    watch.yaml:3:15: default_limits.memory_max: 4096 is not possible; write at least 1048576 bytes (1 MiB), or 0 for no limit
    watch.yaml:4:15: default_limits.cpu_weight: 99999999999 is not possible; write 1 to 10000; 100 is normal
    "#);
    assert_snapshot!(wrong("default_limits: {cpu_quota: 1, cpu_max: max, memory_limit: 1, memory_max: 1GiB, oom_score: 1, oom_score_adj: 1}"), @r#"
    watch.yaml:1:41: default_limits.cpu_max: says the same as cpu_quota; keep one of them
    watch.yaml:1:75: default_limits.memory_max: says the same as memory_limit; keep one of them
    watch.yaml:1:92: default_limits.oom_score: says the same as oom_score_adj; keep one of them
    "#);
    assert_snapshot!(wrong("default_limits: {memory_limit: lots, cpu_max: much}"), @r#"
    watch.yaml:1:32: default_limits.memory_limit: "lots" is not possible; write MiB, or a size such as 2GiB, or 0 for no limit
    watch.yaml:1:47: default_limits.cpu_max: "much" is not possible; write QUOTA PERIOD in microseconds, such as "200000 100000", or "max"
    "#);
}

#[test]
fn other_values_that_cannot_be_meant_are_refused_with_every_fault_at_once() {
    assert_snapshot!(wrong("filters:\n  min_runtime: 10\n  max_runtime: soon\n  allowed_uids: [-1]\n  allowed_parents: [0]\n  allowed_dirs: [media, /srv/../etc]"), @r#"
    watch.yaml:2:16: filters.min_runtime: "10" is no duration; write a number with its unit, such as 10s, 5m or 1h30m
    watch.yaml:3:16: filters.max_runtime: "soon" is no duration; write a number with its unit, such as 10s, 5m or 1h30m
    watch.yaml:4:18: filters.allowed_uids[0]: -1 is no user id; write 0 to 4294967295
    watch.yaml:5:21: filters.allowed_parents[0]: 0 is no parent; write a pid above 0, or a name
    watch.yaml:6:18: filters.allowed_dirs[0]: "media" is no absolute path; start it with / and leave out ..
    watch.yaml:6:25: filters.allowed_dirs[1]: "/srv/../etc" is no absolute path; start it with / and leave out ..
    "#);
    assert_snapshot!(wrong("filters: {min_runtime: 1h, max_runtime: 1m}"), @r#"watch.yaml:1:41: filters.max_runtime: is below min_runtime, so that nothing could match; raise it"#);
    assert_snapshot!(wrong("filters: {argv: \"(\", container: [dokcer]}"), @r#"
    watch.yaml:1:17: filters.argv: "(" is no regular expression: unclosed group
    watch.yaml:1:33: filters.container: "dokcer" is no container runtime; write docker, podman, containerd, kubepods, lxc, nspawn, namespace
    "#);
    assert_snapshot!(wrong("commands:\n  a/: {}\n  ffmpeg:\n    limits: {nice: 40}"), @r#"
    watch.yaml:2:7: commands: "a/" is no program's name; write one such as ffmpeg, or a whole path
    watch.yaml:4:20: commands.ffmpeg.limits.nice: 40 is not possible; write -20 (first) to 19 (last)
    "#);
    assert_snapshot!(wrong("target_commands: [\"\", /usr/bin/ffmpeg]"), @r#"watch.yaml:1:19: target_commands[0]: "" is no program's name; write one such as ffmpeg, or a whole path"#);
    assert_snapshot!(wrong("listen: localhost\nsocket: governor.sock\nledger: /\nrecords: 1\npins: somewhere\nplacement_retries: 101\nretention: 1s\nscan_interval: 1ms\ncgroup: {base: ../x}\nredact: {patterns: [\"[\"]}"), @r#"
    watch.yaml:1:9: listen: "localhost" is no address; write IP:PORT, such as 127.0.0.1:9091 or [::1]:9091
    watch.yaml:2:9: socket: "governor.sock" is no file's absolute path; start it with /
    watch.yaml:3:9: ledger: "/" is no file's absolute path; start it with /
    watch.yaml:4:10: records: 1 is not possible; write 1024 to 1048576
    watch.yaml:5:7: pins: "somewhere" is not possible; write auto, off, or an absolute path
    watch.yaml:6:20: placement_retries: 101 is not possible; write 0 to 100
    watch.yaml:7:12: retention: 1s is not possible; write 1h to 10years
    watch.yaml:8:16: scan_interval: 1ms is not possible; write 100ms to 1h
    watch.yaml:9:16: cgroup.base: "../x" is no group; write a path inside the hierarchy, such as ffrtmp.slice
    watch.yaml:10:21: redact.patterns[0]: "[" is no regular expression: unclosed character class
    "#);
}

#[test]
fn a_correction_is_offered_only_for_a_key_that_is_alike() {
    // Those without one are keys of the predecessor's installer, which it wrote and never read.
    for (key, hint) in [
        ("cpu_quota", None),
        ("memory_limit", None),
        ("enable_retry", None),
        ("enable_state", None),
        ("state_path", None),
        ("targets", Some("target_commands")),
        ("rule", Some("rules")),
        ("Default_Limits", Some("default_limits")),
    ] {
        let told = wrong(&format!("{key}: 1"));
        match hint {
            Some(hint) => assert!(told.ends_with(&format!("; did you mean \"{hint}\"?")), "{told}"),
            None => assert!(told.contains("; allowed here: listen, socket, "), "{told}"),
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_taken_or_refused_with_the_files_name(
        key in "[a-z_]{1,12}|rules|commands|filters|default_limits|target_commands|redact",
        value in "[-\\[\\]{}:,&*!|>'\"%@`#?~ a-z0-9\n]{0,40}|\\PC{0,20}",
    ) {
        let told = wrong(&format!("{key}: {value}\n"));
        proptest::prop_assert!(told.starts_with("accepted") || told.starts_with("watch.yaml"), "{told}");
    }
}
