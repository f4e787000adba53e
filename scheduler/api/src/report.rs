//! The record of one job, as `--json`, the ledger and the API show it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ExitReason, Intent, JobId, Limits, Sender, Usage};

/// Everything known of one job. The field names are a contract with scripts; see `docs/generated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// Label of the job.
    pub job_id: JobId,
    /// First process of the job.
    pub pid: u32,
    /// How it came to us: `run`, `attach` or `watch`.
    pub mode: String,
    /// What it is for.
    pub intent: Intent,
    /// Whether it counts towards the SLA.
    pub sla_eligible: bool,
    /// Program and arguments, secrets replaced. `None` when they were lost.
    pub command: Option<Vec<String>>,
    /// When the program started (its exec, or the process's start for an attached one).
    #[schemars(with = "String")]
    pub start_time: Timestamp,
    /// When it ended; `None` while it lives.
    #[schemars(with = "Option<String>")]
    pub end_time: Option<Timestamp>,
    /// Seconds between the two.
    pub duration_sec: Option<f64>,
    /// Status as a shell shows it: the code, or 128 + signal. `None` when it was not seen.
    pub exit_code: Option<i32>,
    /// One word: success, error, signal, oom, timeout, canceled, quota, lost, unobserved. `None` while it lives.
    pub exit_reason: Option<String>,
    /// The reason with its particulars.
    pub exit: Option<ExitReason>,
    /// Signal number, where a signal ended it.
    pub signal: Option<u8>,
    /// Who sent that signal.
    pub killed_by: Option<Sender>,
    /// Whether the platform did its part; `None` for a job that has not ended, or whose end nobody can judge. Only
    /// production and soak jobs with `sla_eligible` belong into a rate.
    pub platform_sla_compliant: Option<bool>,
    /// One word why.
    pub platform_sla_reason: Option<String>,
    /// Limits asked for and what became of them.
    pub limits: LimitsReport,
    /// What it used.
    pub usage: Usage,
    /// Joules; `None` until a source of energy figures is configured and present.
    pub energy: Option<Energy>,
    /// Where the facts came from: `kernel`, `connector`, `scan`, or `wait` (a parent's own wait).
    pub tier: String,
    /// Where the job was put.
    pub placement: PlacementReport,
    /// Rule that matched, where one did.
    pub rule: Option<String>,
    /// Class of the rule or request.
    pub class: String,
}

/// Limits asked for, in force, and refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LimitsReport {
    /// As asked.
    pub asked: Limits,
    /// Each one that is in force, read back from the kernel.
    pub applied: Vec<LimitOutcome>,
    /// Each one that is not, and everything else worth a warning.
    pub warnings: Vec<String>,
    /// Each one that the job ran into, in the order in which that was told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breached: Vec<LimitBreach>,
}

/// A limit that a job ran into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LimitBreach {
    /// Which limit, named as in [`Limits`]: `memory_max`, `pids_max` or `cpu_max`.
    pub limit: String,
    /// How often, as far as it is known by now: allocations held back at the limit, forks refused, periods in which the
    /// CPU quota was used up.
    pub times: u64,
    /// Processes that the kernel killed for it; memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed: Option<u64>,
}

/// One limit after it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LimitOutcome {
    /// Which limit, named as in [`Limits`].
    pub limit: String,
    /// Where it was written, for instance a file below the cgroup root, or `setpriority`.
    pub target: String,
    /// What the kernel says it is now.
    pub value: String,
}

/// Where a job was put.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlacementReport {
    /// `place`, `scope`, `in-place`, `observe` or `none`.
    pub mode: String,
    /// The job's groups, one path for each hierarchy.
    pub groups: Vec<String>,
    /// Microseconds from the exec (or the request) to the last move.
    pub placed_in_us: Option<u64>,
    /// Why it was not placed, where it was not.
    pub not_placed: Option<String>,
}

/// Energy of one job, in joules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Energy {
    /// Which counter the figures come from, for instance `perf/power`.
    pub source: String,
    /// The job's share of what was drawn above idle.
    pub dynamic_j: f64,
    /// The job's share of what the idle machine would have drawn.
    pub static_j: f64,
}
