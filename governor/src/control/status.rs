//! What the governor tells of itself; `ffrtmp doctor` shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ffrtmp_api::LimitOutcome;
use serde::{Deserialize, Serialize};

/// State of the governor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its pid.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// `kernel`, `connector` or `scan`.
    pub tier: String,
    /// Why it is not a better one.
    pub tier_reason: Option<String>,
    /// Names the kernel's pre-filter lets through.
    pub names: Vec<String>,
    /// True when every exec is looked at.
    pub wide: bool,
    /// Number of rules in force, session rules included.
    pub rules: usize,
    /// Live jobs.
    pub jobs: usize,
    /// Where limits are written, a line each hierarchy.
    pub hierarchies: Vec<String>,
    /// Features that are off, with the reason.
    pub off: Vec<String>,
    /// Counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// What the node's own policy does.
    #[serde(default)]
    pub policy: PolicyStatus,
    /// What came of fast placement; `None` when it is switched off, or not known yet.
    #[serde(default)]
    pub fast_placement: Option<PolicyLine>,
    /// File that closed jobs are stored in; `None` when nothing stores them.
    #[serde(default)]
    pub ledger: Option<PathBuf>,
    /// The exec gate; `None` when no rule wants it.
    #[serde(default)]
    pub gate: Option<GateStatus>,
}

/// The exec gate at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStatus {
    /// Its pid while it runs.
    pub pid: Option<u32>,
    /// Why there will be no other until the rules are read again.
    pub off: Option<String>,
    /// Files whose execs are held, and those that should be.
    pub marked: Vec<PolicyLine>,
    /// Groups that it has ready.
    pub ready: usize,
    /// How often it was started again.
    pub restarts: u64,
    /// Protections it does not have, with the reason.
    pub lacks: Vec<String>,
    /// What can hold an exec for longer all the same.
    pub risks: Vec<String>,
    /// What became of execs, by name.
    pub counters: BTreeMap<String, u64>,
    /// How long it held the last execs that it moved; `None` before the second.
    #[serde(default)]
    pub moves: Option<GateMoves>,
}

/// The gate's own work on an exec that it moved, from the read of its event to the answer, without the wake-ups around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateMoves {
    /// Of how many moves, the last ones.
    pub last: usize,
    /// Half of them took at most so long, microseconds.
    pub p50_us: u64,
    /// 99 of 100 did.
    pub p99_us: u64,
}

/// The node's own policy at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// What is kept for the rest of the host.
    pub reserve: Vec<PolicyLine>,
    /// The pressure rules.
    pub pressure: Vec<PressureStatus>,
    /// What is promised beyond the machine, a sentence each.
    pub overcommit: Vec<String>,
}

/// One thing the policy wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLine {
    /// Whether the kernel shows it as asked.
    pub in_force: bool,
    /// What, where, or why not.
    pub text: String,
}

/// One pressure rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressureStatus {
    /// Its name.
    pub rule: String,
    /// What it watches.
    pub watches: String,
    /// The class it lowers.
    pub lowers: String,
    /// Whether that class is lowered now.
    pub lowered: bool,
    /// When it is lifted unless the pressure rises again, ms from now.
    pub restore_in_ms: Option<u64>,
    /// How often the pressure rose.
    pub rises: u64,
    /// Limits of the class in force, read back.
    pub applied: Vec<LimitOutcome>,
    /// Limits of the class not in force, with the reason.
    pub warnings: Vec<String>,
    /// How the kernel tells of the stall; `None` until that was tried.
    pub trigger: Option<PolicyLine>,
}
