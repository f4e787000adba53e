//! How a job ended and what it used.

use serde::{Deserialize, Serialize};

/// The true reason of a process's end. A closed list: when the cause was not seen, that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExitReason {
    /// Exit status 0.
    Success,
    /// Exit status other than 0.
    Error {
        /// The status, 1 to 255.
        code: u8,
    },
    /// Ended by a signal.
    Signal {
        /// Signal number.
        signal: u8,
        /// Who sent it, where that was seen.
        #[serde(default, deserialize_with = "crate::optional_object")]
        sender: Option<Sender>,
    },
    /// Ended by the kernel's out-of-memory killer.
    Oom {
        /// Whose memory ran out.
        scope: OomScope,
    },
    /// Ended because its own time limit passed.
    Timeout,
    /// Ended because somebody cancelled it.
    Canceled,
    /// Ended because a quota of the node was used up.
    Quota {
        /// Which one: `cpu` or `disk`.
        which: String,
    },
    /// The node disappeared.
    Lost {
        /// Its name.
        node: String,
    },
    /// The end was not seen.
    Unobserved {
        /// Why not.
        why: String,
    },
}

/// Whose memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OomScope {
    /// The job's own group reached its limit.
    Memcg,
    /// The whole machine's.
    Global,
    /// The kernel said "out of memory" but not whose.
    Unknown,
}

/// Who sent a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Sender {
    /// The kernel itself.
    Kernel,
    /// The process sent it to itself.
    Itself,
    /// Another process.
    Process {
        /// Its pid at that moment.
        pid: u32,
        /// Its user.
        uid: u32,
        /// Its name as the kernel had it (at most 15 characters), made harmless for terminals.
        comm: String,
    },
}

impl ExitReason {
    /// The word that reports and metrics use for this reason.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error { .. } => "error",
            Self::Signal { .. } => "signal",
            Self::Oom { .. } => "oom",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Quota { .. } => "quota",
            Self::Lost { .. } => "lost",
            Self::Unobserved { .. } => "unobserved",
        }
    }

    /// Who ended the process, where somebody did.
    pub fn sender(&self) -> Option<&Sender> {
        match self {
            Self::Signal { sender, .. } => sender.as_ref(),
            Self::Oom { .. } => Some(&Sender::Kernel),
            Self::Success
            | Self::Error { .. }
            | Self::Timeout
            | Self::Canceled
            | Self::Quota { .. }
            | Self::Lost { .. }
            | Self::Unobserved { .. } => None,
        }
    }
}

impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel"),
            Self::Itself => f.write_str("itself"),
            Self::Process { pid, uid, comm } => write!(f, "{comm}[{pid}] uid {uid}"),
        }
    }
}

/// Whether the platform did its part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SlaVerdict {
    /// True when the platform is not to blame for how the job ended.
    pub compliant: bool,
    /// One word why, for instance `completed_successfully`.
    pub reason: String,
}

/// What a job used over its life, all its processes together. `None` means "not measured".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Usage {
    /// CPU seconds.
    pub cpu_sec: Option<f64>,
    /// Of these, in user mode.
    pub user_sec: Option<f64>,
    /// Of these, in the kernel.
    pub system_sec: Option<f64>,
    /// Bytes fetched from block devices.
    pub read_bytes: Option<u64>,
    /// Bytes sent towards block devices.
    pub write_bytes: Option<u64>,
    /// Bytes received over the network.
    pub net_rx_bytes: Option<u64>,
    /// Bytes sent over the network.
    pub net_tx_bytes: Option<u64>,
    /// Largest memory of the job's group, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// How many processes the job had, the first included.
    pub processes: Option<u32>,
    /// Times a task gave the CPU away.
    pub voluntary_switches: Option<u64>,
    /// Times a task was taken off the CPU.
    pub involuntary_switches: Option<u64>,
    /// Seconds the group's tasks were held back by its CPU quota.
    pub throttled_sec: Option<f64>,
    /// Why fields are absent, one sentence a cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
}
