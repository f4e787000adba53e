//! What the kernel says of a running process: CPU time, memory, context switches, priority. Reads, and sets a priority
//! where it is asked to.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;

/// Scheduling of every thread of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Priority {
    /// `SCHED_OTHER`, nice 0.
    Normal,
    /// `SCHED_FIFO` 1. Of the governor it is the thread that places, which sets it by itself.
    Fifo,
}

impl Priority {
    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "FIFO 1",
        }
    }

    /// Gives it to all threads of a process.
    pub(super) fn give(self, pid: u32) -> Result<()> {
        let (policy, priority) = match self {
            Self::Normal => ("--other", "0"),
            Self::Fifo => ("--fifo", "1"),
        };
        let status = Command::new("chrt")
            .args(["--all-tasks", policy, "--pid", priority, &pid.to_string()])
            .status()
            .context("starting chrt")?;
        if !status.success() {
            bail!("chrt {policy} of process {pid}: {status}");
        }
        Ok(())
    }
}

/// Resident memory, KiB.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Memory {
    /// Anonymous.
    pub(super) anon_kib: Option<u64>,
    /// All of it.
    pub(super) resident_kib: Option<u64>,
}

/// CPU time of all threads so far, those that have ended included, nanoseconds.
pub(super) fn cpu_ns(pid: u32) -> Result<u64> {
    let clock =
        clock_getcpuclockid(Pid::from_raw(pid as i32)).context("looking for a process's CPU clock")?;
    let time = clock_gettime(clock).context("reading a process's CPU clock")?;
    Ok(Duration::from(time).as_nanos() as u64)
}

/// Its memory.
pub(super) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(Memory {
        anon_kib: field(&status, "RssAnon"),
        resident_kib: field(&status, "VmRSS"),
    })
}

/// Context switches of all threads so far, and how many threads there are.
pub(super) fn switches(pid: u32) -> Result<(u64, usize)> {
    let (mut sum, mut count) = (0, 0);
    for thread in threads(pid)? {
        let path = thread.join("status");
        let status = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for name in ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"] {
            sum += field(&status, name).with_context(|| format!("{name} in {}", path.display()))?;
        }
        count += 1;
    }
    Ok((sum, count))
}

fn threads(pid: u32) -> Result<Vec<PathBuf>> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).with_context(|| format!("listing {directory}"))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The number of one line of a status file.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmRSS:\t  2048 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "VmRSS"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches"), Some(7));
        assert_eq!(field(status, "RssAnon"), None);
    }

    #[test]
    fn our_own_figures_are_to_be_had() {
        let pid = std::process::id();
        assert!(cpu_ns(pid).is_ok_and(|ns| ns > 0));
        assert!(memory(pid).is_ok_and(|memory| memory.anon_kib > Some(0)));
    }
}
