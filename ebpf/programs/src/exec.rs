//! sched_process_exec: admission.
//!
//! At this tracepoint the new image, its name, file name and arguments are in place and no instruction of it has run.

use aya_ebpf::{
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_uid_gid,
        generated::{bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_ringbuf_output},
    },
    programs::BtfTracePointContext,
};
use core::ffi::c_void;
use ffrtmp_abi::{
    ARGV_MAX, Counter, EXEC_ARGV_TRUNCATED, EXEC_MEMBER, EXEC_NAME_TRUNCATED, ExecHeader, FILENAME_MAX, Header, Kind,
    NAME_LEN, ProcessKey, flag, state,
};

use crate::{
    emit,
    maps::{self, BLANK, COMMS, NAMES, RECORDS, RING, SCRATCH, Scratch, count},
    members,
    place,
    task::{self, Ptr},
};

const BPF_NOEXIST: u64 = 1;
const HEADER: usize = size_of::<ExecHeader>();

/// What the entry says beyond its strings.
struct Told {
    key: ProcessKey,
    root: ProcessKey,
    at_ns: u64,
    exec_seq: u32,
    name: u32,
    flags: u32,
}

#[inline(always)]
pub fn on_exec(ctx: &BtfTracePointContext) {
    let Some(config) = maps::config() else { return };
    let task: Ptr = ctx.arg::<*const c_void>(0);
    // SAFETY: argument 0 is the task, argument 2 the linux_binprm, on every supported kernel.
    unsafe {
        let comm = task::comm(task);
        let known = config.discover != 0 && (config.wide != 0 || COMMS.get_ptr(&comm).is_some());
        let key = task::key(task);
        let root = members::root_of(&key);
        if !known && root.is_none_or(|root| root != key) {
            return;
        }
        count(Counter::Seen);
        let bprm: Ptr = ctx.arg::<*const c_void>(2);
        let file: *const u8 = task::load(bprm, &task::OFF_BPRM_FILENAME);
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
        let copied = bpf_probe_read_kernel_str(
            scratch_at(scratch, HEADER).cast(),
            FILENAME_MAX as u32,
            file.cast(),
        );
        if copied <= 0 {
            return;
        }
        // The count includes the NUL.
        let filename_len = (copied as u32 - 1) & (FILENAME_MAX as u32 - 1);
        let name = name_number(scratch, file, filename_len);
        let at_ns = emit::now();
        match root {
            Some(root) => again(task, scratch, key, root, name, at_ns, filename_len, &comm),
            None if name != 0 || config.wide != 0 => {
                if admit(task, &key, &comm, name, at_ns) {
                    let told = Told { key, root: key, at_ns, exec_seq: 1, name, flags: 0 };
                    tell(task, scratch, &told, filename_len);
                }
            }
            None => {}
        }
    }
}

/// A further exec of a process that belongs to a job. Only the first process's own, or one the filter knows, is told.
///
/// # Safety
/// `task` must be a `task_struct`.
#[inline(always)]
unsafe fn again(
    task: Ptr,
    scratch: *mut Scratch,
    key: ProcessKey,
    root: ProcessKey,
    name: u32,
    at_ns: u64,
    filename_len: u32,
    comm: &[u8; ffrtmp_abi::COMM_LEN],
) {
    count(Counter::Reexec);
    let Some(record) = RECORDS.get_ptr_mut(&root) else { return };
    // SAFETY: a successful lookup.
    let exec_seq = unsafe {
        if key == root {
            (*record).comm = *comm;
            task::add_u32(&raw mut (*record).exec_seq, 1) + 1
        } else {
            0
        }
    };
    let told = Told { key, root, at_ns, exec_seq, name, flags: EXEC_MEMBER };
    // SAFETY: by contract.
    unsafe { tell(task, scratch, &told, filename_len) };
}

/// Puts a record into both maps, or into none.
///
/// # Safety
/// `task` must be the current `task_struct`.
#[inline(always)]
unsafe fn admit(task: Ptr, key: &ProcessKey, comm: &[u8; ffrtmp_abi::COMM_LEN], name: u32, at_ns: u64) -> bool {
    let Some(blank) = BLANK.get(0) else { return false };
    if RECORDS.insert(key, blank, BPF_NOEXIST).is_err() {
        count(Counter::Refused);
        return false;
    }
    let Some(record) = RECORDS.get_ptr_mut(key) else { return false };
    // SAFETY: a successful lookup; nobody else writes this record before its process is a member.
    unsafe {
        (*record).exec_seq = 1;
        (*record).live = 1;
        (*record).processes = 1;
        (*record).uid = bpf_get_current_uid_gid() as u32;
        (*record).ppid = task::ppid(task);
        (*record).cgroup = bpf_get_current_cgroup_id();
        (*record).exec_ns = at_ns;
        (*record).comm = *comm;
        (*record).name = name;
        (*record).state = state::LIVE;
    }
    if !members::insert(key, *key, 0) {
        let _ = RECORDS.remove(key);
        count(Counter::Refused);
        return false;
    }
    count(Counter::Admitted);
    true
}

/// Where byte `offset` of the entry stands.
///
/// # Safety
/// `offset` must be inside the scratch bytes.
#[inline(always)]
unsafe fn scratch_at(scratch: *mut Scratch, offset: usize) -> *mut u8 {
    // SAFETY: by contract.
    unsafe { (&raw mut (*scratch).bytes).cast::<u8>().add(offset) }
}

/// Number of the file's basename in the pre-filter, 0 when it is not there.
///
/// # Safety
/// `scratch` holds the file name; `file` is its kernel address.
#[inline(always)]
unsafe fn name_number(scratch: *mut Scratch, file: *const u8, filename_len: u32) -> u32 {
    // SAFETY: every index is bounded by FILENAME_MAX, which the scratch exceeds.
    unsafe {
        let base = &raw mut (*scratch).base;
        let len = &raw mut (*scratch).len;
        core::ptr::write_volatile(base, 0);
        core::ptr::write_volatile(len, u64::from(filename_len));
        for index in 0..FILENAME_MAX {
            if index as u64 >= core::ptr::read_volatile(len) {
                break;
            }
            if core::ptr::read_volatile(scratch_at(scratch, HEADER + index)) == b'/' {
                core::ptr::write_volatile(base, index as u64 + 1);
            }
        }
        let start = core::ptr::read_volatile(base) as usize & (FILENAME_MAX - 1);
        for index in 0..NAME_LEN / 8 {
            core::ptr::write_volatile((&raw mut (*scratch).name).cast::<u64>().add(index), 0);
        }
        let name = (&raw mut (*scratch).name).cast::<[u8; NAME_LEN]>();
        if bpf_probe_read_kernel_str(name.cast(), NAME_LEN as u32, file.add(start).cast()) <= 0 {
            return 0;
        }
        NAMES.get_ptr(&*name).map_or(0, |number| *number)
    }
}

/// Writes the exec entry: header, file name (already in place), arguments.
///
/// # Safety
/// `task` must be the current `task_struct`, `scratch` hold `filename_len` bytes of file name.
#[inline(always)]
unsafe fn tell(task: Ptr, scratch: *mut Scratch, told: &Told, filename_len: u32) {
    // SAFETY: lengths are masked below the scratch's size; user memory is only read through the helper.
    unsafe {
        let mut flags = told.flags;
        if filename_len as usize == FILENAME_MAX - 1 {
            flags |= EXEC_NAME_TRUNCATED;
        }
        let argv_at = HEADER + (filename_len as usize & (FILENAME_MAX - 1));
        let argv_len = read_argv(task, scratch, argv_at, &mut flags);
        let len = (argv_at as u32 + argv_len) & 0x1fff;
        let header = ExecHeader {
            header: Header { kind: Kind::Exec as u32, len, at_ns: told.at_ns, key: told.key, root: told.root },
            ppid: task::ppid(task),
            uid: bpf_get_current_uid_gid() as u32,
            cgroup: bpf_get_current_cgroup_id(),
            place: if told.flags & EXEC_MEMBER == 0 { place::number(task) } else { 0 },
            exec_seq: told.exec_seq,
            name: told.name,
            flags,
            filename_len,
            argv_len,
            pad: 0,
        };
        core::ptr::write_unaligned(scratch_at(scratch, 0).cast::<ExecHeader>(), header);
        let ring = (&raw const RING).cast_mut().cast::<c_void>();
        if bpf_ringbuf_output(ring, scratch_at(scratch, 0).cast(), u64::from(len), 0) != 0 {
            count(Counter::Dropped);
            if let Some(record) = RECORDS.get_ptr_mut(&told.root) {
                (*record).flags |= flag::ARGV_LOST;
            }
        }
    }
}

/// Copies the arguments behind the file name; gives their length.
///
/// # Safety
/// `task` must be the current `task_struct`; `at` at most HEADER + FILENAME_MAX.
#[inline(always)]
unsafe fn read_argv(task: Ptr, scratch: *mut Scratch, at: usize, flags: &mut u32) -> u32 {
    // SAFETY: the length is at most ARGV_MAX and `at` is masked, so the write ends inside the scratch.
    unsafe {
        let mm: Ptr = task::load(task, &task::OFF_TASK_MM);
        if mm.is_null() {
            return 0;
        }
        let start: u64 = task::load(mm, &task::OFF_MM_ARG_START);
        let end: u64 = task::load(mm, &task::OFF_MM_ARG_END);
        let mut len = end.wrapping_sub(start);
        if len > ARGV_MAX as u64 {
            len = ARGV_MAX as u64;
            *flags |= EXEC_ARGV_TRUNCATED;
        }
        let len = len as u32 & 0x1fff;
        if len == 0 || len > ARGV_MAX as u32 {
            return 0;
        }
        if bpf_probe_read_user(scratch_at(scratch, at).cast(), len, start as *const c_void) != 0 {
            return 0;
        }
        len
    }
}
