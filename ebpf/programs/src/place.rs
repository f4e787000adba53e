//! Where a task sits, as one number, so that the governor reads /proc once for each place and not for each exec.

use aya_ebpf::helpers::bpf_get_current_cgroup_id;

use crate::task::{self, Ptr};

/// More controllers than any kernel has; each has its bit in a mask of 16 bits (CGROUP_SUBSYS_COUNT of
/// kernel/cgroup/cgroup.c).
const CONTROLLERS_MAX: usize = 16;
/// 2^64 over the golden ratio: multiplying by it spreads small numbers over all bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number for the groups of the current task and its pid namespace. Serial numbers and ids of groups are never used
/// again. The namespace for children names the task's own together with the task's level: it is the own one or below it.
///
/// # Safety
/// `task` must be the current `task_struct`.
#[inline(always)]
pub unsafe fn number(task: Ptr) -> u64 {
    // SAFETY: by contract; every pointer is checked before its use.
    unsafe {
        let mut number = mix(0, bpf_get_current_cgroup_id());
        let set: Ptr = task::load(task, &task::OFF_TASK_CGROUPS);
        let proxy: Ptr = task::load(task, &task::OFF_TASK_NSPROXY);
        let pid: Ptr = task::load(task, &task::OFF_TASK_THREAD_PID);
        if set.is_null() || proxy.is_null() || pid.is_null() {
            return 0;
        }
        let groups = set.byte_add(task::OFF_CSS_SET_SUBSYS.load() as usize).cast::<Ptr>();
        for index in 0..CONTROLLERS_MAX {
            if index as u32 >= task::CONTROLLERS.load() {
                break;
            }
            let group = core::ptr::read_volatile(groups.add(index));
            if !group.is_null() {
                number = mix(number, task::load(group, &task::OFF_CSS_SERIAL));
            }
        }
        let namespace: Ptr = task::load(proxy, &task::OFF_NSPROXY_PID_NS);
        if namespace.is_null() {
            return 0;
        }
        let inum: u32 = task::load(namespace, &task::OFF_PID_NS_INUM);
        let level: u32 = task::load(pid, &task::OFF_PID_LEVEL);
        mix(number, u64::from(inum) << 32 | u64::from(level))
    }
}

#[inline(always)]
fn mix(number: u64, more: u64) -> u64 {
    let mixed = (number ^ more).wrapping_mul(SPREAD);
    mixed ^ mixed >> 32
}
