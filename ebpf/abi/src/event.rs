//! Ring entries. Each starts with a [`Header`]; the exec entry is followed by filename and argv.

use crate::ProcessKey;

/// Longest filename carried, bytes.
pub const FILENAME_MAX: usize = 256;
/// Longest argv carried, bytes, the NULs between arguments included.
pub const ARGV_MAX: usize = 4096;

/// [`ExecHeader::flags`]: argv was longer than [`ARGV_MAX`].
pub const EXEC_ARGV_TRUNCATED: u32 = 1;
/// [`ExecHeader::flags`]: filename was longer than [`FILENAME_MAX`].
pub const EXEC_NAME_TRUNCATED: u32 = 2;
/// [`ExecHeader::flags`]: the process belonged to the job before this exec.
pub const EXEC_MEMBER: u32 = 4;

/// What a ring entry is.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`ExecHeader`], filename, argv.
    Exec = 1,
    /// [`ExitEvent`]: a first process ended.
    Exit = 2,
    /// [`ExitEvent`]: the last process of a job ended.
    Drained = 3,
    /// [`MoveEvent`].
    Move = 4,
}

/// Start of every entry.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`Kind`] as a number.
    pub kind: u32,
    /// Length of the whole entry, bytes.
    pub len: u32,
    /// Boot-time clock when it was written, ns.
    pub at_ns: u64,
    /// The process.
    pub key: ProcessKey,
    /// The job it belongs to.
    pub root: ProcessKey,
}

/// A process executed a program.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecHeader {
    /// Common part.
    pub header: Header,
    /// Parent's pid.
    pub ppid: u32,
    /// Real user.
    pub uid: u32,
    /// Id of its v2 group.
    pub cgroup: u64,
    /// Names its groups in the hierarchies of all controllers and its pid namespace, together: whoever has the same number
    /// has the same of each. 0 where it is not known.
    pub place: u64,
    /// Which image of this process this is, from 1.
    pub exec_seq: u32,
    /// Number of the basename in the pre-filter.
    pub name: u32,
    /// EXEC_* bits.
    pub flags: u32,
    /// Bytes of filename that follow, without NUL.
    pub filename_len: u32,
    /// Bytes of argv that follow the filename.
    pub argv_len: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// A first process ended, or the last process of its job did.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitEvent {
    /// Common part.
    pub header: Header,
    /// Processes of the job still alive.
    pub live: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// Somebody moved a process of a job to another control group.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveEvent {
    /// Common part.
    pub header: Header,
    /// Id of the group moved to, within its hierarchy.
    pub cgroup: u64,
    /// Which hierarchy, as in /proc/PID/cgroup; 0 is v2.
    pub hierarchy: u32,
    /// Who moved it.
    pub mover: u32,
}

const _: () = assert!(size_of::<Header>() == 48);
const _: () = assert!(size_of::<ExecHeader>() == 96);
const _: () = assert!(size_of::<ExitEvent>() == 56);
const _: () = assert!(size_of::<MoveEvent>() == 64);
