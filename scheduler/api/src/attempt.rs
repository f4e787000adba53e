//! What passes between the scheduler and a node: claims, grants, reports, heartbeats.
//!
//! Times on this wire are durations in seconds, never deadlines: the two clocks need not agree.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    AttemptEnd, AttemptKey, AttemptPhase, Energy, Epoch, ExitReason, FailureReason, FieldError, JobRequest,
    Limits, NodeId, StaleAdvice, Usage,
};

/// A node asks for work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimRequest {
    /// Made by the node for this call; the same one again gets the same grants again, as long as none has started.
    pub claim_id: String,
    /// Jobs it takes at most, 1 to 64.
    pub max: u32,
    /// Seconds to wait for work, 0 to 60.
    pub wait_sec: u32,
}

impl ClaimRequest {
    /// Longest wait, in seconds: proxies commonly cut a quiet connection at 60.
    pub const WAIT_MOST_SEC: u32 = 60;

    /// Checks the numbers.
    pub fn validate(&self) -> Result<(), FieldError> {
        if self.claim_id.len() > 64 {
            return Err(FieldError::new("claim_id", "is longer than 64 bytes"));
        }
        if !(1..=64).contains(&self.max) {
            return Err(FieldError::new("max", "write 1 to 64"));
        }
        if self.wait_sec > Self::WAIT_MOST_SEC {
            return Err(FieldError::new("wait_sec", "write 0 to 60"));
        }
        Ok(())
    }
}

/// What a claim gets. Empty when the wait passed without work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClaimResponse {
    /// The jobs granted.
    pub grants: Vec<Grant>,
}

/// One job given to one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Grant {
    /// Which attempt it is; every write carries it.
    #[serde(flatten)]
    pub key: AttemptKey,
    /// Number of the job.
    pub sequence_number: i64,
    /// What to do, as submitted.
    pub job: JobRequest,
    /// The limits it runs under.
    pub limits: Limits,
    /// Seconds the node may run it without reaching the scheduler before the scheduler gives it to another.
    pub lease_sec: u32,
    /// Output goes to a name that ends so; it gets its final name only after the result was accepted.
    pub output_suffix: String,
}

/// How far an attempt is. Absent figures were not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<f32>,
    /// Pictures done.
    pub frame: Option<u64>,
    /// Pictures a second.
    pub fps: Option<f32>,
    /// Media time done a second of real time.
    pub speed: Option<f32>,
    /// Seconds of media done.
    pub out_time_sec: Option<f64>,
    /// Seconds to go.
    pub eta_sec: Option<f64>,
}

impl Progress {
    /// True when `self` is further than `before`: that, not a call alone, keeps a job from going stale.
    pub fn moved_since(&self, before: &Self) -> bool {
        self.frame != before.frame
            || self.out_time_sec != before.out_time_sec
            || self.percent != before.percent
    }
}

/// A node's word on one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum AttemptReport {
    /// Its process runs.
    Started {
        /// Pid on the node.
        pid: Option<u32>,
        /// Program chosen: `ffmpeg` or `gstreamer`.
        engine: Option<String>,
    },
    /// It moved on.
    Progressed {
        /// How far it is.
        #[serde(deserialize_with = "crate::object")]
        progress: Progress,
    },
    /// It was never started and the node does not want it: full, or being drained.
    Returned {
        /// Why.
        reason: String,
    },
    /// It is over.
    Finished {
        /// How.
        #[serde(deserialize_with = "crate::object")]
        result: Box<AttemptResult>,
    },
}

/// How an attempt ended, in the node's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptResult {
    /// `completed`, `failed`, `timed_out` or `canceled`.
    pub status: ResultStatus,
    /// Why it failed, where it did.
    #[serde(default)]
    pub failure_reason: Option<FailureReason>,
    /// One sentence for people.
    #[serde(default)]
    pub error: Option<String>,
    /// The true reason of the process's end.
    #[serde(default, deserialize_with = "crate::optional_object")]
    pub exit: Option<ExitReason>,
    /// Status as a shell shows it.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Last lines of the program's error output.
    #[serde(default)]
    pub log_tail: Vec<String>,
    /// Seconds the process ran.
    #[serde(default)]
    pub duration_sec: Option<f64>,
    /// What it used.
    #[serde(default, deserialize_with = "crate::object")]
    pub usage: Usage,
    /// Joules, where measured.
    #[serde(default, deserialize_with = "crate::optional_object")]
    pub energy: Option<Energy>,
    /// Where the output is.
    #[serde(default)]
    pub output: Option<String>,
    /// Size of the output in bytes.
    #[serde(default)]
    pub output_bytes: Option<u64>,
    /// Further figures, for instance `vmaf_score`, `qoe_score`, `efficiency_score`.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

/// The four ways an attempt ends on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResultStatus {
    /// Done, output checked.
    Completed,
    /// Not done.
    Failed,
    /// Ended by its own time limit.
    TimedOut,
    /// Ended because the scheduler said so.
    Canceled,
}

impl AttemptResult {
    /// A result without figures.
    pub fn new(status: ResultStatus) -> Self {
        Self {
            status,
            failure_reason: None,
            error: None,
            exit: None,
            exit_code: None,
            log_tail: Vec::new(),
            duration_sec: None,
            usage: Usage::default(),
            energy: None,
            output: None,
            output_bytes: None,
            metrics: BTreeMap::new(),
        }
    }

    /// Checks sizes, so that a node cannot fill the database.
    pub fn validate(&self) -> Result<(), FieldError> {
        let bytes: usize = self.log_tail.iter().map(String::len).sum();
        if self.log_tail.len() > 200 || bytes > 64 << 10 {
            return Err(FieldError::new("log_tail", "is longer than 200 lines or 64 KiB"));
        }
        if self.error.as_ref().is_some_and(|text| text.len() > 8 << 10) {
            return Err(FieldError::new("error", "is longer than 8 KiB"));
        }
        if self.metrics.len() > 64 {
            return Err(FieldError::new("metrics", "has more than 64 entries"));
        }
        if self.metrics.values().any(|value| !value.is_finite()) {
            return Err(FieldError::new("metrics", "holds a figure that is not finite"));
        }
        Ok(())
    }
}

/// The scheduler's word on a report. A stale one is answered 409 with the same advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum ReportAnswer {
    /// Taken. After a completed result: give the output its final name now.
    Accepted,
    /// Taken before, with the same content. Does the same as `accepted`.
    AlreadyAccepted,
    /// The attempt is over for the scheduler; what it did is noted and changes nothing.
    Noted {
        /// What to do with it.
        advice: StaleAdvice,
    },
}

/// A node's regular call: everything it holds, in one message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Heartbeat {
    /// Every attempt the node has, whatever its phase. What is missing here the node does not have.
    pub held: Vec<HeldAttempt>,
    /// How busy the node is.
    #[serde(deserialize_with = "crate::object")]
    pub load: NodeLoad,
}

/// One attempt a node has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HeldAttempt {
    /// Which.
    #[serde(flatten)]
    pub key: AttemptKey,
    /// True once its process runs or ran.
    #[serde(default)]
    pub started: bool,
    /// True when its process has ended and the result waits to be sent.
    #[serde(default)]
    pub finished: bool,
    /// How far it is.
    #[serde(default, deserialize_with = "crate::object")]
    pub progress: Progress,
    /// True while its process is frozen.
    #[serde(default)]
    pub paused: bool,
}

/// How busy a node is. Absent figures were not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct NodeLoad {
    /// 0 to 100, all cores together.
    pub cpu_load_percent: Option<f32>,
    /// Memory that is free, in bytes.
    pub ram_free_bytes: Option<u64>,
    /// Free space for outputs, in bytes.
    pub disk_free_bytes: Option<u64>,
    /// Watts drawn.
    pub power_watts: Option<f32>,
}

/// The scheduler's answer to a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HeartbeatAnswer {
    /// Seconds until the next one.
    pub heartbeat_sec: u32,
    /// Seconds after which a silent node is lost.
    pub lease_sec: u32,
    /// What to do now.
    pub orders: Vec<Order>,
}

/// `GET /nodes/{id}/orders`: what a node is to do, as soon as somebody wants it. The node asks again with `after` set to
/// the version it got, and is answered when there is something newer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Orders {
    /// Grows with every order for this node; starts anew with the scheduler.
    pub version: u64,
    /// Every order that is outstanding.
    pub orders: Vec<Order>,
}

/// One order for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Order {
    /// Which attempt.
    #[serde(flatten)]
    pub key: AttemptKey,
    /// What to do.
    pub action: Action,
}

/// What a node is told to do with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// End the process: the job was cancelled.
    Cancel,
    /// End the process: the attempt is over for another reason (no progress, superseded).
    Stop,
    /// Nothing runs any more: delete the output and forget it.
    Discard,
    /// Freeze the process.
    Pause,
    /// Let it go on.
    Resume,
}

/// One attempt, as `GET /jobs/{id}` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Attempt {
    /// Which try, from 1.
    pub attempt: u32,
    /// Its fence.
    pub epoch: Epoch,
    /// Where it ran.
    pub node_id: NodeId,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// How it ended.
    pub end: Option<AttemptEnd>,
    /// Why it failed.
    pub failure_reason: Option<FailureReason>,
    /// When it was given to the node.
    #[schemars(with = "String")]
    pub granted_at: Timestamp,
    /// When its process started.
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When it was over.
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// What the node said of its end.
    pub result: Option<AttemptResult>,
}

/// Where an attempt's output goes until it is accepted: behind the final name, so that two attempts never write to
/// one file.
pub fn output_suffix(key: &AttemptKey) -> String {
    format!(".{}.part", key.epoch)
}
