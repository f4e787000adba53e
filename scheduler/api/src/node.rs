//! A node: what it says of itself, and what the scheduler shows of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Engine, FieldError, JobUuid, NodeId, NodeLoad, NodeStatus};

/// `POST /nodes/register`: what a node is and can. A node that registers again replaces all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct NodeInfo {
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it can be reached.
    pub address: String,
    /// `server`, `desktop` or `laptop`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Threads of its CPUs.
    pub cpu_threads: u32,
    /// Model of its CPU.
    pub cpu_model: String,
    /// Whether it has a GPU.
    pub has_gpu: bool,
    /// Model of its GPU.
    pub gpu_type: String,
    /// Hardware families and encoders of its GPU, the predecessor's list.
    pub gpu_capabilities: Vec<String>,
    /// Memory in bytes.
    pub ram_total_bytes: u64,
    /// Labels that submissions may ask for.
    pub labels: BTreeMap<String, String>,
    /// Jobs it runs at once.
    #[serde(alias = "max_concurrent_jobs", skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Programs it has; `None` when it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engines: Option<Vec<Engine>>,
    /// Encoders that it tried and that work; `None` when it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoders: Option<Vec<String>>,
    /// Version of the governor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl NodeInfo {
    /// Slots of a node that does not say: one, the predecessor's default.
    pub fn slots(&self) -> u32 {
        self.slots.unwrap_or(1)
    }

    /// Checks sizes and numbers.
    pub fn validate(&self) -> Result<(), Vec<FieldError>> {
        let mut errors = Vec::new();
        let texts = [
            ("name", self.name.as_deref().unwrap_or_default()),
            ("address", &self.address),
            ("type", &self.kind),
            ("cpu_model", &self.cpu_model),
            ("gpu_type", &self.gpu_type),
        ];
        for (field, text) in texts {
            if text.len() > 256 || text.chars().any(char::is_control) {
                errors.push(FieldError::new(
                    field,
                    "is longer than 256 bytes or holds a control character",
                ));
            }
        }
        if !(1..=4096).contains(&self.slots()) {
            errors.push(FieldError::new("slots", "write 1 to 4096"));
        }
        if self.labels.len() > 64 {
            errors.push(FieldError::new("labels", "has more than 64 entries"));
        }
        let listed = self.encoders.as_ref().map_or(0, Vec::len) + self.gpu_capabilities.len();
        if listed > 512 {
            errors.push(FieldError::new("encoders", "has more than 512 entries"));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// A node as `GET /nodes` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Node {
    /// Its name in paths; from its certificate or key.
    pub id: NodeId,
    /// What it said of itself.
    #[serde(flatten)]
    pub info: NodeInfo,
    /// Where it stands.
    pub status: NodeStatus,
    /// Its last load figures.
    #[serde(flatten)]
    pub load: NodeLoad,
    /// When it was last heard of; `None` since the scheduler started.
    #[schemars(with = "Option<String>")]
    pub last_heartbeat: Option<Timestamp>,
    /// When it first registered.
    #[schemars(with = "String")]
    pub registered_at: Timestamp,
    /// Slots taken.
    pub slots_used: u32,
    /// Jobs it has.
    pub job_ids: Vec<JobUuid>,
    /// The first of them, for the predecessor's clients.
    pub current_job_id: Option<JobUuid>,
    /// Kinds of work it is not given for a while, and for how many seconds more.
    pub blocked: Vec<BlockedClass>,
}

/// A kind of work a node is not given for a while, because it failed there again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BlockedClass {
    /// The kind, as text.
    pub class: String,
    /// Failures of the platform in a row.
    pub strikes: u32,
    /// Seconds left.
    pub for_sec: u64,
}

/// What an operator wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeIntent {
    /// Work as usual.
    Active,
    /// No new work until resumed.
    Cordoned,
    /// No new work; it is about to leave.
    Draining,
}
