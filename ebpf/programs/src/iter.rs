//! iter/task: what is asked rather than told. Read on demand; never on a timer of their own.

use aya_ebpf::helpers::generated::bpf_seq_write;
use core::ffi::c_void;
use ffrtmp_abi::{Counter, LiveRow, ProcessKey, TaskRow, flag};

use crate::{
    maps::{RECORDS, count},
    members,
    task::{self, Ptr},
};

const BPF_NOEXIST: u64 = 1;
/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// `struct bpf_iter__task`.
#[repr(C)]
pub struct Context {
    meta: *const Meta,
    task: Ptr,
}

/// Start of `struct bpf_iter_meta`.
#[repr(C)]
pub struct Meta {
    seq: *mut c_void,
}

/// Writes one row to whoever reads the iterator.
///
/// # Safety
/// `ctx` must be the iterator's context.
#[inline(always)]
unsafe fn print<T>(ctx: *const Context, row: &T) {
    // SAFETY: by contract; a full buffer makes the kernel call the program again for the same task.
    unsafe {
        let seq = (*(*ctx).meta).seq;
        bpf_seq_write(seq.cast(), core::ptr::from_ref(row).cast_mut().cast(), size_of::<T>() as u32);
    }
}

/// Usage of each live thread of each job.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn iter_live(ctx: *const Context) -> i32 {
    // SAFETY: the kernel gives a valid context; the task is null once, at the end.
    unsafe {
        let task = (*ctx).task;
        if task.is_null() {
            return 0;
        }
        let key = task::key(task);
        let Some(root) = members::root_of(&key) else { return 0 };
        let row = LiveRow {
            root,
            tgid: key.pid,
            tid: task::load(task, &task::OFF_TASK_PID),
            run_ns: task::load_u64_or_zero(task, &task::OFF_TASK_RUN),
            utime_ns: task::load_u64_or_zero(task, &task::OFF_TASK_UTIME),
            stime_ns: task::load_u64_or_zero(task, &task::OFF_TASK_STIME),
            read_bytes: task::load_u64_or_zero(task, &task::OFF_TASK_READ),
            write_bytes: task::load_u64_or_zero(task, &task::OFF_TASK_WRITE),
        };
        print(ctx, &row);
    }
    0
}

/// One row for each process of the machine.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn iter_all(ctx: *const Context) -> i32 {
    // SAFETY: as above.
    unsafe {
        let task = (*ctx).task;
        if task.is_null() {
            return 0;
        }
        let key = task::key(task);
        if task::load::<u32>(task, &task::OFF_TASK_PID) != key.pid {
            return 0;
        }
        let flags: u32 = task::load(task, &task::OFF_TASK_FLAGS);
        let cred: Ptr = task::load(task, &task::OFF_TASK_CRED);
        let row = TaskRow {
            key,
            ppid: task::ppid(task),
            uid: if cred.is_null() { u32::MAX } else { task::load(cred, &task::OFF_CRED_UID) },
            kernel_thread: u32::from(flags & PF_KTHREAD != 0),
            member: u32::from(members::root_of(&key).is_some()),
            comm: task::comm(task),
        };
        print(ctx, &row);
    }
    0
}

/// Makes each process whose parent is a member a member too, and adds the past of those user space admitted. Prints
/// the keys it added; the reader repeats until there is none, because a child may come before its parent.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn iter_closure(ctx: *const Context) -> i32 {
    // SAFETY: as above.
    unsafe {
        let task = (*ctx).task;
        if task.is_null() {
            return 0;
        }
        let key = task::key(task);
        if task::load::<u32>(task, &task::OFF_TASK_PID) != key.pid {
            return 0;
        }
        if let Some(root) = members::root_of(&key) {
            settle(task, &key, &root);
            return 0;
        }
        let parent: Ptr = task::load(task, &task::OFF_TASK_PARENT);
        if parent.is_null() {
            return 0;
        }
        let Some(root) = members::root_of(&task::key(parent)) else { return 0 };
        let Some(record) = RECORDS.get_ptr_mut(&root) else { return 0 };
        if !members::insert(&key, root, BPF_NOEXIST) {
            count(Counter::ChildLost);
            return 0;
        }
        task::add_u32(&raw mut (*record).live, 1);
        task::add_u32(&raw mut (*record).processes, 1);
        task::add_dead_threads(record, task);
        print(ctx, &key);
    }
    0
}

/// Finishes an adoption that user space began: adds what the process's ended threads had used, and takes it out of the
/// job it was born into.
///
/// # Safety
/// `task` must be a `task_struct`.
#[inline(always)]
unsafe fn settle(task: Ptr, key: &ProcessKey, root: &ProcessKey) {
    let Some(record) = RECORDS.get_ptr_mut(key) else { return };
    // SAFETY: successful lookups.
    unsafe {
        if (*record).flags & flag::WANT_BASELINE != 0 {
            (*record).flags &= !flag::WANT_BASELINE;
            task::add_dead_threads(record, task);
        }
        if (*record).flags & flag::WANT_ROOT == 0 {
            return;
        }
        (*record).flags &= !flag::WANT_ROOT;
        if *root == *key || !members::give(key, *key) {
            return;
        }
        if let Some(outer) = RECORDS.get_ptr_mut(root) {
            task::add_u32(&raw mut (*outer).live, u32::MAX);
            task::add_u32(&raw mut (*outer).processes, u32::MAX);
        }
    }
}
