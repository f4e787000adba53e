//! Every command against a scripted governor: what it asks, what it prints, what it returns.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail their test"
)]

mod others;
mod run;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::rc::Rc;

use clap::Parser;
use ffrtmp_api::{ExitReason, Intent, JobId, LimitOutcome, LimitsReport, PlacementReport, Report, Usage};
use ffrtmp_cli::args::{Cli, Verb};
use ffrtmp_cli::backend::{Backend, WatchOrder};
use ffrtmp_cli::command;
use ffrtmp_cli::failure::Failure;
use ffrtmp_cli::output::Output;
use ffrtmp_governor::control::types::{
    AttachRequest, ErrorCode, Explain, ExplainStep, Happened, JobEvent, JobKey, JobView, ReleaseRequest,
    Released, RequestError, Status,
};
use ffrtmp_governor::core::facts::Found;
use ffrtmp_governor::core::rule::OnForeignMove;
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
