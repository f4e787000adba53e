//! Waiting for the end of a process that is not ours, by its descriptor.
//!
//! Blocks its thread; asks nothing on a timer.

use std::os::fd::AsFd;

use ffrtmp_governor::control::types::JobKey;
use ffrtmp_governor::host::process::{Pinned, read_stat, same_start, tick_ns};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::ending::Seen;

/// How long an ended process's parent may take to collect it before its status counts as not seen, milliseconds.
const COLLECT_MS: u16 = 1_000;

/// Blocks until the process has ended and its parent has collected it: its CPU seconds and its status.
pub(super) fn wait_for_end(process: &Pinned) -> (Option<f64>, Seen) {
    if let Err(error) = poll_pidfd(process, PollFlags::POLLIN, PollTimeout::NONE) {
        return (
            None,
            Seen::Nothing(format!("the wait for its end failed: {}", error.desc())),
        );
    }
    // Still in /proc until its parent collects it, so this is the last chance to read its sums.
    let cpu_sec = cpu_seconds(JobKey(process.key()));
    // A descriptor reports POLLHUP, which needs no asking for, when the parent has done so.
    let collected = poll_pidfd(process, PollFlags::empty(), PollTimeout::from(COLLECT_MS));
    let seen = match (process.exit_info(), collected) {
        (Some(exit), _) => Seen::Status(exit.status),
        (None, Ok(0)) => Seen::Nothing("its parent has not collected it".to_owned()),
        (None, _) => Seen::Nothing(
            "it is not our child, and before Linux 6.15 only the governor sees the status of a stranger"
                .to_owned(),
        ),
    };
    (cpu_sec, seen)
}

fn poll_pidfd(process: &Pinned, flags: PollFlags, timeout: PollTimeout) -> Result<i32, Errno> {
    loop {
        let mut fds = [PollFd::new(process.as_fd(), flags)];
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            answered => return answered,
        }
    }
}

fn cpu_seconds(key: JobKey) -> Option<f64> {
    let stat = read_stat(key.0.pid).ok()?;
    let ticks = stat.utime + stat.stime;
    same_start(key.0, stat.starttime).then(|| (ticks * tick_ns()) as f64 / 1e9)
}
