//! The file's faults with their places, the flags of the seeds, and that no secret is shown.

use super::*;
use clap::Parser as _;

fn args(line: &str) -> Config {
    let words = std::iter::once("ffrtmp-scheduler").chain(line.split_whitespace());
    Args::try_parse_from(words)
        .unwrap()
        .over(Config::default(), |_| None)
}

fn refused(line: &str) -> String {
    let words = std::iter::once("ffrtmp-scheduler").chain(line.split_whitespace());
    Args::try_parse_from(words).unwrap_err().to_string()
}

#[test]
fn every_flag_of_the_predecessors_master_is_taken() {
    let config = args(
        "--port 8443 --db jobs.db --db-type sqlite --tls=true --cert a.crt --key a.key --ca ca.crt --mtls --max-retries 5 \
         --metrics=true --metrics-port 9191 --scheduler-interval 10s --api-key k --tracing --tracing-endpoint t:4318 \
         --cleanup=true --cleanup-retention 14 --log-level debug --cert-ips 10.0.0.1,10.0.0.2 --cert-hosts a,b.example",
    );
    assert_eq!(config.listen.port(), 8443);
    assert_eq!(config.database, Path::new("jobs.db"));
    assert_eq!(config.tls.client_certs, ClientCerts::Nodes);
    assert_eq!(config.jobs.max_retries, 5);
    assert_eq!(config.metrics.unwrap().port(), 9191);
    assert_eq!(config.scheduler_interval, Duration::from_secs(10));
    assert!(config.traces.enabled);
    assert_eq!(config.jobs.retention, Some(Duration::from_hours(14 * 24)));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.tls.names, ["a", "b.example", "10.0.0.1", "10.0.0.2"]);
}

#[test]
fn switches_are_written_as_in_go() {
    let config = args("--tls=false --metrics=false --cleanup=false --mtls=all");
    assert!(!config.tls.enabled);
    assert_eq!(config.metrics, None);
    assert_eq!(config.jobs.retention, None);
    assert_eq!(config.tls.client_certs, ClientCerts::All);
}

#[test]
fn what_cannot_be_meant_is_refused_with_advice() {
    for (line, advice) in [
        ("--max-retries=-1", "0..=100"),
        ("--scheduler-interval 10", "such as 5s"),
        ("--scheduler-interval 1ms", "100ms to 1h"),
        ("--db :memory:", "name a file"),
        ("--db-type postgres", "SQLite"),
        ("--db-dsn postgres://x", "--db"),
        ("--cert a.crt", "--key"),
        ("--cleanup-retention 0", "--cleanup=false"),
        ("--port 70000", "65535"),
        ("--mtls=some", "nodes, all or off"),
    ] {
        let text = refused(line);
        assert!(text.contains(advice), "{line}: {text}");
    }
}

#[test]
fn the_master_key_comes_from_flag_then_either_variable_then_file() {
    let variable = |name: &str| (name == "MASTER_API_KEY").then(|| "from-env".to_owned());
    let other = |name: &str| (name == "FFMPEG_RTMP_API_KEY").then(|| " other \n".to_owned());
    let key = |words: &[&str], variable: &dyn Fn(&str) -> Option<String>| {
        let config = Args::try_parse_from(words)
            .unwrap()
            .over(Config::default(), variable);
        config.access.api_key.map(|key| key.reveal().to_owned())
    };
    assert_eq!(
        key(&["s", "--api-key", "flag"], &variable).as_deref(),
        Some("flag")
    );
    assert_eq!(key(&["s"], &variable).as_deref(), Some("from-env"));
    assert_eq!(key(&["s"], &other).as_deref(), Some("other"));
    assert_eq!(key(&["s", "--api-key", ""], &|_| None), None);
}

#[test]
fn faults_of_a_file_are_told_with_line_column_and_key() {
    for (text, expected) in [
        (
            "listn: a",
            "s.yaml:1:1: unknown key \"listn\"; did you mean \"listen\"?",
        ),
        (
            "listen: here",
            "s.yaml:1:9: listen: \"here\" is no address; write IP:PORT, such as 0.0.0.0:8080 or [::]:8080",
        ),
        (
            "jobs:\n  max_retries: -1",
            "s.yaml:2:16: jobs.max_retries: -1 is not possible; write 0 to 100",
        ),
        (
            "jobs:\n  retention: soon",
            "s.yaml:2:14: jobs.retention: \"soon\" is no span of time; write a number with its unit, such as 30s, 5m, 7d",
        ),
        (
            "tls:\n  cert: a.crt",
            "s.yaml:2:9: tls.cert: stands alone; give tls.key as well",
        ),
        (
            "access:\n  exempt: [10.0.0.0/99]",
            "s.yaml:2:12: access.exempt[0]: \"10.0.0.0/99\" is no address and no network; write 10.0.0.1 or 10.0.0.0/8",
        ),
        (
            "durability: off",
            "s.yaml:1:13: durability: \"off\" is not possible; write full or normal",
        ),
    ] {
        assert_eq!(parse("s.yaml", text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_file_with_all_keys_is_read_and_flags_stand_above_it() {
    let text = "listen: 127.0.0.1:1\ndatabase: /var/lib/x.db\ndurability: normal\nstate_dir: /s\naccess:\n  per_address: 0\n  \
                per_key: 7\n  exempt: [127.0.0.1, \"::1\"]\ntls:\n  enabled: true\n  names: [h]\nmetrics:\n  listen: \
                127.0.0.1:2\njobs:\n  max_retries: 1\n  stale_live: 1m\n  stale_batch: 2m\n  cleanup: false\nnodes:\n  heartbeat: \
                20s\nscheduler_interval: 1s\nlimits:\n  body_bytes: 2048\n  connections: 20\n  disk_reserve_bytes: 0\ntracing:\n  \
                enabled: false\n  endpoint: e:1\n  sample_percent: 5\nlog:\n  format: json\n  level: warn\n  directory: auto\ndrain: 3s\n";
    let config = parse("s.yaml", text).unwrap();
    assert_eq!(config.lease(), Duration::from_mins(1));
    assert_eq!(config.state_dir(), Path::new("/s"));
    assert_eq!(config.jobs.retention, None);
    let config = Args::try_parse_from(["s", "--port", "99", "--cleanup-retention", "2d"])
        .unwrap()
        .over(config, |_| None);
    assert_eq!(config.listen.to_string(), "127.0.0.1:99");
    assert_eq!(config.jobs.retention, Some(Duration::from_hours(48)));
}

#[test]
fn what_is_printed_never_holds_the_key() {
    let config = args("--api-key very-secret-1 --open-api --tls=false");
    let shown = format!("{config}\n{config:?}");
    assert!(!shown.contains("very-secret-1"), "{shown}");
    for part in [
        "access.api_key: set (hidden)",
        "NO KEY IS ASKED FOR",
        "PLAIN HTTP",
        "state_dir: master.d",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn the_example_we_ship_is_taken() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scheduler/scheduler.yaml");
    let config = load(&path).unwrap();
    assert_eq!(config.database, Path::new("/var/lib/ffrtmp-scheduler/queue.db"));
    assert_eq!(config.tls.client_certs, ClientCerts::Nodes);
}
