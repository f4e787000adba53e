//! Effects on a process whose identity was checked.
//!
//! A pid is reused; a pidfd is not. [`Pinned`] opens the pidfd first and compares the start time afterwards, so that the
//! number is known to belong to the key for as long as the pidfd reports a live process. Nothing in the host layer acts
//! on a bare pid. Waiting, spawning and deciding are not done here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use ffrtmp_abi::ProcessKey;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::FromRead;
use procfs::process::Stat;

use super::file::{self, IoError};

/// Why a process cannot be acted on.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It ended.
    #[error("process {pid} has ended")]
    Gone {
        /// Its pid.
        pid: u32,
    },
    /// Its pid belongs to another process now.
    #[error("pid {pid} belongs to another process now (it started {found} ticks after boot, ours {asked})")]
    Replaced {
        /// The pid.
        pid: u32,
        /// Start time asked for, clock ticks.
        asked: u64,
        /// Start time found, clock ticks.
        found: u64,
    },
    /// The kernel refused a call.
    #[error("{call} for process {pid}")]
    Call {
        /// Name of the system call.
        call: &'static str,
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its /proc entry could not be read.
    #[error("cannot read about process {pid}")]
    Read {
        /// The process.
        pid: u32,
        /// What failed.
        source: IoError,
    },
    /// Its /proc entry makes no sense to us.
    #[error("/proc/{pid}/{file} is not understood")]
    Parse {
        /// The process.
        pid: u32,
        /// The file.
        file: &'static str,
    },
}

impl ProcessError {
    /// True when there is nothing left to act on.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Replaced { .. })
    }

    fn call(call: &'static str, pid: u32) -> Self {
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::ESRCH) => Self::Gone { pid },
            _ => Self::Call { call, pid, source },
        }
    }

    pub(crate) fn read(pid: u32, source: IoError) -> Self {
        if source.is_gone() {
            Self::Gone { pid }
        } else {
            Self::Read { pid, source }
        }
    }
}

/// Nanoseconds in one clock tick of /proc (`USER_HZ`; 10 ms on every common kernel).
pub fn tick_ns() -> u64 {
    1_000_000_000 / procfs::ticks_per_second().max(1)
}

/// `/proc/PID/stat`, parsed.
pub fn read_stat(pid: u32) -> Result<Stat, ProcessError> {
    let text =
        file::read(format!("/proc/{pid}/stat").as_ref()).map_err(|error| ProcessError::read(pid, error))?;
    Stat::from_read(text.as_bytes()).map_err(|_| ProcessError::Parse { pid, file: "stat" })
}

/// False for a process that has begun to exit; it is not moved any more, and needs not be.
pub fn is_running(pid: u32) -> bool {
    /// `PF_EXITING` of include/linux/sched.h.
    const PF_EXITING: u32 = 4;
    read_stat(pid).is_ok_and(|stat| stat.flags & PF_EXITING == 0)
}

/// Real, effective, saved and file-system user of a process. `None` when it ended or its pid is another's now.
pub fn owners(key: ProcessKey) -> Option<[u32; 4]> {
    let pinned = Pinned::open(key).ok()?;
    let status = procfs::process::Process::new(key.pid.cast_signed())
        .ok()?
        .status()
        .ok()?;
    pinned.check().ok()?;
    Some([status.ruid, status.euid, status.suid, status.fuid])
}

/// True when both start times name the same instant as far as /proc can tell.
///
/// The kernel's records hold nanoseconds, /proc floors them to ticks; a key made from /proc is a multiple of a tick.
pub fn same_start(key: ProcessKey, start_ticks: u64) -> bool {
    key.start / tick_ns() == start_ticks
}

/// A process that stays the one it was, whatever happens to its pid.
#[derive(Debug)]
pub struct Pinned {
    key: ProcessKey,
    fd: OwnedFd,
}

/// What the kernel remembers of a process that ended and was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitInfo {
    /// Wait status as `waitpid` gives it.
    pub status: i32,
    /// Id of the v2 group it died in, where the kernel still tells.
    pub cgroup: Option<u64>,
}

impl Pinned {
    /// Pins the process the key names. Fails when it ended or its pid was reused.
    pub fn open(key: ProcessKey) -> Result<Self, ProcessError> {
        let fd = pidfd_open(key.pid)?;
        let found = read_stat(key.pid)?.starttime;
        if same_start(key, found) {
            Ok(Self { key, fd })
        } else {
            Err(ProcessError::Replaced {
                pid: key.pid,
                asked: key.start / tick_ns(),
                found,
            })
        }
    }

    /// As [`Self::open`], for one of whom the kernel's record tells: whoever has not ended after the descriptor was opened
    /// is the one that it names, and no look at /proc is needed, which for a new process takes 20 µs.
    pub fn open_if(key: ProcessKey, lives: impl FnOnce() -> bool) -> Result<Self, ProcessError> {
        let fd = pidfd_open(key.pid)?;
        if lives() {
            Ok(Self { key, fd })
        } else {
            drop(fd);
            Self::open(key)
        }
    }

    /// Pins whoever has this pid now; its key has the precision of a tick. For pids a person typed or a list just read.
    pub fn of_pid(pid: u32) -> Result<Self, ProcessError> {
        let fd = pidfd_open(pid)?;
        let start = read_stat(pid)?.starttime * tick_ns();
        let pinned = Self {
            key: ProcessKey::new(pid, start),
            fd,
        };
        // The start time was read between two proofs of life, so it belongs to the process behind the pidfd.
        pinned.check()?;
        Ok(pinned)
    }

    /// Whom this pins.
    pub fn key(&self) -> ProcessKey {
        self.key
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.key.pid
    }

    /// True until its last thread has ended. While it is true, the pid cannot belong to anybody else.
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Fails when the process has ended.
    pub fn check(&self) -> Result<(), ProcessError> {
        if self.is_alive() {
            Ok(())
        } else {
            Err(ProcessError::Gone { pid: self.key.pid })
        }
    }

    /// Sends a signal; 0 only asks whether that would be allowed.
    pub fn signal(&self, signal: i32) -> Result<(), ProcessError> {
        // SAFETY: the descriptor is owned and open, a null siginfo is allowed, and the call touches no memory of ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(ProcessError::call("pidfd_send_signal", self.key.pid))
        }
    }

    /// Its exit status. `None` while it lives or nobody has reaped it, and always on kernels before 6.15.
    pub fn exit_info(&self) -> Option<ExitInfo> {
        // SAFETY: `pidfd_info` is plain integers, for which all zeroes is a value.
        let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
        info.mask = u64::from(libc::PIDFD_INFO_EXIT | libc::PIDFD_INFO_CGROUPID);
        // SAFETY: the request number encodes the size of `pidfd_info`, which is what the pointer leads to.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        let has = |bit: libc::c_uint| info.mask & u64::from(bit) != 0;
        (result == 0 && has(libc::PIDFD_INFO_EXIT)).then(|| ExitInfo {
            status: info.exit_code,
            cgroup: has(libc::PIDFD_INFO_CGROUPID).then_some(info.cgroupid),
        })
    }
}

impl AsFd for Pinned {
    /// The pidfd, which polls readable at the end of the process.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn pidfd_open(pid: u32) -> Result<OwnedFd, ProcessError> {
    let number = i32::try_from(pid).map_err(|_| ProcessError::Gone { pid })?;
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(ProcessError::call("pidfd_open", pid)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_key_from_another_time_is_refused() {
        let mut child = sleeper();
        let key = Pinned::of_pid(child.id()).unwrap().key();
        assert!(Pinned::open(key).is_ok());
        let within_the_tick = ProcessKey::new(key.pid, key.start + tick_ns() - 1);
        assert!(Pinned::open(within_the_tick).is_ok());
        for start in [key.start + tick_ns(), key.start - 1, 0] {
            let error = Pinned::open(ProcessKey::new(key.pid, start)).unwrap_err();
            assert!(
                matches!(error, ProcessError::Replaced { .. }) && error.is_gone(),
                "{error}"
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_signal_reaches_the_pinned_process_and_later_ones_say_it_is_gone() {
        let mut child = sleeper();
        let pinned = Pinned::of_pid(child.id()).unwrap();
        assert!(pinned.is_alive());
        assert_eq!(pinned.exit_info(), None);
        pinned.signal(libc::SIGTERM).unwrap();
        child.wait().unwrap();
        assert!(!pinned.is_alive());
        assert!(pinned.signal(libc::SIGTERM).unwrap_err().is_gone());
        assert!(Pinned::open(pinned.key()).unwrap_err().is_gone());
    }

    #[test]
    fn the_exit_status_of_a_reaped_process_is_told_where_the_kernel_keeps_it() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 0.2; exit 7"])
            .spawn()
            .unwrap();
        let pinned = Pinned::of_pid(child.id()).unwrap();
        child.wait().unwrap();
        match pinned.exit_info() {
            Some(info) => assert_eq!(info.status, 7 << 8),
            None => assert!(kernel_before_6_15(), "this kernel keeps exit statuses"),
        }
    }

    fn kernel_before_6_15() -> bool {
        let release = file::read("/proc/sys/kernel/osrelease".as_ref()).unwrap();
        let version: procfs::KernelVersion = release.trim().parse().unwrap();
        (version.major, version.minor) < (6, 15)
    }

    #[test]
    fn a_pid_that_cannot_be_is_gone() {
        assert!(Pinned::of_pid(u32::MAX).unwrap_err().is_gone());
        assert!(Pinned::of_pid(4_194_304).unwrap_err().is_gone());
    }
}
