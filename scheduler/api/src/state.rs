//! Words for where a job, an attempt and a node stand, and why a job failed.

use serde::{Deserialize, Serialize};

use crate::queue::words;

/// Where a job stands. Which state may follow which is the scheduler's table (`docs/generated/scheduler-lifecycle.md`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a node.
    #[serde(alias = "pending")]
    Queued,
    /// A node was given it and has not said that it runs.
    Assigned,
    /// Its process runs.
    #[serde(alias = "processing")]
    Running,
    /// Made no progress for too long; its process is being ended.
    TimedOut,
    /// Failed through no fault of its own; waits for its next try.
    Retrying,
    /// Its result was accepted.
    Completed,
    /// It will not be tried again.
    Failed,
    /// Somebody cancelled it.
    #[serde(alias = "cancelled")]
    Canceled,
    /// No node that ever registered could run it, and its queue does not let it wait.
    Rejected,
}

words!(JobState, "state", {
    Queued => "queued", Assigned => "assigned", Running => "running", TimedOut => "timed_out",
    Retrying => "retrying", Completed => "completed", Failed => "failed", Canceled => "canceled",
    Rejected => "rejected",
});

impl JobState {
    /// True when nothing but an explicit retry changes the job any more.
    pub fn terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::Rejected
        )
    }
}

/// Why a job or one of its attempts failed. The first eight are the predecessor's words.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The node found that it cannot do this kind of work.
    CapabilityMismatch,
    /// The program itself failed.
    RuntimeError,
    /// The job's own time limit passed.
    Timeout,
    /// What was asked for makes no sense.
    UserError,
    /// The network between the platform's parts, or to a source or sink, failed.
    NetworkError,
    /// The input is missing or damaged.
    InputError,
    /// A fault of the node or of ours.
    PlatformError,
    /// The node ran out of disk, memory or encoder sessions.
    ResourceError,
    /// No progress for longer than the queue allows.
    Stalled,
    /// The node was not heard of for a whole lease.
    NodeLost,
}

words!(FailureReason, "failure reason", {
    CapabilityMismatch => "capability_mismatch", RuntimeError => "runtime_error", Timeout => "timeout",
    UserError => "user_error", NetworkError => "network_error", InputError => "input_error",
    PlatformError => "platform_error", ResourceError => "resource_error", Stalled => "stalled",
    NodeLost => "node_lost",
});

/// Where one attempt stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AttemptPhase {
    /// Given to the node.
    Granted,
    /// The node said that its process runs.
    Running,
    /// The node is told to end it; its slot is still taken.
    Stopping,
    /// Over.
    Ended,
}

words!(AttemptPhase, "phase", {
    Granted => "granted", Running => "running", Stopping => "stopping", Ended => "ended",
});

/// How one attempt ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// Its result is the job's.
    Accepted,
    /// It failed.
    Failed,
    /// Its job was cancelled.
    Canceled,
    /// It made no progress, or its own time limit passed.
    TimedOut,
    /// Its node was lost.
    Lost,
    /// The node never had it, or gave it back untouched.
    Returned,
}

words!(AttemptEnd, "attempt end", {
    Accepted => "accepted", Failed => "failed", Canceled => "canceled", TimedOut => "timed_out", Lost => "lost",
    Returned => "returned",
});

/// Where a node stands. The first three are the predecessor's words.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// Heard of, with a free slot.
    Available,
    /// Heard of, every slot taken.
    Busy,
    /// Not heard of for a whole lease.
    Offline,
    /// Not heard of for half a lease: no new work.
    Suspect,
    /// Gets no new work; finishes what it has.
    Draining,
    /// Gets no new work until resumed.
    Cordoned,
}

words!(NodeStatus, "node status", {
    Available => "available", Busy => "busy", Offline => "offline", Suspect => "suspect",
    Draining => "draining", Cordoned => "cordoned",
});
