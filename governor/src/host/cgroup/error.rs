//! What can go wrong with control groups.

use std::path::PathBuf;

use super::super::file::IoError;
use super::super::process::ProcessError;

/// Why a group could not be made, filled or read.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is nothing to work with.
    #[error(
        "no control group hierarchy we can use is mounted; mount cgroup2 on /sys/fs/cgroup, or choose placement in-place"
    )]
    NoHierarchy,
    /// The configured base makes no sense.
    #[error("cgroup base `{}` is not a path below the root; write it like /my.slice", path.display())]
    Base {
        /// As configured.
        path: PathBuf,
    },
    /// A class or job name cannot be a directory.
    #[error("`{name}` cannot name a control group: {problem}")]
    Name {
        /// As asked.
        name: String,
        /// What is wrong with it.
        problem: NameProblem,
    },
    /// No hierarchy let us make the group.
    #[error(
        "cannot create the job's control group; run as root, give the service Delegate=yes, or name a writable cgroup base"
    )]
    Create(#[source] IoError),
    /// Every name we tried was taken.
    #[error("cannot find a free name for the group after {tried} tries; remove old groups below {}", path.display())]
    Taken {
        /// Names tried.
        tried: u32,
        /// The class's directory.
        path: PathBuf,
    },
    /// No hierarchy let the process in.
    #[error("cannot move process {pid} into its group{}", advice(source))]
    Join {
        /// The process.
        pid: u32,
        /// What failed first.
        source: IoError,
    },
    /// It sits in a frozen group.
    #[error(
        "process {pid} sits in the frozen group {}, and moving it out would let it run on; attach it once it is thawed",
        path.display()
    )]
    Frozen {
        /// The process.
        pid: u32,
        /// The group.
        path: PathBuf,
    },
    /// The process is not there any more, or could not be looked at.
    #[error("cannot place the process")]
    Process(#[from] ProcessError),
    /// The pid passed to another process in the middle of a move; that one was put beside its parent again.
    #[error("pid {pid} passed to another process while it was being moved; the other one was put back")]
    Stranger {
        /// The pid.
        pid: u32,
    },
    /// A kernel file could not be read.
    #[error("cannot read the control group layout")]
    Read(#[source] IoError),
    /// A kernel file makes no sense to us.
    #[error("{} is not understood", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
    },
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// No characters.
    #[error("it is empty")]
    Empty,
    /// Longer than a directory's name can be with its suffix.
    #[error("it is longer than 240 bytes")]
    TooLong,
    /// `.`, `..`, or a hidden name.
    #[error("it starts with a dot")]
    LeadingDot,
    /// A slash, a line break, or another control character.
    #[error("it holds a slash or a control character")]
    Character,
}

impl CgroupError {
    /// True when more rights would have helped; the command line then goes on without a group and says so.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Create(error) | Self::Join { source: error, .. } | Self::Read(error) => {
                error.is_permission()
            }
            Self::NoHierarchy
            | Self::Base { .. }
            | Self::Name { .. }
            | Self::Taken { .. }
            | Self::Frozen { .. }
            | Self::Process(_)
            | Self::Stranger { .. }
            | Self::Parse { .. } => false,
        }
    }

    /// True when somebody removed the group between its making and its use.
    pub fn is_vanished(&self) -> bool {
        match self {
            Self::Join { source, .. } => matches!(source.errno(), Some(libc::ENODEV | libc::ENOENT)),
            _ => false,
        }
    }

    /// True when the process ended before it could be placed, which is no failure of ours.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Process(error) => error.is_gone(),
            Self::Join { source, .. } => source.errno() == Some(libc::ESRCH),
            _ => false,
        }
    }
}

/// What a refused move means, after the kernel's own words; empty where they say it all.
pub(super) fn advice(error: &IoError) -> &'static str {
    match error.errno() {
        Some(libc::EBUSY) => {
            " (it passes controllers on to groups below it, and cgroup v2 lets no such group hold processes)"
        }
        Some(libc::EOPNOTSUPP) => {
            " (it is threaded or lies below a threaded group, see cgroup.type; name another base)"
        }
        Some(libc::EINVAL) => {
            " (the kernel lets nobody move this process: it is a kernel thread, or a real-time process where groups \
             have no real-time budget)"
        }
        Some(libc::ENOSPC) => " (its cpuset has no CPUs or memory nodes)",
        Some(libc::ENODEV | libc::ENOENT) => " (somebody removed the group)",
        Some(libc::EACCES | libc::EPERM) => {
            " (the group it leaves and the one it joins must both lie in a subtree that is ours to change)"
        }
        _ => "",
    }
}
