//! What a governor costs that has nothing to do: how often it wakes, and its memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Settings;
use super::target::Target;
use crate::session::Session;

/// After the start, until what belongs to the start is over.
const SETTLE: Duration = Duration::from_secs(5);

/// An idle governor.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    /// Seconds it was watched.
    pub(super) seconds: u64,
    /// Context switches of all its threads in that time, voluntary and not.
    pub(super) switches: u64,
    /// Its threads.
    pub(super) threads: usize,
    /// Anonymous resident memory, KiB.
    pub(super) rss_anon_kib: Option<u64>,
    /// Resident memory, KiB.
    pub(super) rss_kib: Option<u64>,
}

/// Watches one.
pub(super) fn measure(binaries: &Path, settings: &Settings) -> Result<Idle> {
    let target = Target::new(binaries)?;
    let session = Session::start(binaries, &target.rules())?;
    let pid = session.governor_pid();
    std::thread::sleep(SETTLE);
    let (before, _) = switches(pid)?;
    std::thread::sleep(Duration::from_secs(settings.idle_s));
    let (after, threads) = switches(pid)?;
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    session.close()?;
    Ok(Idle {
        seconds: settings.idle_s,
        switches: after.saturating_sub(before),
        threads,
        rss_anon_kib: field(&status, "RssAnon"),
        rss_kib: field(&status, "VmRSS"),
    })
}

/// Context switches of all threads so far, and how many threads there are.
fn switches(pid: u32) -> Result<(u64, usize)> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).with_context(|| format!("listing {directory}"))?;
    let (mut sum, mut threads) = (0, 0);
    for entry in entries.flatten() {
        let path = entry.path().join("status");
        let status = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for name in ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"] {
            sum += field(&status, name).with_context(|| format!("{name} in {}", path.display()))?;
        }
        threads += 1;
    }
    Ok((sum, threads))
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
}
