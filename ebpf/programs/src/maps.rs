//! The maps. Sizes are defaults; the governor may set others before it loads the object.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use ffrtmp_abi::{COUNTERS, COMM_LEN, Counter, KernelConfig, Member, NAME_LEN, NEAR_SLOTS, ProcessKey, Record};

const BPF_F_MMAPABLE: u32 = 1 << 10;

/// One record for each job.
#[map]
pub static RECORDS: HashMap<ProcessKey, Record> = HashMap::with_max_entries(65_536, 0);

/// One entry for each live process of a job.
#[map]
pub static MEMBERS: HashMap<ProcessKey, Member> = HashMap::with_max_entries(65_536, 0);

/// How many keys in [`MEMBERS`] have a pid of this slot: none, for most processes. The cell of [`MEMBERS`] that a stranger
/// would be looked for in is in no cache, which costs an exec some 300 ns; see `members.rs`.
#[map]
pub static NEAR: Array<u64> = Array::with_max_entries(NEAR_SLOTS, BPF_F_MMAPABLE);

/// First stage of the pre-filter: names as the kernel cuts them.
#[map]
pub static COMMS: HashMap<[u8; COMM_LEN], u32> = HashMap::with_max_entries(1024, 0);

/// Second stage: whole basenames, to their number.
#[map]
pub static NAMES: HashMap<[u8; NAME_LEN], u32> = HashMap::with_max_entries(1024, 0);

/// What wakes the reader.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

#[map]
pub static CONFIG: Array<KernelConfig> = Array::with_max_entries(1, 0);

/// A record of zeroes: records are too large for the stack, and a new map value must come from somewhere.
#[map]
pub static BLANK: Array<Record> = Array::with_max_entries(1, 0);

/// Where a ring entry is put together; too large for the stack.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// See [`SCRATCH`]. `bytes` is larger than any entry so that the verifier can bound every write.
#[repr(C)]
pub struct Scratch {
    /// Index of the basename; kept in memory because the verifier would follow a register through every iteration.
    pub base: u64,
    /// Length of the file name; in memory for the same reason.
    pub len: u64,
    /// Basename, zero padded.
    pub name: [u64; NAME_LEN / 8],
    /// The entry.
    pub bytes: [u8; 8192],
}

/// Raises a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer comes from a successful lookup; the slot belongs to this CPU alone.
        unsafe { *value += 1 };
    }
}

/// The governor's switches.
#[inline(always)]
pub fn config() -> Option<&'static KernelConfig> {
    CONFIG.get(0)
}
