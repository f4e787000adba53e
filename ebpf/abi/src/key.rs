//! The identity of a process.

/// A process: pid and start time together, because a pid alone is reused.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Always 0; makes the padding explicit.
    pub pad: u32,
    /// `start_boottime` of the group leader, in nanoseconds since boot. /proc shows the same in ticks.
    pub start: u64,
}

impl ProcessKey {
    /// A key with its padding zeroed.
    pub const fn new(pid: u32, start: u64) -> Self {
        Self { pid, pad: 0, start }
    }
}

const _: () = assert!(size_of::<ProcessKey>() == 16);

/// Slots of the counts that are asked before `MEMBERS`. Eight bytes each: neighbours share a cache line, as pids do that
/// begin one after the other.
pub const NEAR_SLOTS: u32 = 16_384;

/// Slot of a pid.
pub const fn near_slot(pid: u32) -> u32 {
    pid % NEAR_SLOTS
}
