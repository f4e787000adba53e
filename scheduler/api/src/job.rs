//! A job as the scheduler shows it: the predecessor's names, filled in truthfully.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Attempt, Classification, Cursor, Engine, Epoch, FailureReason, FieldError, JobState, JobUuid, Limits,
    NodeId, Priority, Progress, Queue, ResourceLimits, WrapperConstraints,
};

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Job {
    /// Its name.
    pub id: JobUuid,
    /// Its number.
    pub sequence_number: i64,
    /// Tenant it belongs to.
    pub tenant_id: Option<String>,
    /// As submitted.
    pub user_id: Option<String>,
    /// As submitted.
    pub scenario: String,
    /// As submitted.
    pub confidence: String,
    /// As submitted.
    pub engine: Engine,
    /// As submitted.
    pub encoder: Option<String>,
    /// As submitted.
    pub classification: Classification,
    /// Whether it counts towards the SLA.
    pub sla_eligible: bool,
    /// As submitted.
    pub wrapper_enabled: Option<bool>,
    /// As submitted.
    pub wrapper_constraints: WrapperConstraints,
    /// As submitted.
    pub resource_limits: ResourceLimits,
    /// Limits it runs under.
    pub limits: Limits,
    /// As submitted.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Where it stands.
    pub status: JobState,
    /// Not given out until resumed.
    pub held: bool,
    /// Its process is, or is to be, frozen.
    pub paused: bool,
    /// Which line it stands in.
    pub queue: Queue,
    /// Order inside the line.
    pub priority: Priority,
    /// 0 to 100; `None` when it is not known.
    pub progress: Option<f32>,
    /// How far the present attempt is.
    pub progress_detail: Option<Progress>,
    /// Node of the last attempt.
    pub node_id: Option<NodeId>,
    /// Name of that node.
    pub node_name: Option<String>,
    /// Fence of the present attempt.
    pub epoch: Option<Epoch>,
    /// Attempts so far.
    pub attempt: u32,
    /// When it was submitted.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When the last attempt's process started.
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When its state or its progress last changed.
    #[schemars(with = "String")]
    pub last_activity_at: Timestamp,
    /// When it reached its final state.
    #[schemars(with = "Option<String>")]
    pub completed_at: Option<Timestamp>,
    /// When its next try is due, while it is `retrying`.
    #[schemars(with = "Option<String>")]
    pub retry_at: Option<Timestamp>,
    /// Tries used up by faults of the platform.
    pub retry_count: u32,
    /// How many there may be.
    pub max_retries: u32,
    /// Nodes it was lost with; these do not count as tries.
    pub node_losses: u32,
    /// Why it was last tried again.
    pub retry_reason: Option<String>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// What went wrong, for programs.
    pub failure_reason: Option<FailureReason>,
    /// Whether the platform did its part; `None` before the end.
    pub platform_sla_compliant: Option<bool>,
    /// One word why.
    pub platform_sla_reason: Option<String>,
    /// Its history; only where one job is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_transitions: Option<Vec<StateTransition>>,
    /// Its attempts; only where one job is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt>>,
}

/// One step of a job's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StateTransition {
    /// State before; `None` for the submission.
    pub from: Option<JobState>,
    /// State after.
    pub to: JobState,
    /// When.
    #[schemars(with = "String")]
    pub timestamp: Timestamp,
    /// Why, in a few words.
    pub reason: String,
}

/// One event of the stream: a transition of some job. Numbers grow; a client that reconnects gives the last it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobEvent {
    /// Number of the event over all jobs.
    pub id: i64,
    /// Number of the event within its job, from 1, without gaps.
    pub n: u32,
    /// The job.
    pub job_id: JobUuid,
    /// Number of the job.
    pub sequence_number: i64,
    /// Node of the attempt, where there is one.
    pub node_id: Option<NodeId>,
    /// Attempt of the job, where there is one.
    pub attempt: Option<u32>,
    /// The step.
    #[serde(flatten)]
    pub step: StateTransition,
}

/// `GET /jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobList {
    /// The page, newest first.
    pub jobs: Vec<Job>,
    /// Jobs on this page.
    pub count: usize,
    /// Where the next page begins; `None` on the last.
    pub next_cursor: Option<Cursor>,
}

/// What became of one item of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum ItemOutcome {
    /// A new job.
    Created {
        /// Its name.
        id: JobUuid,
        /// Its number.
        sequence_number: i64,
    },
    /// The job that the same key made before.
    Existing {
        /// Its name.
        id: JobUuid,
        /// Its number.
        sequence_number: i64,
    },
    /// Refused; the others of the batch are not.
    Refused {
        /// Why.
        errors: Vec<FieldError>,
    },
    /// The key was used before with another body.
    KeyReused {
        /// The job it made.
        id: JobUuid,
    },
}

/// Answer to a batch, in the order of its items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BatchResponse {
    /// One an item.
    pub items: Vec<ItemOutcome>,
    /// How many were created.
    pub created: usize,
}

/// `PATCH /jobs/{id}`: what may change while a job waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobEdit {
    /// New priority.
    pub priority: Option<Priority>,
    /// New queue.
    pub queue: Option<Queue>,
    /// New number of tries.
    pub max_retries: Option<u32>,
}
