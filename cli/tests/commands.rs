//! Every command against a scripted governor: what it asks, what it prints, what it returns.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail their test"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;

use clap::Parser;
use ffrtmp_api::{
    ExitReason, Intent, JobId, LimitOutcome, LimitsReport, OomScope, PlacementReport, Report, Sender, Usage,
};
use ffrtmp_cli::args::{Cli, Verb};
use ffrtmp_cli::backend::{Backend, WatchOrder};
use ffrtmp_cli::command;
use ffrtmp_cli::exit::ExitCode;
use ffrtmp_cli::failure::Failure;
use ffrtmp_cli::output::Output;
use ffrtmp_governor::control::types::{
    AttachRequest, ErrorCode, Explain, ExplainStep, Happened, JobEvent, JobKey, JobView, ReleaseRequest,
    Released, RequestError, Status,
};
use ffrtmp_governor::core::facts::Found;
use ffrtmp_governor::core::rule::OnForeignMove;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// A governor that answers as told and remembers what it was asked.
#[derive(Default)]
struct Fake {
    attached: RefCell<Vec<AttachRequest>>,
    watched: RefCell<Vec<WatchOrder>>,
    released: RefCell<Vec<ReleaseRequest>>,
    refuse_attach: Option<ErrorCode>,
    only_downwards: bool,
    lose_wait: bool,
    ended: Option<JobView>,
    jobs: Vec<JobView>,
    events: Vec<(Happened, JobView)>,
    hierarchies: Vec<String>,
    off: Vec<String>,
}

fn refusal(code: ErrorCode) -> RequestError {
    RequestError {
        code,
        message: "the script says no".to_owned(),
        hint: Some("ask differently".to_owned()),
    }
}

fn is_upwards(request: &AttachRequest) -> bool {
    request.limits.nice.is_some_and(|nice| nice < 0)
        || request.limits.oom_score_adj.is_some_and(|score| score < 0)
}

impl Backend for Fake {
    async fn status(&self) -> Result<Status, RequestError> {
        Ok(Status {
            pid: 77,
            version: "0.1.0".to_owned(),
            tier: "kernel".to_owned(),
            tier_reason: None,
            names: vec!["ffmpeg".to_owned()],
            wide: false,
            rules: 1,
            jobs: self.jobs.len(),
            hierarchies: self.hierarchies.clone(),
            off: self.off.clone(),
            counters: BTreeMap::from([("seen".to_owned(), 3)]),
            policy: ffrtmp_governor::control::types::PolicyStatus::default(),
            fast_placement: None,
            ledger: None,
            gate: None,
        })
    }

    async fn jobs(&self) -> Result<Vec<JobView>, RequestError> {
        Ok(self.jobs.clone())
    }

    async fn attach(&self, request: AttachRequest) -> Result<JobView, RequestError> {
        self.attached.borrow_mut().push(request.clone());
        match self.refuse_attach {
            Some(code) if code != ErrorCode::NotAllowed || !self.only_downwards || is_upwards(&request) => {
                Err(refusal(code))
            }
            Some(_) | None => {
                let mut view = job("unknown", request.pid);
                view.report.limits.asked = request.limits;
                Ok(view)
            }
        }
    }

    async fn wait(&self, _key: JobKey) -> Result<JobView, RequestError> {
        if self.lose_wait {
            return Err(refusal(ErrorCode::Gone));
        }
        Ok(self.ended.clone().unwrap_or_else(|| ended(job("unknown", 4242))))
    }

    async fn explain(&self, pid: u32) -> Result<Explain, RequestError> {
        if pid == 1 {
            return Err(refusal(ErrorCode::NoSuchProcess));
        }
        Ok(Explain {
            pid,
            job: Some(job("auto-ffmpeg-29651", pid)),
            verdict: "governed by rule ffmpeg".to_owned(),
            steps: vec![
                ExplainStep {
                    at_us: 0,
                    what: "executed".to_owned(),
                },
                ExplainStep {
                    at_us: 84,
                    what: "moved".to_owned(),
                },
            ],
        })
    }

    async fn release(&self, request: ReleaseRequest) -> Result<Vec<Released>, RequestError> {
        self.released.borrow_mut().push(request);
        Ok(vec![Released {
            job_id: JobId::unknown(),
            pid: 4242,
            undone: vec!["moved back to /".to_owned()],
            warnings: Vec::new(),
        }])
    }

    async fn open_watch(&self, order: WatchOrder) -> Result<mpsc::Receiver<JobEvent>, RequestError> {
        self.watched.borrow_mut().push(order);
        let (sender, receiver) = mpsc::channel(64);
        for (what, job) in self.events.clone() {
            let at = "2026-01-07T08:18:13Z".parse().unwrap();
            sender.try_send(JobEvent { at, what, job }).unwrap();
        }
        Ok(receiver)
    }
}

fn job(id: &str, pid: u32) -> JobView {
    JobView {
        key: format!("{pid}-7000000").parse::<JobKey>().unwrap(),
        found: Found::Exec,
        uid: 1000,
        state: "running".to_owned(),
        live: 1,
        on_foreign_move: OnForeignMove::Accept,
        origin: None,
        report: Report {
            job_id: JobId::parse(id).unwrap(),
            pid,
            mode: "watch".to_owned(),
            intent: Intent::Production,
            sla_eligible: false,
            command: Some(vec![
                "/usr/bin/ffmpeg".to_owned(),
                "-i".to_owned(),
                "in.mp4".to_owned(),
            ]),
            start_time: "2026-01-07T08:18:21Z".parse().unwrap(),
            end_time: None,
            duration_sec: None,
            exit_code: None,
            exit_reason: None,
            exit: None,
            signal: None,
            killed_by: None,
            platform_sla_compliant: None,
            platform_sla_reason: None,
            limits: LimitsReport {
                applied: vec![LimitOutcome {
                    limit: "cpu_max".to_owned(),
                    target: "cpu.cfs_quota_us".to_owned(),
                    value: "150000 100000".to_owned(),
                }],
                warnings: vec!["io_weight has no effect here".to_owned()],
                ..LimitsReport::default()
            },
            usage: Usage {
                cpu_sec: Some(1.5),
                memory_peak_bytes: Some(64 << 20),
                ..Usage::default()
            },
            energy: None,
            tier: "kernel".to_owned(),
            placement: PlacementReport {
                mode: "place".to_owned(),
                placed_in_us: Some(84),
                ..PlacementReport::default()
            },
            rule: Some("ffmpeg".to_owned()),
            class: "ffmpeg".to_owned(),
        },
    }
}

fn ended(mut view: JobView) -> JobView {
    let report = &mut view.report;
    report.end_time = Some("2026-01-07T08:18:22Z".parse().unwrap());
    report.duration_sec = Some(1.0);
    report.exit_code = Some(0);
    report.exit = Some(ExitReason::Success);
    report.exit_reason = Some("success".to_owned());
    report.platform_sla_compliant = Some(true);
    report.platform_sla_reason = Some("observed_to_completion".to_owned());
    "closed".clone_into(&mut view.state);
    view.live = 0;
    view
}

#[derive(Clone, Default)]
struct Sink(Rc<RefCell<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Said {
    status: Result<u8, Failure>,
    results: String,
    talk: String,
}

/// Types a command line at the scripted governor.
fn typed(fake: &Fake, line: &str) -> Said {
    let cli = Cli::try_parse_from(shlex::split(line).unwrap()).unwrap();
    let (results, talk) = (Sink::default(), Sink::default());
    let mut output = Output::captured(
        cli.global.output,
        Box::new(results.clone()),
        Box::new(talk.clone()),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let output = &mut output;
    let status = runtime.block_on(async {
        match cli.verb {
            Verb::Run(args) => command::run::run(args, fake, output).await,
            Verb::Attach(args) => command::attach::attach(args, fake, output).await,
            Verb::Watch(args) => command::watch::watch(args, fake, output).await.map(u8::from),
            Verb::Ps(args) => command::ps::ps(&args, fake, output).await.map(u8::from),
            Verb::Explain(args) => command::explain::explain(&args, fake, output).await.map(u8::from),
            Verb::Release(args) => command::release::release(args, fake, output).await.map(u8::from),
            Verb::Doctor => command::doctor::doctor(&cli.global, fake, output)
                .await
                .map(u8::from),
            other => panic!("{other:?} asks no governor"),
        }
    });
    let text = |sink: Sink| String::from_utf8(sink.0.borrow().clone()).unwrap();
    Said {
        status,
        results: text(results),
        talk: text(talk),
    }
}

#[test]
fn run_asks_for_what_was_typed_while_the_command_still_waits() {
    let fake = Fake::default();
    let said = typed(
        &fake,
        "ffrtmp run --job-id j --sla-eligible --intent soak --cpu-quota 50 --timeout 90s --placement in-place -- true",
    );
    assert_eq!(said.status.unwrap(), 0, "{}", said.talk);
    let asked = fake.attached.borrow();
    assert_eq!(asked[0].found, Found::Run);
    assert_eq!(asked[0].job_id.as_ref().unwrap().as_str(), "j");
    assert_eq!(asked[0].timeout_ms, Some(90_000));
    assert_eq!((asked[0].intent, asked[0].sla_eligible), (Intent::Soak, true));
    assert_eq!(asked[0].limits.cpu_max.unwrap().to_string(), "50000 100000");
    assert_eq!(
        asked[0].placement,
        Some(ffrtmp_governor::core::rule::PlacementMode::InPlace)
    );
    assert_eq!(asked[0].command.as_deref(), Some(["true".to_owned()].as_slice()));
}

#[test]
fn a_request_that_cannot_be_meant_stops_the_start_and_nothing_was_executed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made");
    for code in [ErrorCode::JobIdInUse, ErrorCode::Invalid] {
        let fake = Fake {
            refuse_attach: Some(code),
            ..Fake::default()
        };
        let said = typed(&fake, &format!("ffrtmp run -- touch {}", file.display()));
        let failure = said.status.unwrap_err();
        assert_eq!(failure.exit(ExitCode::Own), ExitCode::Own);
        assert_eq!(failure.hint().as_deref(), Some("ask differently"));
        assert!(!file.exists());
    }
}

#[test]
fn a_governor_that_fails_costs_limits_and_never_the_workload() {
    for code in [
        ErrorCode::Gone,
        ErrorCode::Failed,
        ErrorCode::NotAllowed,
        ErrorCode::NotGovernable,
    ] {
        let fake = Fake {
            refuse_attach: Some(code),
            ..Fake::default()
        };
        let said = typed(&fake, "ffrtmp run --cpu-quota 50 -- sh -c 'exit 6'");
        assert_eq!(said.status.unwrap(), 6);
        assert!(
            said.talk
                .contains("WARNING: The governor cannot take it: the script says no"),
            "{}",
            said.talk
        );
        assert!(
            said.talk.contains("WARNING: Cannot create cgroup"),
            "{}",
            said.talk
        );
    }
}

#[test]
fn what_only_root_may_ask_for_is_given_up_and_the_rest_is_kept() {
    let fake = Fake {
        refuse_attach: Some(ErrorCode::NotAllowed),
        only_downwards: true,
        ..Fake::default()
    };
    let said = typed(
        &fake,
        "ffrtmp run --nice -10 --oom-score -500 --cpu-quota 50 -- true",
    );
    assert_eq!(said.status.unwrap(), 0);
    assert!(
        said.talk
            .contains("[wrapper] WARNING: Cannot set negative nice (requires root), using 0\n"),
        "{}",
        said.talk
    );
    let asked = fake.attached.borrow();
    assert_eq!(
        (asked[1].limits.nice, asked[1].limits.oom_score_adj),
        (None, None)
    );
    assert_eq!(asked[1].limits.cpu_max, asked[0].limits.cpu_max);
}

#[test]
fn a_governor_that_dies_meanwhile_does_not_change_the_status() {
    let fake = Fake {
        lose_wait: true,
        ..Fake::default()
    };
    let said = typed(&fake, "ffrtmp run --json -- sh -c 'exit 6'");
    assert_eq!(said.status.unwrap(), 6);
    assert!(
        said.talk
            .contains("WARNING: no report from the governor (the script says no)"),
        "{}",
        said.talk
    );
    assert!(
        said.results.contains("\"exit_code\": 6") && said.results.contains("\"exit_reason\": \"error\""),
        "{}",
        said.results
    );
}

#[test]
fn the_governors_reason_is_kept_and_our_own_status_holds() {
    let mut view = ended(job("big", 4242));
    view.report.exit = Some(ExitReason::Oom {
        scope: OomScope::Memcg,
    });
    view.report.exit_code = Some(137);
    view.report.signal = Some(9);
    view.report.killed_by = Some(Sender::Kernel);
    view.report.platform_sla_reason = Some("workload_exceeded_limit".to_owned());
    let fake = Fake {
        ended: Some(view),
        ..Fake::default()
    };
    let said = typed(&fake, "ffrtmp run -- sh -c 'kill -9 $$'");
    assert_eq!(said.status.unwrap(), 137);
    assert!(
        said.talk.contains("[wrapper] Process exited: code=137, reason=oom, signal=9 (SIGKILL), sender=kernel, duration=1.0s\n"),
        "{}",
        said.talk
    );
    assert!(said.talk.ends_with(
        "JOB big | sla=COMPLIANT | reason=workload_exceeded_limit | runtime=1s | exit=137 | pid=4242\n"
    ));
}

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
