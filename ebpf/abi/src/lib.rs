//! The contract between the kernel programs and the governor.
//!
//! Everything here is plain data with a fixed layout: `repr(C)`, explicit padding, no pointers, sizes asserted at
//! compile time. Integer flags stand where a `bool` would be, because a byte from the kernel side need not be 0 or 1.
//! Records only ever grow at the end; any other change raises [`ABI_VERSION`].
#![cfg_attr(not(feature = "user"), no_std)]

mod config;
mod event;
mod key;
mod record;

#[cfg(feature = "user")]
pub mod decode;

pub use config::{COUNTERS, Counter, KernelConfig};
pub use event::{
    ARGV_MAX, EXEC_ARGV_TRUNCATED, EXEC_MEMBER, EXEC_NAME_TRUNCATED, ExecHeader, ExitEvent, FILENAME_MAX,
    Header, Kind, MoveEvent,
};
pub use key::{NEAR_SLOTS, ProcessKey, near_slot};
pub use record::{COMM_LEN, LiveRow, Member, NAME_LEN, Record, TaskRow, flag, state};

/// Raised whenever a layout or the meaning of a field changes; part of the pin directory's name.
pub const ABI_VERSION: u32 = 1;

/// Names of maps, as they stand in the object.
pub mod map {
    /// Preallocated hash, [`super::ProcessKey`] to [`super::Record`]: the heart.
    pub const RECORDS: &str = "RECORDS";
    /// Hash, [`super::ProcessKey`] of any live process of a job to [`super::Member`].
    pub const MEMBERS: &str = "MEMBERS";
    /// Array of counts, indexed by [`super::near_slot`]: asked before `MEMBERS`. Mapped by user space, which counts too.
    pub const NEAR: &str = "NEAR";
    /// Hash, first 15 characters of a basename to 1: the pre-filter every exec asks.
    pub const COMMS: &str = "COMMS";
    /// Hash, whole basename (NAME_LEN bytes, zero padded) to the rule file's name number.
    pub const NAMES: &str = "NAMES";
    /// Ring buffer, kernel to user.
    pub const RING: &str = "RING";
    /// Per-CPU array of counters, indexed by [`super::Counter`].
    pub const COUNTERS: &str = "COUNTS";
    /// One-element array of [`super::KernelConfig`].
    pub const CONFIG: &str = "CONFIG";
}

/// Names of programs, as they stand in the object.
pub mod program {
    /// tp_btf/sched_process_exec.
    pub const EXEC: &str = "on_exec";
    /// tp_btf/sched_process_fork.
    pub const FORK: &str = "on_fork";
    /// tp_btf/sched_process_exit with `group_dead` (6.16 and later).
    pub const EXIT_GROUP: &str = "on_exit_group";
    /// tp_btf/sched_process_exit without it.
    pub const EXIT_PLAIN: &str = "on_exit_plain";
    /// tp_btf/signal_generate.
    pub const SIGNAL: &str = "on_signal";
    /// tp_btf/cgroup_attach_task.
    pub const MOVE: &str = "on_move";
    /// iter/task: usage of live tasks of jobs.
    pub const ITER_LIVE: &str = "iter_live";
    /// iter/task: one row for each process of the machine.
    pub const ITER_ALL: &str = "iter_all";
    /// iter/task: makes children of members members.
    pub const ITER_CLOSURE: &str = "iter_closure";
}

/// Names of the read-only globals that carry field offsets. Zero means "this kernel has no such field", and the
/// feature that needs it is off.
pub mod offset {
    /// Number of controllers of this kernel, the length of `css_set.subsys`; no offset, but known from the same place.
    pub const CONTROLLERS: &str = "CONTROLLERS";

    /// Every offset the programs know: (symbol, type, field path).
    pub const ALL: &[(&str, &str, &str)] = &[
        ("OFF_TASK_TGID", "task_struct", "tgid"),
        ("OFF_TASK_PID", "task_struct", "pid"),
        ("OFF_TASK_LEADER", "task_struct", "group_leader"),
        ("OFF_TASK_PARENT", "task_struct", "real_parent"),
        ("OFF_TASK_START", "task_struct", "start_boottime"),
        ("OFF_TASK_COMM", "task_struct", "comm"),
        ("OFF_TASK_MM", "task_struct", "mm"),
        ("OFF_TASK_FLAGS", "task_struct", "flags"),
        ("OFF_TASK_SIGNAL", "task_struct", "signal"),
        ("OFF_TASK_CRED", "task_struct", "cred"),
        ("OFF_TASK_EXIT_CODE", "task_struct", "exit_code"),
        ("OFF_TASK_RUN", "task_struct", "se.sum_exec_runtime"),
        ("OFF_TASK_UTIME", "task_struct", "utime"),
        ("OFF_TASK_STIME", "task_struct", "stime"),
        ("OFF_TASK_NVCSW", "task_struct", "nvcsw"),
        ("OFF_TASK_NIVCSW", "task_struct", "nivcsw"),
        ("OFF_TASK_READ", "task_struct", "ioac.read_bytes"),
        ("OFF_TASK_WRITE", "task_struct", "ioac.write_bytes"),
        ("OFF_TASK_CANCELLED", "task_struct", "ioac.cancelled_write_bytes"),
        ("OFF_SIGNAL_FLAGS", "signal_struct", "flags"),
        ("OFF_SIGNAL_LIVE", "signal_struct", "live"),
        ("OFF_SIGNAL_CODE", "signal_struct", "group_exit_code"),
        ("OFF_SIGNAL_OOM_MM", "signal_struct", "oom_mm"),
        ("OFF_SIGNAL_RUN", "signal_struct", "sum_sched_runtime"),
        ("OFF_SIGNAL_UTIME", "signal_struct", "utime"),
        ("OFF_SIGNAL_STIME", "signal_struct", "stime"),
        ("OFF_SIGNAL_NVCSW", "signal_struct", "nvcsw"),
        ("OFF_SIGNAL_NIVCSW", "signal_struct", "nivcsw"),
        ("OFF_SIGNAL_READ", "signal_struct", "ioac.read_bytes"),
        ("OFF_SIGNAL_WRITE", "signal_struct", "ioac.write_bytes"),
        (
            "OFF_SIGNAL_CANCELLED",
            "signal_struct",
            "ioac.cancelled_write_bytes",
        ),
        ("OFF_CRED_UID", "cred", "uid"),
        ("OFF_MM_ARG_START", "mm_struct", "arg_start"),
        ("OFF_MM_ARG_END", "mm_struct", "arg_end"),
        ("OFF_BPRM_FILENAME", "linux_binprm", "filename"),
        ("OFF_SIGINFO_CODE", "kernel_siginfo", "si_code"),
        ("OFF_CGROUP_KN", "cgroup", "kn"),
        ("OFF_CGROUP_ROOT", "cgroup", "root"),
        ("OFF_ROOT_HIERARCHY", "cgroup_root", "hierarchy_id"),
        ("OFF_KN_ID", "kernfs_node", "id"),
        ("OFF_TASK_CGROUPS", "task_struct", "cgroups"),
        ("OFF_CSS_SET_SUBSYS", "css_set", "subsys"),
        ("OFF_CSS_SERIAL", "cgroup_subsys_state", "serial_nr"),
        ("OFF_TASK_NSPROXY", "task_struct", "nsproxy"),
        ("OFF_NSPROXY_PID_NS", "nsproxy", "pid_ns_for_children"),
        ("OFF_PID_NS_INUM", "pid_namespace", "ns.inum"),
        ("OFF_TASK_THREAD_PID", "task_struct", "thread_pid"),
        ("OFF_PID_LEVEL", "pid", "level"),
    ];
}
