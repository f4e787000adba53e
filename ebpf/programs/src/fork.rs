//! sched_process_fork: inheritance. Runs before the child can execute an instruction.

use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;
use ffrtmp_abi::Counter;

use crate::{
    maps::{RECORDS, count},
    members,
    task::{self, Ptr},
};

#[inline(always)]
pub fn on_fork(ctx: &BtfTracePointContext) {
    let parent: Ptr = ctx.arg::<*const c_void>(0);
    let child: Ptr = ctx.arg::<*const c_void>(1);
    // SAFETY: both arguments are tasks on every supported kernel.
    unsafe {
        // A new thread needs nothing: lookups go by the process.
        if task::tgid(parent) == task::tgid(child) {
            return;
        }
        let Some(root) = members::root_of(&task::key(parent)) else { return };
        let Some(record) = RECORDS.get_ptr_mut(&root) else { return };
        if !members::insert(&task::key(child), root, 0) {
            count(Counter::ChildLost);
            return;
        }
        task::add_u32(&raw mut (*record).live, 1);
        task::add_u32(&raw mut (*record).processes, 1);
    }
}
