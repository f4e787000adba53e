//! Why a job waits and when it may start; figures of the whole queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{JobState, JobUuid, NodeId, Priority, Queue};

/// Answer to "why does this job not run".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Explanation {
    /// The job.
    pub job_id: JobUuid,
    /// Its number.
    pub sequence_number: i64,
    /// Where it stands.
    pub status: JobState,
    /// Every reason, the one that matters most first. Empty for a job that does not wait.
    pub reasons: Vec<WaitReason>,
    /// Jobs that would be given out before it, were every node able to run every job.
    pub ahead: Option<u64>,
    /// Nodes that could run it, and what keeps each from doing so.
    pub nodes: Vec<NodeVerdict>,
    /// Seconds until it starts, where history allows a guess.
    pub start_estimate_sec: Option<u64>,
    /// How the estimate was made, or why there is none.
    pub estimate_basis: String,
}

/// One reason to wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum WaitReason {
    /// No node ever registered could run it.
    NoCapableNode {
        /// What is asked for that no node has, each in a few words.
        missing: Vec<String>,
    },
    /// Nodes that could are offline, draining or cordoned.
    CapableNodesUnavailable,
    /// Nodes that could have no free slot.
    CapableNodesBusy,
    /// It failed on the only nodes that could, which are not given its kind for a while.
    Blocklisted,
    /// Somebody holds it.
    Held,
    /// Its next try is not due yet.
    Backoff {
        /// Seconds to go.
        for_sec: u64,
    },
    /// Its tenant runs as many jobs as it may.
    TenantCap {
        /// The cap.
        cap: u32,
    },
    /// Others are served first.
    Behind {
        /// How many.
        jobs: u64,
    },
    /// A node could take it; it goes out with that node's next call.
    WaitingForClaim,
}

/// What one node thinks of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeVerdict {
    /// The node.
    pub node_id: NodeId,
    /// Empty when it could take the job now; else why not, each in a few words.
    pub obstacles: Vec<String>,
}

/// Figures of the whole scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stats {
    /// Jobs in each state.
    pub jobs_by_state: BTreeMap<JobState, u64>,
    /// Waiting jobs of each queue and priority.
    pub waiting: Vec<BandDepth>,
    /// Waiting jobs that are held.
    pub held: u64,
    /// Attempts that occupy a slot.
    pub live_attempts: u64,
    /// Nodes in each status, by its word.
    pub nodes_by_status: BTreeMap<String, u64>,
    /// Slots of all nodes that are heard of.
    pub slots: u64,
    /// Of these, taken.
    pub slots_used: u64,
    /// Claims that wait for work.
    pub waiting_claims: u64,
    /// Totals since the scheduler started, by name: `submitted`, `granted`, `completed`, `failed`, `retried`,
    /// `canceled`, `stale_writes`, `nodes_lost`, `sla_compliant`, `sla_violated`.
    pub totals: BTreeMap<String, u64>,
}

/// Waiting jobs of one queue and priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BandDepth {
    /// The queue.
    pub queue: Queue,
    /// The priority.
    pub priority: Priority,
    /// How many wait.
    pub jobs: u64,
}

/// How many jobs a tenant may have running at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Jobs at once; `None` for no cap.
    pub max_running: Option<u32>,
    /// Jobs it has running.
    pub running: u32,
}
