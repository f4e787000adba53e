//! What user space tells the programs, and what they count.

/// Switches the programs read; written by the governor, one element of an array map.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelConfig {
    /// Pid of the governor; moves by it are not told.
    pub owner: u32,
    /// 1: every exec is admitted (a rule without a name exists).
    pub wide: u32,
    /// 1: execs are looked at at all. Off in engines that only follow what they attached.
    pub discover: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// Per-CPU counters, by index.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Execs of names that the filter knows, and further ones of first processes.
    Seen = 0,
    /// Records admitted by an exec.
    Admitted = 1,
    /// Execs refused because RECORDS or MEMBERS was full.
    Refused = 2,
    /// Ring entries dropped because the ring was full.
    Dropped = 3,
    /// Children of a job that found no place in MEMBERS.
    ChildLost = 4,
    /// First processes whose exit was recorded.
    Exited = 5,
    /// Execs by a process that was a member already.
    Reexec = 6,
    /// Jobs whose last process ended.
    Drained = 7,
}

/// How many counters there are.
pub const COUNTERS: u32 = 8;
