//! What the kernel keeps of a job, and the rows its iterators print.

use crate::ProcessKey;

/// Bytes of a task's name, the final NUL included (TASK_COMM_LEN).
pub const COMM_LEN: usize = 16;
/// Bytes of a basename in the pre-filter, zero padded. Longer names are cut on both sides.
pub const NAME_LEN: usize = 64;

/// Values of [`Record::state`].
pub mod state {
    /// The first process lives.
    pub const LIVE: u32 = 1;
    /// The first process ended; the exit fields are filled.
    pub const EXITED: u32 = 2;
}

/// Bits of [`Record::flags`].
pub mod flag {
    /// Admitted by user space (attach, run, adoption), not by an exec.
    pub const ADOPTED: u32 = 1;
    /// User space asks the closure iterator to add the sums of threads that died before the adoption.
    pub const WANT_BASELINE: u32 = 2;
    /// `signal->oom_mm` was set at the exit.
    pub const OOM: u32 = 4;
    /// The kill_* fields are filled.
    pub const KILLER: u32 = 8;
    /// The sender was the kernel itself.
    pub const KILLER_KERNEL: u32 = 16;
    /// User space asks the closure iterator to take the process out of the job it was inherited into.
    pub const WANT_ROOT: u32 = 64;
    /// The ring was full when this record's exec should have been told.
    pub const ARGV_LOST: u32 = 32;
}

/// One job: its first process and the sums over all its processes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// [`state`].
    pub state: u32,
    /// [`flag`] bits.
    pub flags: u32,
    /// How many images the first process has executed since its admission.
    pub exec_seq: u32,
    /// Live processes of the job, the first included.
    pub live: u32,
    /// Real user of the first process at its exec.
    pub uid: u32,
    /// Its parent's pid at its exec.
    pub ppid: u32,
    /// Id of its v2 group at its exec.
    pub cgroup: u64,
    /// Boot-time clock at the exec, ns.
    pub exec_ns: u64,
    /// Boot-time clock at the exit, ns.
    pub exit_ns: u64,
    /// Wait status of the first process.
    pub exit_code: u32,
    /// Last fatal signal aimed at it.
    pub kill_signal: u32,
    /// Sender of that signal.
    pub kill_pid: u32,
    /// Its user.
    pub kill_uid: u32,
    /// `si_code`, or `i32::MIN` where unreadable.
    pub kill_code: i32,
    /// Processes the job has had.
    pub processes: u32,
    /// Sender's name.
    pub kill_comm: [u8; COMM_LEN],
    /// Run time of ended threads, ns.
    pub run_ns: u64,
    /// User time of ended threads, ns (tick based; use only its ratio to `stime_ns`).
    pub utime_ns: u64,
    /// System time of ended threads, ns (likewise).
    pub stime_ns: u64,
    /// Bytes fetched from block devices by ended threads.
    pub read_bytes: u64,
    /// Bytes sent to block devices by ended threads.
    pub write_bytes: u64,
    /// Of these, bytes that were truncated away before they got there.
    pub cancelled_bytes: u64,
    /// Voluntary switches of ended threads.
    pub nvcsw: u64,
    /// Involuntary switches of ended threads.
    pub nivcsw: u64,
    /// Name of the first process after its exec.
    pub comm: [u8; COMM_LEN],
    /// Number of the basename in the pre-filter, 0 for an adopted or wide admission.
    pub name: u32,
    /// Explicit padding.
    pub pad: u32,
}

const _: () = assert!(size_of::<Record>() == 176);

impl Record {
    /// All fields zero.
    pub const ZERO: Self = Self {
        state: 0,
        flags: 0,
        exec_seq: 0,
        live: 0,
        uid: 0,
        ppid: 0,
        cgroup: 0,
        exec_ns: 0,
        exit_ns: 0,
        exit_code: 0,
        kill_signal: 0,
        kill_pid: 0,
        kill_uid: 0,
        kill_code: 0,
        processes: 0,
        kill_comm: [0; COMM_LEN],
        run_ns: 0,
        utime_ns: 0,
        stime_ns: 0,
        read_bytes: 0,
        write_bytes: 0,
        cancelled_bytes: 0,
        nvcsw: 0,
        nivcsw: 0,
        comm: [0; COMM_LEN],
        name: 0,
        pad: 0,
    };
}

/// Which job a live process belongs to.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Key of the job's record.
    pub root: ProcessKey,
}

/// What `iter_live` prints for each live thread of a job.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRow {
    /// The job.
    pub root: ProcessKey,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Run time so far, ns.
    pub run_ns: u64,
    /// User time so far, ns.
    pub utime_ns: u64,
    /// System time so far, ns.
    pub stime_ns: u64,
    /// Bytes read so far.
    pub read_bytes: u64,
    /// Bytes written so far.
    pub write_bytes: u64,
}

const _: () = assert!(size_of::<LiveRow>() == 64);

/// What `iter_all` prints for each process.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskRow {
    /// The process.
    pub key: ProcessKey,
    /// Its parent.
    pub ppid: u32,
    /// Its real user.
    pub uid: u32,
    /// 1 for a kernel thread (no memory of its own).
    pub kernel_thread: u32,
    /// 1 when it is a member of a job already.
    pub member: u32,
    /// Its name.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<TaskRow>() == 48);
