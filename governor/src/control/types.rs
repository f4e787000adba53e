//! What travels over the control socket. The in-process engine answers with the same types.

use ffrtmp_api::{Intent, JobId, Limits, Report};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::facts::Found;
use crate::core::origin::Origin;
use crate::core::rule::{OnForeignMove, PlacementMode};

pub use super::status::{GateMoves, GateStatus, PolicyLine, PolicyStatus, PressureStatus, Status};

/// Largest request body, bytes. A rules file of this size has about 10,000 rules.
pub const BODY_MAX: usize = 1 << 20;

/// Names one job of this boot: pid and start time of its first process, as `PID-STARTNS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey(pub ffrtmp_abi::ProcessKey);

impl std::fmt::Display for JobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0.pid, self.0.start)
    }
}

impl std::str::FromStr for JobKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no job key; a key reads PID-START, as `ffrtmp ps -o json` shows it");
        let (pid, start) = text.split_once('-').ok_or_else(wrong)?;
        let pid = pid.parse().map_err(|_| wrong())?;
        let start = start.parse().map_err(|_| wrong())?;
        Ok(Self(ffrtmp_abi::ProcessKey::new(pid, start)))
    }
}

impl Serialize for JobKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Asks the governor to take a live process under its rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The process.
    pub pid: u32,
    /// `Attach` for a process that runs already, `Run` for one that waits before its exec.
    pub found: Found,
    /// Label; `None` means "unknown".
    pub job_id: Option<JobId>,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// What it is for.
    #[serde(default)]
    pub intent: Intent,
    /// Whether it counts towards the SLA.
    #[serde(default)]
    pub sla_eligible: bool,
    /// Kill it (SIGTERM, then the group) this long after the attach; milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Where to put it; `None` for the default.
    #[serde(default)]
    pub placement: Option<PlacementMode>,
    /// Program and arguments that a waiting `Run` process will execute.
    #[serde(default)]
    pub command: Option<Vec<String>>,
}

/// Who asks: from `SO_PEERCRED`, or ourselves in-process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// True for root and members of group `ffrtmp`.
    pub privileged: bool,
}

/// One job as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Which.
    pub key: JobKey,
    /// How it was found.
    pub found: Found,
    /// User of its first process.
    pub uid: u32,
    /// Lifecycle state, as in `core::job`.
    pub state: String,
    /// Live processes.
    pub live: u32,
    /// What is done when somebody else moves it.
    #[serde(default, skip_serializing_if = "OnForeignMove::is_default")]
    pub on_foreign_move: OnForeignMove,
    /// What its first process was before anything was changed: a release puts that back, after a restart too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The record so far.
    pub report: Report,
}

/// How one process was judged, step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explain {
    /// The process asked about.
    pub pid: u32,
    /// The job it belongs to, if any.
    pub job: Option<JobView>,
    /// The verdict in one sentence.
    pub verdict: String,
    /// What happened when.
    pub steps: Vec<ExplainStep>,
}

/// One step of an [`Explain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainStep {
    /// Microseconds since the exec (or the request).
    pub at_us: u64,
    /// What happened.
    pub what: String,
}

/// Which jobs to let go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseRequest {
    /// Every live job.
    All,
    /// Jobs with this id, or the one with this pid or key.
    One(String),
}

/// What a release did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Job id.
    pub job_id: JobId,
    /// Its first process.
    pub pid: u32,
    /// What was undone, a line each.
    pub undone: Vec<String>,
    /// What could not be undone, a line each.
    pub warnings: Vec<String>,
}

/// Something happened to a job; `watch` and `events` show these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happened,
    /// The job as it was then.
    pub job: JobView,
}

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// A rule matched it.
    Discovered,
    /// It sits under its limits.
    Placed,
    /// It could not be placed; the report says why.
    NotPlaced,
    /// Somebody else moved it.
    Moved,
    /// It ran into a limit; once for each, the last entry of `report.limits.breached` says which.
    LimitBreached,
    /// Its first process ended.
    Exited,
    /// The out-of-memory killer was that end.
    Oom,
    /// It counts towards the SLA, and the platform did not do its part.
    SlaMissed,
    /// Its last process ended and its record is closed.
    Closed,
    /// It was let go.
    Released,
}

impl Happened {
    /// Every kind, in the order in which a job may show them.
    pub const ALL: [Self; 10] = [
        Self::Discovered,
        Self::Placed,
        Self::NotPlaced,
        Self::Moved,
        Self::LimitBreached,
        Self::Exited,
        Self::Oom,
        Self::SlaMissed,
        Self::Closed,
        Self::Released,
    ];

    /// Its word in JSON, configuration and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Placed => "placed",
            Self::NotPlaced => "not_placed",
            Self::Moved => "moved",
            Self::LimitBreached => "limit_breached",
            Self::Exited => "exited",
            Self::Oom => "oom",
            Self::SlaMissed => "sla_missed",
            Self::Closed => "closed",
            Self::Released => "released",
        }
    }
}

/// What a `watch` brings: rules that stand after the file's for as long as its connection lives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRules {
    /// Program names to govern.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Limits for all of them.
    #[serde(default)]
    pub limits: Limits,
    /// Text of a rules file, with more than names and limits can say.
    #[serde(default)]
    pub yaml: Option<String>,
    /// Where that text comes from, for messages.
    #[serde(default)]
    pub origin: Option<String>,
}

/// First line of a session's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpened {
    /// Its number.
    pub session: u64,
}

/// What a reload put in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file that was read; `None` when there is none and the defaults are in force.
    pub path: Option<std::path::PathBuf>,
    /// Program names its rules ask for.
    pub names: Vec<String>,
    /// True when some rule has no name.
    pub wide: bool,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// Machine-readable.
    pub code: ErrorCode,
    /// What is wrong; a lowercase sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl RequestError {
    /// A refusal with what to do about it.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// Kinds of [`RequestError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The pid names no process.
    NoSuchProcess,
    /// No such job.
    NoSuchJob,
    /// The caller may not do this.
    NotAllowed,
    /// The process cannot be governed: a kernel thread, ourselves.
    NotGovernable,
    /// Another live job has this id.
    JobIdInUse,
    /// A field is wrong.
    Invalid,
    /// The engine stopped.
    Gone,
    /// The machine refused.
    Failed,
}
