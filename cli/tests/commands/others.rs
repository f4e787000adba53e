//! The other commands: what they ask for and what they print.

use ffrtmp_api::ExitReason;
use ffrtmp_cli::exit::ExitCode;
use ffrtmp_governor::control::types::{ErrorCode, Happened, JobEvent, JobView, ReleaseRequest};
use ffrtmp_governor::core::facts::Found;
use jiff::Timestamp;

use crate::{Fake, ended, job, typed};

#[test]
fn attach_mirrors_the_status_and_never_makes_one_up() {
    let said = typed(
        &Fake::default(),
        "ffrtmp attach --pid 4242 --intent experiment --json",
    );
    assert_eq!(said.status.unwrap(), 0);
    assert!(
        said.talk
            .starts_with("[wrapper] ATTACH mode: PID 4242 [/usr/bin/ffmpeg -i in.mp4]\n"),
        "{}",
        said.talk
    );
    let mut lost = ended(job("lost", 4242));
    lost.report.exit_code = None;
    lost.report.exit = Some(ExitReason::Unobserved {
        why: "the governor was down".to_owned(),
    });
    lost.report.exit_reason = Some("unobserved".to_owned());
    lost.report.platform_sla_compliant = None;
    lost.report.platform_sla_reason = None;
    let fake = Fake {
        ended: Some(lost),
        ..Fake::default()
    };
    let said = typed(&fake, "ffrtmp attach --pid 4242");
    assert_eq!(said.status.unwrap(), 125);
    assert!(
        said.talk
            .contains("code=-, reason=unobserved, why=the governor was down, duration=1.0s"),
        "{}",
        said.talk
    );
    assert!(
        said.talk
            .ends_with("JOB lost | sla=- | reason=unobserved | runtime=1s | exit=- | pid=4242\n"),
        "{}",
        said.talk
    );
    let dead = Fake {
        refuse_attach: Some(ErrorCode::NoSuchProcess),
        ..Fake::default()
    };
    let failure = typed(&dead, "ffrtmp attach --pid 12345").status.unwrap_err();
    assert_eq!(failure.chain(), "process 12345 does not exist");
}

#[test]
fn watch_prints_the_documented_lines_and_attached_only_once_placed() {
    let view = job("auto-ffmpeg-29651", 29651);
    let mut refused = job("auto-ffmpeg-29652", 29652);
    refused.report.placement.not_placed = Some("no memory controller".to_owned());
    let mut elsewhere = job("of-run", 4711);
    elsewhere.found = Found::Run;
    let fake = Fake {
        events: vec![
            (Happened::Placed, elsewhere),
            (Happened::Discovered, view.clone()),
            (Happened::Discovered, refused.clone()),
            (Happened::Placed, view.clone()),
            (Happened::NotPlaced, refused),
            (Happened::Exited, ended(view.clone())),
            (Happened::Closed, ended(view)),
        ],
        ..Fake::default()
    };
    let said = typed(&fake, "ffrtmp watch --cpu-quota 150 --memory-limit 2048");
    assert_eq!(said.status.unwrap(), u8::from(ExitCode::Failure));
    let lines: Vec<&str> = said.results.lines().collect();
    let stamp = lines[3].split(" Discovered").next().unwrap();
    assert!(
        stamp.starts_with("[watch] 2026/01/0") && stamp.ends_with(":13"),
        "{stamp}"
    );
    let bodies: Vec<String> = lines
        .iter()
        .map(|line| match line.strip_prefix("[watch] ") {
            Some(rest) => rest[20..].to_owned(),
            None => (*line).to_owned(),
        })
        .collect();
    insta::assert_snapshot!(bodies.join("\n"), @r"
    Starting auto-attach service...
    Scan interval: 10s (not used: tier kernel is told of every start)
    Target commands: [ffmpeg gst-launch-1.0]
    Discovered 2 new process(es)
    Attaching to PID 29651 (ffmpeg) as job auto-ffmpeg-29651
    Attaching to PID 29652 (ffmpeg) as job auto-ffmpeg-29652
    WARNING: PID 29651: io_weight has no effect here
    ✓ Attached to PID 29651 (job: auto-ffmpeg-29651)
    ✗ Cannot place PID 29652 (job: auto-ffmpeg-29652): no memory controller; it is followed without limits
    Process 29651 exited (job auto-ffmpeg-29651, duration: 1.00s)
    ⊗ Detached from PID 29651 (job: auto-ffmpeg-29651)
    JOB auto-ffmpeg-29651 | sla=COMPLIANT | reason=observed_to_completion | runtime=1s | exit=0 | pid=29651
    ");
    let order = &fake.watched.borrow()[0];
    assert_eq!(order.ledger, None);
    insta::assert_snapshot!(order.rules, @r#"{"default_limits":{"cpu_quota":150,"cpu_weight":100,"memory_limit":2048},"scan_interval":"10s","target_commands":["ffmpeg","gst-launch-1.0"]}"#);
}

#[test]
fn the_flags_of_a_stateful_watch_act() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yaml");
    std::fs::write(&file, "target_commands: [x264]\n").unwrap();
    let fake = Fake::default();
    let said = typed(
        &fake,
        &format!(
            "ffrtmp watch --enable-state --state-path /tmp/w.db --state-flush-interval 5s --enable-retry --max-retry-attempts 5 --target a,b --watch-config {}",
            file.display()
        ),
    );
    assert!(
        said.results
            .contains("State: in the ledger of the governor, pid 77; /tmp/w.db is not used"),
        "{}",
        said.results
    );
    let order = &fake.watched.borrow()[0];
    assert_eq!(order.rules, "target_commands: [x264]\n");
    assert_eq!(order.ledger.as_deref(), Some(std::path::Path::new("/tmp/w.db")));
    assert!(order.targets.is_empty());
    let missing = typed(&fake, "ffrtmp watch --watch-config /nonexistent.yaml")
        .status
        .unwrap_err();
    assert!(
        missing
            .chain()
            .starts_with("read /nonexistent.yaml: No such file"),
        "{}",
        missing.chain()
    );
    let json = Fake {
        events: vec![(Happened::Placed, job("a", 1))],
        ..Fake::default()
    };
    let said = typed(&json, "ffrtmp watch -o json");
    let event: JobEvent = serde_json::from_str(said.results.trim_end()).unwrap();
    assert_eq!(event.what, Happened::Placed);
}

#[test]
fn ps_shows_live_jobs_and_all_of_them_when_asked() {
    let mut live = job("live", 999_999_999);
    live.report.start_time = Timestamp::now();
    let fake = Fake {
        jobs: vec![live, ended(job("old", 4242))],
        ..Fake::default()
    };
    insta::assert_snapshot!(typed(&fake, "ffrtmp ps").results, @r"
     JOB   PID        CLASS   STATE    PLACED IN  CPU    RSS/PEAK  AGE  COMMAND
     live  999999999  ffmpeg  running  84µs       1.50s  -/64.0M   0s   /usr/bin/ffmpeg -i in.mp4
    ");
    let all = typed(&fake, "ffrtmp ps --all").results;
    assert!(all.lines().nth(1).unwrap().contains("old"), "{all}");
    let csv = typed(&fake, "ffrtmp ps -a -o csv").results;
    insta::assert_snapshot!(csv.lines().nth(1).unwrap(), @"old,4242,ffmpeg,closed,84µs,1.50s,-/64.0M,1s,/usr/bin/ffmpeg -i in.mp4,1000,watch,production,no,0,-,-,success(0),-,ffmpeg,kernel,place,cpu_max=150000 100000,io_weight has no effect here,4242-7000000");
    let json: Vec<JobView> = serde_json::from_str(&typed(&fake, "ffrtmp ps --all -o json").results).unwrap();
    assert_eq!(json.len(), 2);
    assert!(
        typed(&fake, "ffrtmp ps -o wide")
            .results
            .contains("999999999-7000000")
    );
}

#[test]
fn explain_prints_the_rule_each_write_and_the_microseconds() {
    let fake = Fake::default();
    insta::assert_snapshot!(typed(&fake, "ffrtmp explain 29651").results, @r"
    PID 29651: governed by rule ffmpeg
    Job auto-ffmpeg-29651 (running), class ffmpeg, rule ffmpeg, tier kernel
      in force: cpu_max = 150000 100000 (cpu.cfs_quota_us)
      warning: io_weight has no effect here
     AFTER  WHAT
     0µs    executed
     84µs   moved
    ");
    let failure = typed(&fake, "ffrtmp explain 1").status.unwrap_err();
    assert_eq!(failure.chain(), "process 1 does not exist");
}

#[test]
fn release_names_one_job_or_all() {
    let fake = Fake::default();
    let said = typed(&fake, "ffrtmp release unknown");
    insta::assert_snapshot!(said.results, @r"
     JOB      PID   UNDONE           NOT UNDONE
     unknown  4242  moved back to /
    ");
    typed(&fake, "ffrtmp release --all");
    let asked = fake.released.borrow();
    assert!(matches!(&asked[0], ReleaseRequest::One(job) if job == "unknown"));
    assert!(matches!(asked[1], ReleaseRequest::All));
}

#[test]
fn doctor_returns_what_it_found() {
    let nothing = typed(&Fake::default(), "ffrtmp doctor");
    assert_eq!(nothing.status.unwrap(), u8::from(ExitCode::Ungoverned));
    let less = Fake {
        hierarchies: vec!["v1 cpu: /sys/fs/cgroup/cpu".to_owned()],
        off: vec!["io_weight: no BFQ".to_owned()],
        ..Fake::default()
    };
    let said = typed(&less, "ffrtmp doctor");
    assert_eq!(said.status.unwrap(), u8::from(ExitCode::Degraded));
    assert!(
        said.results.contains("feature        off    io_weight: no BFQ"),
        "{}",
        said.results
    );
    let json: serde_json::Value =
        serde_json::from_str(&typed(&less, "ffrtmp doctor -o json").results).unwrap();
    assert_eq!(json["verdict"], 3);
    assert_eq!(json["status"]["tier"], "kernel");
}
