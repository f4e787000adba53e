//! cgroup_attach_task: tells when somebody else moves a process of a job.

use aya_ebpf::{EbpfContext, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::{
    emit, maps, members,
    task::{self, Ptr},
};

#[inline(always)]
pub fn on_move(ctx: &BtfTracePointContext) {
    let Some(config) = maps::config() else { return };
    if ctx.tgid() == config.owner {
        return;
    }
    let group: Ptr = ctx.arg::<*const c_void>(0);
    let target: Ptr = ctx.arg::<*const c_void>(2);
    // SAFETY: argument 0 is the group, argument 2 the task.
    unsafe {
        let key = task::key(target);
        let Some(root) = members::root_of(&key) else { return };
        let node: Ptr = task::load(group, &task::OFF_CGROUP_KN);
        let tree: Ptr = task::load(group, &task::OFF_CGROUP_ROOT);
        let id: u64 = if node.is_null() { 0 } else { task::load(node, &task::OFF_KN_ID) };
        let hierarchy: u32 = if tree.is_null() { 0 } else { task::load(tree, &task::OFF_ROOT_HIERARCHY) };
        emit::moved(key, root, id, hierarchy, ctx.tgid());
    }
}
