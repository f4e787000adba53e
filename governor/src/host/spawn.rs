//! Starts a program in two steps: first a process that waits before its exec, then, once somebody has put it under
//! limits, the exec itself. Also waits for such a child with its own sums.
//!
//! Refuses to decide anything: no group, limit or signal is touched here. If the parent dies before it gave the
//! go-ahead, the waiting process leaves with [`NEVER_STARTED`]: a program nobody follows any more, and that was never
//! seen running, is better not started than started unwatched.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Status of a process whose parent died before it gave the go-ahead; the shell convention for "the wrapper failed".
pub const NEVER_STARTED: i32 = 125;

/// What to start.
#[derive(Debug)]
pub struct Program {
    /// Path of the executable, absolute.
    pub path: PathBuf,
    /// What the program sees as its own name.
    pub name: OsString,
    /// Its arguments, without the name.
    pub args: Vec<OsString>,
    /// Working directory; `None` for ours.
    pub workdir: Option<PathBuf>,
    /// Where it reads from.
    pub stdin: Stdin,
    /// Where it writes its output; `None` for our own standard output.
    pub stdout: Option<OwnedFd>,
}

/// Where a program reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing to read. A program in a background process group would be stopped when it read the terminal.
    Null,
    /// Our own standard input.
    Inherited,
}

/// Why a program did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No pipe could be made.
    #[error("make the pipes to the new process")]
    Pipe(#[source] Errno),
    /// No process could be made.
    #[error("fork")]
    Fork(#[source] io::Error),
    /// The kernel would not execute the program.
    #[error("execute {}", path.display())]
    Exec {
        /// The program.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The thread that forks ended without an answer.
    #[error("the thread that starts the program ended early")]
    Thread,
}

/// A process that waits before its exec, in a process group of its own.
#[derive(Debug)]
pub struct Held {
    pid: u32,
    path: PathBuf,
    go: OwnedFd,
    forker: JoinHandle<io::Result<()>>,
}

impl Held {
    /// Forks and returns when the new process waits.
    pub fn start(program: Program) -> Result<Self, SpawnError> {
        let (tell_read, tell_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(SpawnError::Pipe)?;
        let (go_read, go_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(SpawnError::Pipe)?;
        let path = program.path.clone();
        let mut command = prepare(program);
        hold_before_exec(&mut command, tell_write, go_read, go_write.as_raw_fd());
        // `spawn` returns only after the exec, so the fork needs a thread of its own.
        let forker = std::thread::spawn(move || command.spawn().map(drop));
        match read_pid(&tell_read) {
            Ok(Some(pid)) => Ok(Self {
                pid,
                path,
                go: go_write,
                forker,
            }),
            Ok(None) | Err(_) => match forker.join() {
                Ok(Err(source)) => Err(SpawnError::Fork(source)),
                Ok(Ok(())) | Err(_) => Err(SpawnError::Thread),
            },
        }
    }

    /// Pid of the waiting process, which its program keeps.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the process execute its program; returns when it does.
    pub fn release(self) -> Result<(), SpawnError> {
        let Self {
            pid: _,
            path,
            go,
            forker,
        } = self;
        let told = nix::unistd::write(&go, &[1]);
        drop(go);
        match forker.join() {
            Ok(Ok(())) if told.is_ok() => Ok(()),
            Ok(Ok(())) | Err(_) => Err(SpawnError::Thread),
            Ok(Err(source)) => Err(SpawnError::Exec { path, source }),
        }
    }

    /// Lets the process go without executing anything; it leaves with [`NEVER_STARTED`].
    pub fn abandon(self) {
        drop(self.go);
        let _never_executed = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid as i32), None);
    }
}

fn prepare(program: Program) -> Command {
    let mut command = Command::new(program.path);
    command.arg0(program.name).args(program.args).process_group(0);
    if let Some(workdir) = program.workdir {
        command.current_dir(workdir);
    }
    command.stdin(match program.stdin {
        Stdin::Null => Stdio::null(),
        Stdin::Inherited => Stdio::inherit(),
    });
    if let Some(stdout) = program.stdout {
        command.stdout(Stdio::from(stdout));
    }
    command
}

fn hold_before_exec(command: &mut Command, tell: OwnedFd, go: OwnedFd, parents_end: i32) {
    let hold = move || {
        // SAFETY: `parents_end` is this process's copy of a descriptor that only the parent uses; nothing in the child
        // refers to it. Without closing it the read below would never see the parent's death.
        unsafe { libc::close(parents_end) };
        nix::unistd::write(&tell, &std::process::id().to_ne_bytes())?;
        loop {
            match nix::unistd::read(&go, &mut [0]) {
                Ok(1) => return Ok(()),
                // SAFETY: `_exit` is async-signal-safe and runs no destructor of the parent's state.
                Ok(_) => unsafe { libc::_exit(NEVER_STARTED) },
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    };
    // SAFETY: between fork and exec only close, write, getpid, read and _exit are called, all async-signal-safe, and
    // nothing is allocated: the closure owns two descriptors and an integer.
    unsafe { command.pre_exec(hold) };
}

fn read_pid(tell: &OwnedFd) -> Result<Option<u32>, Errno> {
    let mut bytes = [0u8; 4];
    loop {
        match nix::unistd::read(tell, &mut bytes) {
            // Four bytes are below PIPE_BUF: they arrive together or not at all.
            Ok(4) => return Ok(Some(u32::from_ne_bytes(bytes))),
            Ok(_) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a wait for our own child saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Waited {
    /// It was stopped by job control and may go on.
    Stopped,
    /// It ended.
    Ended(Ended),
}

/// How our own child ended, with the sums the kernel keeps for its parent (its own waited-for children included).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// Wait status.
    pub status: i32,
    /// Seconds in user mode.
    pub user_sec: f64,
    /// Seconds in the kernel.
    pub system_sec: f64,
    /// Largest resident memory of any single process, bytes.
    pub max_rss_bytes: u64,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written towards block devices.
    pub write_bytes: u64,
    /// Voluntary switches.
    pub voluntary_switches: u64,
    /// Involuntary switches.
    pub involuntary_switches: u64,
}

/// Blocks until our child `pid` ends, or is stopped. The child is reaped when it ended.
pub fn wait_for(pid: u32) -> Result<Waited, Errno> {
    let mut status = 0;
    // SAFETY: `rusage` is plain integers, for which all zeroes is a value.
    let mut sums: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live, exclusively borrowed locals of the right type.
        let found = unsafe { libc::wait4(pid as i32, &raw mut status, libc::WUNTRACED, &raw mut sums) };
        match Errno::result(found) {
            Ok(_) if libc::WIFSTOPPED(status) => return Ok(Waited::Stopped),
            Ok(_) => return Ok(Waited::Ended(ended(status, &sums))),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn ended(status: i32, sums: &libc::rusage) -> Ended {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ended {
        status,
        user_sec: seconds(sums.ru_utime),
        system_sec: seconds(sums.ru_stime),
        // Linux counts ru_maxrss in KiB and ru_inblock, ru_oublock in blocks of 512 bytes (getrusage(2)).
        max_rss_bytes: sums.ru_maxrss as u64 * 1024,
        read_bytes: sums.ru_inblock as u64 * 512,
        write_bytes: sums.ru_oublock as u64 * 512,
        voluntary_switches: sums.ru_nvcsw as u64,
        involuntary_switches: sums.ru_nivcsw as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &str, args: &[&str]) -> Program {
        Program {
            path: PathBuf::from(path),
            name: OsString::from(path),
            args: args.iter().map(OsString::from).collect(),
            workdir: None,
            stdin: Stdin::Null,
            stdout: None,
        }
    }

    fn status(pid: u32) -> i32 {
        match wait_for(pid).unwrap() {
            Waited::Ended(ended) => ended.status,
            Waited::Stopped => panic!("stopped"),
        }
    }

    #[test]
    fn a_held_process_executes_nothing_before_the_go_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made");
        let held = Held::start(program("/bin/touch", &[file.to_str().unwrap()])).unwrap();
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", held.pid())).unwrap();
        assert_ne!(comm.trim(), "touch");
        assert!(!file.exists());
        let pid = held.pid();
        held.release().unwrap();
        assert_eq!(status(pid), 0);
        assert!(file.exists());
    }

    #[test]
    fn an_abandoned_process_never_executes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made");
        Held::start(program("/bin/touch", &[file.to_str().unwrap()]))
            .unwrap()
            .abandon();
        assert!(!file.exists());
    }

    #[test]
    fn a_program_that_cannot_be_executed_says_so_after_the_go_ahead() {
        let held = Held::start(program("/nonexistent/program", &[])).unwrap();
        match held.release() {
            Err(SpawnError::Exec { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_child_leads_its_own_process_group_and_reads_nothing() {
        let held = Held::start(program(
            "/bin/sh",
            &["-c", "read x; test $? = 1 && test $(ps -o pgid= -p $$) = $$"],
        ))
        .unwrap();
        let pid = held.pid();
        held.release().unwrap();
        assert_eq!(status(pid), 0);
    }

    #[test]
    fn the_sums_of_a_busy_child_are_not_zero() {
        let held = Held::start(program(
            "/bin/sh",
            &["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"],
        ))
        .unwrap();
        let pid = held.pid();
        held.release().unwrap();
        match wait_for(pid).unwrap() {
            Waited::Ended(ended) => {
                assert_eq!(ended.status, 3 << 8);
                assert!(0.0 < ended.user_sec + ended.system_sec);
                assert!(0 < ended.max_rss_bytes);
            }
            Waited::Stopped => panic!("stopped"),
        }
    }
}
