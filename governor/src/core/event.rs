//! The whole surface of the core on one page: what can happen, and what can be done about it.
//!
//! Events are past tense, effects imperative. Every effect that can fail or takes time is answered by an event, never
//! by re-entry. All times are the boot-time clock in nanoseconds, the clock the kernel programs stamp with.

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{LimitBreach, LimitOutcome, Limits};

use super::facts::ProcessFacts;
use super::origin::Origin;
use super::pressure::{ClassOutcome, PressureRule};
use super::rule::{PlacementMode, RuleSet};
use super::unit::Unit;
use crate::control::types::{Happened, JobView};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The kernel admitted a process at its exec, or a pass over the machine found it alive. Admission is not
    /// judgement: the rules decide now, and a process they do not want is forgotten.
    Appeared(ProcessFacts),
    /// A process that belongs to a job executed a program (its own further exec, or a child's).
    Reexeced {
        /// The job.
        root: ProcessKey,
        /// What is known of the process now.
        facts: ProcessFacts,
    },
    /// The group was made, limits written and read back, and the process moved.
    Placed {
        /// The job.
        key: ProcessKey,
        /// What came of it.
        placement: Placement,
    },
    /// Some step of the placement failed as a whole; the process runs on where it was.
    PlaceFailed {
        /// The job.
        key: ProcessKey,
        /// Why, with what was tried.
        why: String,
        /// What did take effect (nice, for instance) and every warning.
        placement: Placement,
    },
    /// The job's first process ended.
    Exited {
        /// The job.
        key: ProcessKey,
        /// How.
        exit: ExitFacts,
        /// Processes of the job still alive.
        live: u32,
    },
    /// The job's last process ended (after, or together with, `Exited`).
    Drained {
        /// The job.
        key: ProcessKey,
        /// Final sums.
        usage: KernelUsage,
        /// When.
        at_ns: u64,
    },
    /// The job's group was read for the last time and removed, or there was none.
    Retired {
        /// The job.
        key: ProcessKey,
        /// What the group knew.
        group: GroupUsage,
        /// What went wrong, if anything.
        warnings: Vec<String>,
    },
    /// Somebody else moved a process of the job.
    Moved {
        /// The job.
        root: ProcessKey,
        /// What was seen.
        moved: ForeignMove,
    },
    /// The host looked where a process sits that somebody else moved.
    Rechecked {
        /// The job.
        key: ProcessKey,
        /// The move that made us look.
        moved: ForeignMove,
        /// What it found.
        found: Whereabouts,
    },
    /// The kernel announced that the job ran into one of its limits.
    LimitReached {
        /// The job.
        key: ProcessKey,
        /// Which limit, and how often so far.
        breach: LimitBreach,
    },
    /// A placement was undone.
    Released {
        /// The job.
        key: ProcessKey,
        /// What was undone.
        undone: Vec<String>,
        /// What was not.
        warnings: Vec<String>,
    },
    /// The ledger has the closed record on disk.
    Saved {
        /// The job.
        key: ProcessKey,
    },
    /// A deadline passed; which one is found by looking at the time.
    DeadlinePassed,
    /// The file's rules were replaced.
    RulesReplaced(RuleSet),
    /// A `watch` brought rules of its own; they stand after the file's.
    SessionOpened {
        /// Number of the session.
        session: u64,
        /// Its rules.
        rules: RuleSet,
    },
    /// That `watch` ended.
    SessionClosed {
        /// Number of the session.
        session: u64,
    },
    /// Other pressure rules hold from now on.
    PolicyReplaced(Vec<PressureRule>),
    /// The kernel says that the stall of a pressure rule was reached.
    PressureRose {
        /// Name of the rule.
        rule: String,
    },
    /// The limits of a class were written, or given back.
    ClassLimited {
        /// The class.
        class: String,
        /// What came of it.
        outcome: ClassOutcome,
    },
}

/// Something to be done by the host, which answers the orders for one job in the order they were given.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Drop the kernel's record of a process nobody wants; answered by nothing.
    Forget {
        /// The process.
        key: ProcessKey,
    },
    /// Make the group, write limits, move the process and its descendants. Answered by `Placed` or `PlaceFailed`. For
    /// a job that is placed already: the limits are written anew.
    Place(Box<PlaceOrder>),
    /// Read the group once more and remove it. Answered by `Retired`.
    Retire {
        /// The job.
        key: ProcessKey,
    },
    /// Look where a process sits that somebody else moved, and bring the job back into its group if told to. Answered by
    /// `Rechecked`.
    Recheck {
        /// The job.
        key: ProcessKey,
        /// The move.
        moved: ForeignMove,
        /// Whether it is undone.
        restore: bool,
    },
    /// Put everything back as it was. Answered by `Released`.
    Release {
        /// The job.
        key: ProcessKey,
    },
    /// Send a signal to the first process, or to every process of the job's group. Only for kills somebody asked for.
    Signal {
        /// The job.
        key: ProcessKey,
        /// Signal number.
        signal: i32,
        /// Whom.
        whom: Whom,
    },
    /// Store the record; `closed` ones are answered by `Saved`. A job is first stored when its placement was answered,
    /// because only then the record says which groups a later governor must clean up.
    Save {
        /// The record.
        job: Box<JobView>,
        /// Whether it is final.
        closed: bool,
    },
    /// The closed record is on disk: drop it from the kernel map. Answered by nothing.
    DropRecord {
        /// The job.
        key: ProcessKey,
    },
    /// Tell subscribers and waiters.
    Publish {
        /// What.
        what: Happened,
        /// The job as it is now.
        job: Box<JobView>,
    },
    /// Write the pre-filter anew from the core's rules and look for live processes they match.
    SyncFilter,
    /// Have the kernel tell of these stalls instead of those before; each is told of as `PressureRose`.
    WatchPressure {
        /// All rules.
        rules: Vec<PressureRule>,
    },
    /// Write the limits of a class as a whole; none gives back what was written before. Answered by `ClassLimited`.
    LimitClass {
        /// The class.
        class: String,
        /// CPU quota and weights.
        limits: Limits,
    },
    /// Wake the core with `DeadlinePassed` at this time; replaces the earlier order.
    WakeAt {
        /// Boot-time clock, ns.
        at_ns: u64,
    },
}

/// Whom a [`Effect::Signal`] reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The first process.
    First,
    /// Every process of the job.
    Everyone,
}

/// What to place, where, under which limits.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaceOrder {
    /// The job.
    pub key: ProcessKey,
    /// Directory below our tree.
    pub class: String,
    /// Directory below the class; made unique by the host when taken.
    pub name: String,
    /// True when any group of the class that is under these limits will do, whatever its name: it waits for nobody.
    pub spare: bool,
    /// Limits.
    pub limits: Limits,
    /// `Place`, `Scope` or `InPlace`; `Observe` orders nothing.
    pub mode: PlacementMode,
    /// The systemd service it was found in: what a scope is part of.
    pub unit: Option<Unit>,
    /// With `InPlace`: a group of its own inside that service, where the service is delegated.
    pub inside_unit: bool,
}

/// A move of one of our processes by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignMove {
    /// The process.
    pub process: ProcessKey,
    /// Hierarchy number, 0 for v2.
    pub hierarchy: u32,
    /// Pid of whoever moved it.
    pub mover: u32,
    /// When, boot-time clock, ns.
    pub at_ns: u64,
}

/// Where a process of a job sits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The job's groups it is neither in nor below.
    pub outside: Vec<String>,
    /// How many processes were brought back.
    pub restored: usize,
    /// Why the process could not be brought back, where that was tried.
    pub failed: Option<String>,
}

/// What a placement did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// The job's groups, one absolute path for each hierarchy.
    pub groups: Vec<String>,
    /// Limits in force, read back.
    pub applied: Vec<LimitOutcome>,
    /// Limits not in force, with the reason.
    pub warnings: Vec<String>,
    /// When the last move was done, boot-time clock, ns; 0 when nothing was moved.
    pub at_ns: u64,
    /// What the first process was before anything was changed; `None` when that could not be noted.
    pub origin: Option<Box<Origin>>,
}

/// How a first process ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExitFacts {
    /// When, boot-time clock, ns.
    pub at_ns: u64,
    /// Wait status as `waitpid` gives it; `None` when nobody saw it.
    pub status: Option<i32>,
    /// Why `status` is `None`.
    pub unobserved: Option<String>,
    /// The out-of-memory killer chose it.
    pub oom: bool,
    /// Last fatal signal aimed at it.
    pub killer: Option<Killer>,
    /// Sums so far.
    pub usage: KernelUsage,
}

/// Who aimed a fatal signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killer {
    /// Signal number.
    pub signal: u32,
    /// Sender's pid.
    pub pid: u32,
    /// Sender's user.
    pub uid: u32,
    /// Sender's name.
    pub comm: String,
    /// The kernel itself sent it.
    pub kernel: bool,
}

/// Sums of a job's ended threads. `None` where the tier does not see them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelUsage {
    /// Run time, ns.
    pub run_ns: Option<u64>,
    /// User time, ns; only its ratio to `stime_ns` is meant.
    pub utime_ns: Option<u64>,
    /// System time, ns.
    pub stime_ns: Option<u64>,
    /// Bytes from block devices.
    pub read_bytes: Option<u64>,
    /// Bytes to block devices, cancelled ones taken off.
    pub write_bytes: Option<u64>,
    /// Voluntary switches.
    pub nvcsw: Option<u64>,
    /// Involuntary switches.
    pub nivcsw: Option<u64>,
    /// Processes the job has had.
    pub processes: Option<u32>,
}

/// What a job's group knew at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Largest memory, bytes.
    pub memory_peak: Option<u64>,
    /// Time held back by the quota, ns.
    pub throttled_ns: Option<u64>,
    /// Out-of-memory kills inside the group.
    pub oom_kills: Option<u64>,
    /// How often its memory limit was reached.
    pub memory_max_hits: Option<u64>,
    /// How many forks its limit of tasks refused.
    pub pids_max_hits: Option<u64>,
    /// Periods of its CPU quota: those in which it was used up, and all in which the group ran.
    pub cpu_periods: Option<(u64, u64)>,
    /// CPU time of its processes since they are in it, ns. Only for tiers that see no better.
    pub cpu_ns: Option<u64>,
    /// Why something above is absent.
    pub absent: Vec<String>,
}
