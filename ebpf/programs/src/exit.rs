//! sched_process_exit: accounting and the exit record. Fires once for each thread.

use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;
use ffrtmp_abi::{Counter, Kind, ProcessKey, Record, flag, state};

use crate::{
    emit,
    maps::{RECORDS, count},
    members,
    task::{self, Ptr},
};

/// `SIGNAL_GROUP_EXIT` of include/linux/sched/signal.h: `group_exit_code` is valid.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// True when the process of this exiting thread has no other live thread. Two threads that leave together may both
/// see it; [`on_exit`] lets only one of them finish the process.
#[inline(always)]
pub fn nobody_lives(ctx: &BtfTracePointContext) -> bool {
    let task: Ptr = ctx.arg::<*const c_void>(0);
    // SAFETY: argument 0 is the task; its signal struct lives until the release, later than this tracepoint.
    unsafe {
        let signal: Ptr = task::load(task, &task::OFF_TASK_SIGNAL);
        if signal.is_null() {
            return false;
        }
        let live: u32 = task::load(signal, &task::OFF_SIGNAL_LIVE);
        live == 0
    }
}

/// `race`: a thread may come here after another one that left with it has finished the process. It finds the process gone
/// from MEMBERS, but a first process is its own record.
#[inline(always)]
pub fn on_exit(ctx: &BtfTracePointContext, group_dead: bool, race: bool) {
    let task: Ptr = ctx.arg::<*const c_void>(0);
    // SAFETY: argument 0 is the task.
    unsafe {
        let key = task::key(task);
        let root = match members::root_of(&key) {
            Some(root) => root,
            None if race => key,
            None => return,
        };
        let Some(record) = RECORDS.get_ptr_mut(&root) else { return };
        task::add_thread(record, task);
        // The delete is the referee: only one thread's succeeds.
        if !group_dead || !members::remove(&key) {
            return;
        }
        finish(task, record, key, root);
    }
}

/// The last thread of a process is gone.
///
/// # Safety
/// `task` must be a `task_struct`, `record` a live map value.
#[inline(always)]
unsafe fn finish(task: Ptr, record: *mut Record, key: ProcessKey, root: ProcessKey) {
    let at_ns = emit::now();
    // SAFETY: by contract.
    unsafe {
        let first = key == root;
        if first {
            write_status(task, record);
            (*record).exit_ns = at_ns;
            core::ptr::write_volatile(&raw mut (*record).state, state::EXITED);
            count(Counter::Exited);
        }
        let live = task::add_u32(&raw mut (*record).live, u32::MAX).wrapping_sub(1);
        if live == 0 {
            count(Counter::Drained);
        }
        if first {
            emit::exit(Kind::Exit, at_ns, key, root, live);
        } else if live == 0 {
            emit::exit(Kind::Drained, at_ns, key, root, 0);
        }
    }
}

/// Wait status and the mark of the out-of-memory killer.
///
/// # Safety
/// `task` must be a `task_struct`, `record` a live map value.
#[inline(always)]
unsafe fn write_status(task: Ptr, record: *mut Record) {
    // SAFETY: by contract; a signal struct outlives its threads' exits.
    unsafe {
        let signal: Ptr = task::load(task, &task::OFF_TASK_SIGNAL);
        if signal.is_null() {
            return;
        }
        let flags: u32 = task::load(signal, &task::OFF_SIGNAL_FLAGS);
        (*record).exit_code = if flags & SIGNAL_GROUP_EXIT != 0 {
            task::load(signal, &task::OFF_SIGNAL_CODE)
        } else {
            let leader: Ptr = task::load(task, &task::OFF_TASK_LEADER);
            task::load(leader, &task::OFF_TASK_EXIT_CODE)
        };
        if task::load_u64_or_zero(signal, &task::OFF_SIGNAL_OOM_MM) != 0 {
            (*record).flags |= flag::OOM;
        }
    }
}
