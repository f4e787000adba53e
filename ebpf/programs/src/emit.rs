//! Ring entries of fixed size, and the count of those that found no room.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use ffrtmp_abi::{Counter, ExitEvent, Header, Kind, MoveEvent, ProcessKey};

use crate::maps::{RING, count};

/// Boot-time clock, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Tells of the end of a first process, or of a job.
#[inline(always)]
pub fn exit(kind: Kind, at_ns: u64, key: ProcessKey, root: ProcessKey, live: u32) {
    let event = ExitEvent {
        header: Header { kind: kind as u32, len: size_of::<ExitEvent>() as u32, at_ns, key, root },
        live,
        pad: 0,
    };
    if RING.output::<ExitEvent>(event, 0).is_err() {
        count(Counter::Dropped);
    }
}

/// Tells that somebody moved a process of a job.
#[inline(always)]
pub fn moved(key: ProcessKey, root: ProcessKey, cgroup: u64, hierarchy: u32, mover: u32) {
    let event = MoveEvent {
        header: Header { kind: Kind::Move as u32, len: size_of::<MoveEvent>() as u32, at_ns: now(), key, root },
        cgroup,
        hierarchy,
        mover,
    };
    if RING.output::<MoveEvent>(event, 0).is_err() {
        count(Counter::Dropped);
    }
}
