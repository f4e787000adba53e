//! Governing without a governor: what a parent, or a stranger without privilege, can do for one process.
//!
//! No daemon, no kernel program, no control group. Usage and status come from the parent's own wait (`run`) or from the
//! process's descriptor (`attach`, `watch`). Nothing here is ever fatal to a workload.

mod delegated;
mod limits;
mod scan;
mod scope;
mod wait;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ffrtmp_api::{ExitReason, JobId, LimitsReport, PlacementReport, Report, Usage};
use ffrtmp_governor::control::types::{
    AttachRequest, ErrorCode, Explain, ExplainStep, JobEvent, JobKey, JobView, PolicyStatus, ReleaseRequest,
    Released, RequestError, Status,
};
use ffrtmp_governor::core::facts::{Found, ProcessFacts};
use ffrtmp_governor::core::redact::Redactor;
use ffrtmp_governor::core::rule::{Needs, OnForeignMove};
use ffrtmp_governor::host::cgroup::Group;
use ffrtmp_governor::host::file::chain;
use ffrtmp_governor::host::process::{Pinned, ProcessError, read_stat};
use ffrtmp_governor::host::procfs::{is_kernel_thread, read_facts};
use jiff::{SignedDuration, Timestamp};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tokio::sync::mpsc;

use crate::backend::{Backend, WatchOrder};
use crate::ending::{self, Seen};
use delegated::Delegated;
use wait::wait_for_end;

/// How long a process that was asked to end may take before it is killed; the predecessor's users know 5 s.
const GRACE: Duration = Duration::from_secs(5);

/// Governs with what needs no governor.
#[derive(Debug, Clone)]
pub struct Plain {
    why: String,
    /// The user's own part of the tree, where there is one.
    own: Option<Delegated>,
    jobs: Arc<Mutex<BTreeMap<JobKey, Followed>>>,
}

#[derive(Debug, Clone)]
struct Followed {
    view: JobView,
    process: Arc<Pinned>,
    timed_out: bool,
    group: Option<Group>,
}

impl Plain {
    /// A governor of last resort; `why` says why there is no better one.
    pub fn new(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            own: None,
            jobs: Arc::default(),
        }
    }

    /// The same for a user who may have been handed a part of the tree.
    pub fn delegated(why: &str) -> Self {
        Self {
            own: Delegated::find(),
            ..Self::new(why)
        }
    }

    /// Why there is no better one.
    pub fn why(&self) -> &str {
        &self.why
    }

    fn jobs_now(&self) -> MutexGuard<'_, BTreeMap<JobKey, Followed>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process, checked, and held by a descriptor that no later one of the same pid answers to.
    fn pin(pid: u32) -> Result<(ProcessFacts, Pinned), RequestError> {
        if pid == std::process::id() {
            return Err(not_governable(
                format!("process {pid} is this ffrtmp itself"),
                "name the process to govern",
            ));
        }
        let failed = |error: ProcessError| match error {
            gone if gone.is_gone() => refuse(
                ErrorCode::NoSuchProcess,
                format!("process {pid} does not exist"),
                None,
            ),
            // The kernel opens descriptors of thread group leaders only (pidfd_open(2)).
            ProcessError::Call { source, .. } if matches!(source.raw_os_error(), Some(code) if code == Errno::ENOENT as i32 || code == Errno::EINVAL as i32) => {
                not_governable(
                    format!("{pid} is a thread, not a process"),
                    "name its process: the Tgid line of /proc/PID/status",
                )
            }
            other => refuse(ErrorCode::Failed, chain(&other), None),
        };
        let stat = read_stat(pid).map_err(failed)?;
        if is_kernel_thread(&stat) {
            return Err(not_governable(
                format!("process {pid} ({}) is a thread of the kernel", stat.comm),
                "kernel threads take no limits; name a user process",
            ));
        }
        let process = Pinned::of_pid(pid).map_err(failed)?;
        let facts = read_facts(pid, Found::Attach, Needs::default()).map_err(failed)?;
        process.check().map_err(failed)?;
        Ok((facts, process))
    }

    /// A group for the process: in the part of the tree that was handed to this user, else, for `run`, a scope that the
    /// user's own service manager makes. Without either the report says what that costs.
    async fn group_for(
        &self,
        process: &Pinned,
        request: &AttachRequest,
        limits: &mut LimitsReport,
    ) -> (Option<PlacementReport>, Option<Group>) {
        let own = self.own.as_ref();
        if let Some(group) = own.and_then(|own| own.place(process, request, mode_of(request.found), limits)) {
            return (Some(delegated::report_of(&group)), Some(group));
        }
        let mut why = None;
        if request.found == Found::Run && limits::need_group(&request.limits) {
            match scope::of_user(process, request.job_id.as_ref(), limits).await {
                Ok(placement) => return (Some(placement), None),
                Err(error) => why = Some(error),
            }
        }
        limits::without_group(limits, why.as_deref());
        (None, None)
    }

    fn enforce_timeout(&self, key: JobKey, found: Found, timeout: Duration) {
        let plain = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            for signal in [Signal::SIGTERM, Signal::SIGKILL] {
                if !plain.send(key, found, signal) {
                    return;
                }
                tokio::time::sleep(GRACE).await;
            }
        });
    }

    /// Signals a job whose time is over. False when it has ended already.
    fn send(&self, key: JobKey, found: Found, signal: Signal) -> bool {
        let mut jobs = self.jobs_now();
        let Some(job) = jobs.get_mut(&key).filter(|job| job.view.live != 0) else {
            return false;
        };
        // The descriptor decides whether the process still is; only then may its group be named by number.
        if job.process.signal(signal as i32).is_err() {
            return false;
        }
        job.timed_out = true;
        if found == Found::Run {
            // Its group is its own (`run` makes it so). An error means that nobody is left in it.
            let _nobody_left = killpg(Pid::from_raw(key.0.pid as i32), signal);
        }
        true
    }

    fn close(&self, key: JobKey, seen: &Seen) -> Option<JobView> {
        let mut jobs = self.jobs_now();
        let job = jobs.get_mut(&key)?;
        if job.timed_out {
            job.view.report.exit = Some(ExitReason::Timeout);
        }
        ending::complete(&mut job.view.report, seen, Timestamp::now());
        "closed".clone_into(&mut job.view.state);
        job.view.live = 0;
        if let (Some(own), Some(group)) = (&self.own, job.group.take()) {
            own.retire(&group, &mut job.view.report.usage);
        }
        Some(job.view.clone())
    }
}

impl Backend for Plain {
    async fn status(&self) -> Result<Status, RequestError> {
        let jobs = self.jobs_now().values().filter(|job| job.view.live != 0).count();
        Ok(Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tier: "wait".to_owned(),
            tier_reason: Some(self.why.clone()),
            names: Vec::new(),
            wide: false,
            rules: 0,
            jobs,
            hierarchies: self.own.as_ref().map(Delegated::describe).unwrap_or_default(),
            off: vec![
                match &self.own {
                    Some(_) => "control groups other than this user's own".to_owned(),
                    None => format!("control groups: {}", self.why),
                },
                format!("processes started by others: {}", self.why),
                "ledger: there is no daemon to keep it".to_owned(),
            ],
            counters: BTreeMap::new(),
            policy: PolicyStatus::default(),
            fast_placement: None,
            ledger: None,
            gate: None,
        })
    }

    async fn jobs(&self) -> Result<Vec<JobView>, RequestError> {
        Ok(self.jobs_now().values().map(|job| job.view.clone()).collect())
    }

    async fn attach(&self, request: AttachRequest) -> Result<JobView, RequestError> {
        let (facts, process) = Self::pin(request.pid)?;
        let mut limits = limits::own(&process, &request.limits);
        let (placement, group) = self.group_for(&process, &request, &mut limits).await;
        limits::set_cpus(&process, &mut limits);
        let key = JobKey(facts.key);
        let mut view = view_of(&request, &facts, limits, &self.why);
        if let Some(placement) = placement {
            view.report.placement = placement;
        }
        self.jobs_now().insert(
            key,
            Followed {
                view: view.clone(),
                process: Arc::new(process),
                timed_out: false,
                group,
            },
        );
        if let Some(timeout) = request.timeout_ms.filter(|&timeout| timeout != 0) {
            self.enforce_timeout(key, request.found, Duration::from_millis(timeout));
        }
        Ok(view)
    }

    async fn wait(&self, key: JobKey) -> Result<JobView, RequestError> {
        let unknown = || refuse(ErrorCode::NoSuchJob, format!("there is no job {key}"), None);
        let process = {
            let jobs = self.jobs_now();
            jobs.get(&key)
                .map(|job| job.process.clone())
                .ok_or_else(unknown)?
        };
        // One thread a process: only this tier waits so, and beyond the pool's 512 threads ends are told late, not lost.
        let waited = tokio::task::spawn_blocking(move || wait_for_end(&process)).await;
        let (cpu_sec, seen) = waited.unwrap_or_else(|error| {
            (
                None,
                Seen::Nothing(format!("the wait for its end failed: {error}")),
            )
        });
        if let Some(job) = self.jobs_now().get_mut(&key) {
            job.view.report.usage.cpu_sec = cpu_sec;
        }
        self.close(key, &seen).ok_or_else(unknown)
    }

    async fn explain(&self, pid: u32) -> Result<Explain, RequestError> {
        let job = self
            .jobs_now()
            .values()
            .find(|job| job.view.key.0.pid == pid)
            .map(|job| job.view.clone());
        if job.is_none() && read_stat(pid).is_err() {
            return Err(refuse(
                ErrorCode::NoSuchProcess,
                format!("process {pid} does not exist"),
                None,
            ));
        }
        Ok(Explain {
            pid,
            job,
            verdict: format!("nobody judged process {pid}: {}", self.why),
            steps: vec![ExplainStep {
                at_us: 0,
                what: "no governor has seen it".to_owned(),
            }],
        })
    }

    async fn release(&self, _request: ReleaseRequest) -> Result<Vec<Released>, RequestError> {
        Err(refuse(
            ErrorCode::NoSuchJob,
            format!("there is nothing to release: {}", self.why),
            Some("start ffrtmp-governor; only it remembers what was done to which process"),
        ))
    }

    async fn open_watch(&self, order: WatchOrder) -> Result<mpsc::Receiver<JobEvent>, RequestError> {
        scan::open(self.clone(), order)
    }
}

fn mode_of(found: Found) -> &'static str {
    match found {
        Found::Run => "run",
        Found::Attach => "attach",
        Found::Exec | Found::Adopted => "watch",
    }
}

fn view_of(request: &AttachRequest, facts: &ProcessFacts, limits: LimitsReport, why: &str) -> JobView {
    let mode = mode_of(request.found);
    let redactor = Redactor::default();
    let command = request.command.as_ref().or(facts.argv.as_ref());
    JobView {
        key: JobKey(facts.key),
        found: request.found,
        uid: facts.uid,
        state: "running".to_owned(),
        live: 1,
        on_foreign_move: OnForeignMove::Accept,
        origin: None,
        report: Report {
            job_id: request.job_id.clone().unwrap_or_else(JobId::unknown),
            pid: request.pid,
            mode: mode.to_owned(),
            intent: request.intent,
            sla_eligible: request.sla_eligible,
            command: command.map(|argv| redactor.clean(argv)),
            start_time: start_of(request.found, facts.started_ns),
            end_time: None,
            duration_sec: None,
            exit_code: None,
            exit_reason: None,
            exit: None,
            signal: None,
            killed_by: None,
            platform_sla_compliant: None,
            platform_sla_reason: None,
            limits,
            usage: Usage::default(),
            energy: None,
            tier: "wait".to_owned(),
            placement: PlacementReport {
                mode: "none".to_owned(),
                not_placed: Some(why.to_owned()),
                ..PlacementReport::default()
            },
            rule: None,
            class: mode.to_owned(),
        },
    }
}

/// A held process executes its program next, so its job starts now; any other started when /proc says.
fn start_of(found: Found, started_ns: u64) -> Timestamp {
    let now = Timestamp::now();
    if found == Found::Run {
        return now;
    }
    let age = boot_ns().saturating_sub(started_ns);
    now.checked_sub(SignedDuration::from_nanos(age as i64))
        .unwrap_or(now)
}

/// Nanoseconds since boot, suspended time included: the clock of process starts.
pub(crate) fn boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

fn refuse(code: ErrorCode, message: String, hint: Option<&str>) -> RequestError {
    RequestError {
        code,
        message,
        hint: hint.map(ToOwned::to_owned),
    }
}

fn not_governable(message: String, hint: &str) -> RequestError {
    refuse(ErrorCode::NotGovernable, message, Some(hint))
}
