//! The only reads of kernel memory. Offsets come from the running kernel's BTF, set by the governor before the load;
//! they are frozen when the verifier looks, so it checks each load against the real type. An offset of zero means the
//! kernel has no such field: the caller then leaves the feature off.

use aya_ebpf::Global;
// The target claims no atomics, so core's atomic types have no operations; the instructions exist since v3.
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ffi::c_void;
use ffrtmp_abi::{COMM_LEN, ProcessKey, Record};

macro_rules! offsets {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(0);
        )*
    };
}

offsets! {
    OFF_TASK_TGID OFF_TASK_PID OFF_TASK_LEADER OFF_TASK_PARENT OFF_TASK_START OFF_TASK_COMM OFF_TASK_MM OFF_TASK_FLAGS
    OFF_TASK_SIGNAL OFF_TASK_CRED OFF_TASK_EXIT_CODE OFF_TASK_RUN OFF_TASK_UTIME OFF_TASK_STIME OFF_TASK_NVCSW
    OFF_TASK_NIVCSW OFF_TASK_READ OFF_TASK_WRITE OFF_TASK_CANCELLED
    OFF_SIGNAL_FLAGS OFF_SIGNAL_LIVE OFF_SIGNAL_CODE OFF_SIGNAL_OOM_MM OFF_SIGNAL_RUN OFF_SIGNAL_UTIME
    OFF_SIGNAL_STIME OFF_SIGNAL_NVCSW OFF_SIGNAL_NIVCSW OFF_SIGNAL_READ OFF_SIGNAL_WRITE OFF_SIGNAL_CANCELLED
    OFF_CRED_UID OFF_MM_ARG_START OFF_MM_ARG_END OFF_BPRM_FILENAME OFF_SIGINFO_CODE
    OFF_CGROUP_KN OFF_CGROUP_ROOT OFF_ROOT_HIERARCHY OFF_KN_ID
    OFF_TASK_CGROUPS OFF_CSS_SET_SUBSYS OFF_CSS_SERIAL OFF_TASK_NSPROXY OFF_NSPROXY_PID_NS OFF_PID_NS_INUM
    OFF_TASK_THREAD_PID OFF_PID_LEVEL CONTROLLERS
}

/// A pointer that the verifier knows the type of.
pub type Ptr = *const c_void;

/// Loads a field.
///
/// # Safety
/// `base` must be a pointer the verifier accepts for a load at this offset.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: Ptr, offset: &Global<u32>) -> T {
    // SAFETY: the verifier checks the access against the type's BTF.
    unsafe { core::ptr::read_volatile(base.byte_add(offset.load() as usize).cast::<T>()) }
}

/// Loads an optional field: zero where this kernel lacks it.
///
/// # Safety
/// As [`load`].
#[inline(always)]
pub unsafe fn load_u64_or_zero(base: Ptr, offset: &Global<u32>) -> u64 {
    if offset.load() == 0 {
        return 0;
    }
    // SAFETY: as `load`.
    unsafe { load(base, offset) }
}

/// Thread group id.
///
/// # Safety
/// `task` must be a `task_struct`.
#[inline(always)]
pub unsafe fn tgid(task: Ptr) -> u32 {
    // SAFETY: by contract.
    unsafe { load(task, &OFF_TASK_TGID) }
}

/// The identity of the process that `task` is a thread of.
///
/// # Safety
/// `task` must be a `task_struct`.
#[inline(always)]
pub unsafe fn key(task: Ptr) -> ProcessKey {
    // SAFETY: by contract; a thread always has a leader.
    unsafe {
        let leader: Ptr = load(task, &OFF_TASK_LEADER);
        ProcessKey::new(tgid(task), load(leader, &OFF_TASK_START))
    }
}

/// Parent's pid, 0 where there is none.
///
/// # Safety
/// `task` must be a `task_struct`.
#[inline(always)]
pub unsafe fn ppid(task: Ptr) -> u32 {
    // SAFETY: by contract; the pointer is checked before its use.
    unsafe {
        let parent: Ptr = load(task, &OFF_TASK_PARENT);
        if parent.is_null() { 0 } else { tgid(parent) }
    }
}

/// Name of the task.
///
/// # Safety
/// `task` must be a `task_struct`.
#[inline(always)]
pub unsafe fn comm(task: Ptr) -> [u8; COMM_LEN] {
    // SAFETY: by contract; an access inside an array of bytes may have any width.
    unsafe {
        let start = task.byte_add(OFF_TASK_COMM.load() as usize).cast::<u64>();
        let halves = [core::ptr::read_volatile(start), core::ptr::read_volatile(start.add(1))];
        core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(halves)
    }
}

/// Adds the figures of one thread to its job's record.
///
/// # Safety
/// `task` must be a `task_struct`, `record` a live map value.
#[inline(always)]
pub unsafe fn add_thread(record: *mut Record, task: Ptr) {
    // SAFETY: by contract.
    unsafe {
        add(&raw mut (*record).run_ns, load_u64_or_zero(task, &OFF_TASK_RUN));
        add(&raw mut (*record).utime_ns, load_u64_or_zero(task, &OFF_TASK_UTIME));
        add(&raw mut (*record).stime_ns, load_u64_or_zero(task, &OFF_TASK_STIME));
        add(&raw mut (*record).read_bytes, load_u64_or_zero(task, &OFF_TASK_READ));
        add(&raw mut (*record).write_bytes, load_u64_or_zero(task, &OFF_TASK_WRITE));
        add(&raw mut (*record).cancelled_bytes, load_u64_or_zero(task, &OFF_TASK_CANCELLED));
        add(&raw mut (*record).nvcsw, load_u64_or_zero(task, &OFF_TASK_NVCSW));
        add(&raw mut (*record).nivcsw, load_u64_or_zero(task, &OFF_TASK_NIVCSW));
    }
}

/// Adds what the threads of a process that ended earlier had used.
///
/// # Safety
/// `task` must be a `task_struct`, `record` a live map value.
#[inline(always)]
pub unsafe fn add_dead_threads(record: *mut Record, task: Ptr) {
    // SAFETY: by contract; every task that is not released has a signal struct.
    unsafe {
        let signal: Ptr = load(task, &OFF_TASK_SIGNAL);
        if signal.is_null() {
            return;
        }
        add(&raw mut (*record).run_ns, load_u64_or_zero(signal, &OFF_SIGNAL_RUN));
        add(&raw mut (*record).utime_ns, load_u64_or_zero(signal, &OFF_SIGNAL_UTIME));
        add(&raw mut (*record).stime_ns, load_u64_or_zero(signal, &OFF_SIGNAL_STIME));
        add(&raw mut (*record).read_bytes, load_u64_or_zero(signal, &OFF_SIGNAL_READ));
        add(&raw mut (*record).write_bytes, load_u64_or_zero(signal, &OFF_SIGNAL_WRITE));
        add(&raw mut (*record).cancelled_bytes, load_u64_or_zero(signal, &OFF_SIGNAL_CANCELLED));
        add(&raw mut (*record).nvcsw, load_u64_or_zero(signal, &OFF_SIGNAL_NVCSW));
        add(&raw mut (*record).nivcsw, load_u64_or_zero(signal, &OFF_SIGNAL_NIVCSW));
    }
}

/// Atomic add on a map value.
///
/// # Safety
/// `target` must point into a live map value.
#[inline(always)]
pub unsafe fn add(target: *mut u64, value: u64) {
    // SAFETY: by contract; u64 fields of map values are aligned.
    let _before = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(target, value) };
}

/// Atomic add on a map value; gives the value before it. A relaxed one would be compiled to the instruction that
/// returns nothing, even where the result is used (seen with LLVM 22).
///
/// # Safety
/// `target` must point into a live map value.
#[inline(always)]
pub unsafe fn add_u32(target: *mut u32, value: u32) -> u32 {
    // SAFETY: by contract.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(target, value) }
}
