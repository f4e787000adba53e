//! For tests only: records to hand around, and an engine that answers commands without a machine.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{ExitReason, Intent, JobId, LimitsReport, PlacementReport, Report, Usage};
use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc;

use crate::control::types::{
    AttachRequest, ErrorCode, Explain, ExplainStep, Happened, JobEvent, JobKey, JobView, Peer,
    ReleaseRequest, Released, RequestError, Status,
};
use crate::core::facts::Found;
use crate::core::rule::OnForeignMove;
use crate::engine::handle::{Command, EngineHandle, SaveOrder};

/// A live job.
pub(crate) fn live_job(pid: u32, start: u64, uid: u32, job_id: &str) -> JobView {
    JobView {
        key: JobKey(ProcessKey::new(pid, start)),
        found: Found::Exec,
        uid,
        state: "placed".to_owned(),
        live: 1,
        on_foreign_move: OnForeignMove::Accept,
        origin: None,
        report: Report {
            job_id: JobId::parse(job_id).unwrap(),
            pid,
            mode: "watch".to_owned(),
            intent: Intent::Production,
            sla_eligible: true,
            command: Some(vec!["ffmpeg".to_owned(), "-i".to_owned(), "x.mp4".to_owned()]),
            start_time: jiff::Timestamp::from_second(1_700_000_000).unwrap(),
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
                warnings: vec!["io_weight: no scheduler here acts on it".to_owned()],
                ..LimitsReport::default()
            },
            usage: Usage {
                cpu_sec: Some(1.5),
                read_bytes: Some(4096),
                ..Usage::default()
            },
            energy: None,
            tier: "kernel".to_owned(),
            placement: PlacementReport {
                mode: "place".to_owned(),
                ..PlacementReport::default()
            },
            rule: Some("ffmpeg".to_owned()),
            class: "default".to_owned(),
        },
    }
}

/// The same job after its end.
pub(crate) fn ended(mut job: JobView, code: u8) -> JobView {
    let exit = if code == 0 {
        ExitReason::Success
    } else {
        ExitReason::Error { code }
    };
    job.live = 0;
    job.state = "closed".to_owned();
    job.report.end_time = Some(jiff::Timestamp::now());
    job.report.exit_code = Some(i32::from(code));
    job.report.exit_reason = Some(exit.word().to_owned());
    job.report.exit = Some(exit);
    job
}

/// A record that is not final.
pub(crate) fn open_order(job: JobView) -> SaveOrder {
    SaveOrder {
        job: Box::new(job),
        closed: false,
    }
}

/// A final one.
pub(crate) fn closed_order(job: JobView) -> SaveOrder {
    SaveOrder {
        job: Box::new(job),
        closed: true,
    }
}

/// What the fake engine holds and was asked.
#[derive(Debug, Default)]
pub(crate) struct FakeState {
    pub(crate) jobs: Vec<JobView>,
    pub(crate) attached: Vec<(u32, Peer)>,
    pub(crate) released: Vec<Peer>,
    pub(crate) saved: Vec<JobKey>,
    pub(crate) rules_replaced: u32,
    pub(crate) policy: Option<crate::engine::PolicyOrder>,
    pub(crate) sessions: Vec<u64>,
    pub(crate) last_session: u64,
    mourners: Vec<crate::engine::handle::Reply<()>>,
    subscribers: Vec<mpsc::Sender<JobEvent>>,
    waiters: Vec<(
        JobKey,
        crate::engine::handle::Reply<Result<JobView, RequestError>>,
    )>,
}

/// An engine that answers from a table.
#[derive(Debug, Clone)]
pub(crate) struct FakeEngine {
    pub(crate) state: Arc<Mutex<FakeState>>,
    pub(crate) handle: EngineHandle,
}

impl FakeEngine {
    pub(crate) fn start(jobs: Vec<JobView>) -> Self {
        let state = Arc::new(Mutex::new(FakeState {
            jobs,
            ..FakeState::default()
        }));
        let (commands, queue): (SyncSender<Command>, _) = sync_channel(64);
        let wake: OwnedFd = EventFd::new().unwrap().into();
        let handle = EngineHandle::new(commands, Arc::new(wake));
        let inner = Arc::clone(&state);
        std::thread::spawn(move || {
            for command in queue {
                if let Command::Stop(reply) = command {
                    let mut state = inner.lock().unwrap();
                    state.subscribers.clear();
                    state.waiters.clear();
                    state.mourners.clear();
                    let _ = reply.send(());
                    return;
                }
                answer(&mut inner.lock().unwrap(), command);
            }
        });
        Self { state, handle }
    }

    pub(crate) fn publish(&self, what: Happened, job: &JobView) {
        let event = JobEvent {
            at: jiff::Timestamp::now(),
            what,
            job: job.clone(),
        };
        let mut state = self.state.lock().unwrap();
        state
            .subscribers
            .retain(|subscriber| subscriber.try_send(event.clone()).is_ok());
    }

    /// Ends a job's first process.
    pub(crate) fn end(&self, key: JobKey, code: u8) {
        let mut state = self.state.lock().unwrap();
        let position = state.jobs.iter().position(|job| job.key == key).unwrap();
        let job = ended(state.jobs[position].clone(), code);
        state.jobs[position] = job.clone();
        for (waited, reply) in std::mem::take(&mut state.waiters) {
            assert_eq!(waited, key);
            let _ = reply.send(Ok(job.clone()));
        }
    }
}

fn refuse(code: ErrorCode, message: &str) -> RequestError {
    RequestError {
        code,
        message: message.to_owned(),
        hint: None,
    }
}

fn status(state: &FakeState) -> Status {
    Status {
        pid: std::process::id(),
        version: "0.0.0".to_owned(),
        tier: "kernel".to_owned(),
        tier_reason: None,
        names: vec!["ffmpeg".to_owned()],
        wide: false,
        rules: 1,
        jobs: state.jobs.iter().filter(|job| job.live > 0).count(),
        hierarchies: Vec::new(),
        off: Vec::new(),
        counters: BTreeMap::from([("discovered".to_owned(), 7), ("kernel seen".to_owned(), 11)]),
        policy: crate::control::types::PolicyStatus::default(),
        fast_placement: None,
        ledger: None,
        gate: None,
    }
}

fn attach(state: &mut FakeState, request: &AttachRequest, peer: Peer) -> JobView {
    state.attached.push((request.pid, peer));
    let mut job = live_job(request.pid, 1, peer.uid, "unknown");
    job.found = request.found;
    job.report.limits.asked = request.limits.clone();
    state.jobs.push(job.clone());
    job
}

fn answer(state: &mut FakeState, command: Command) {
    match command {
        Command::Status(reply) => {
            let _ = reply.send(status(state));
        }
        Command::Jobs(reply) => {
            let _ = reply.send(state.jobs.clone());
        }
        Command::Attach(request, peer, reply) => {
            let job = attach(state, &request, peer);
            let _ = reply.send(Ok(job));
        }
        Command::Wait(key, reply) => match state.jobs.iter().find(|job| job.key == key) {
            Some(job) if job.live == 0 => {
                let _ = reply.send(Ok(job.clone()));
            }
            Some(_) => state.waiters.push((key, reply)),
            None => {
                let _ = reply.send(Err(refuse(ErrorCode::NoSuchJob, "no such job")));
            }
        },
        Command::Explain(pid, reply) => {
            let _ = reply.send(Ok(Explain {
                pid,
                job: state.jobs.iter().find(|job| job.key.0.pid == pid).cloned(),
                verdict: "rule ffmpeg".to_owned(),
                steps: vec![ExplainStep {
                    at_us: 1,
                    what: "exec".to_owned(),
                }],
            }));
        }
        Command::Release(ReleaseRequest::All | ReleaseRequest::One(_), peer, reply) => {
            state.released.push(peer);
            let _ = reply.send(Ok(Vec::<Released>::new()));
        }
        Command::ReplaceRules(_) => state.rules_replaced += 1,
        Command::ReplacePolicy(order) => state.policy = Some(*order),
        Command::OpenSession(_, reply) => {
            state.last_session += 1;
            let session = state.last_session;
            state.sessions.push(session);
            let _ = reply.send(session);
        }
        Command::CloseSession(session) => state.sessions.retain(|open| *open != session),
        Command::Subscribe(subscriber) => state.subscribers.push(subscriber),
        Command::Mourn(reply) => state.mourners.push(reply),
        Command::Saved(keys) => state.saved.extend(keys),
        // Nobody asks a fake for scopes, and it has no gate.
        Command::Stop(_) | Command::ScopeAnswered(_) | Command::Gate(_) => {}
    }
}

/// Waits until something holds, at most five seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Runs something on a thread whose user is `uid` and that has no groups but `gid`; the other threads keep theirs.
pub(crate) fn as_user<T: Send + 'static>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(move || {
        use rustix::process::{Gid, Uid};
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    })
    .join()
    .unwrap()
}
