//! What a governor costs that has nothing to do: how often it wakes, and its memory.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::Settings;
use super::process::{self, Memory};
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
    /// Its memory.
    pub(super) memory: Memory,
}

/// Watches one.
pub(super) fn measure(binaries: &Path, settings: &Settings) -> Result<Idle> {
    let target = Target::new(binaries)?;
    let session = Session::start(binaries, &target.rules())?;
    let pid = session.governor_pid();
    std::thread::sleep(SETTLE);
    let (before, _) = process::switches(pid)?;
    std::thread::sleep(Duration::from_secs(settings.idle_s));
    let (after, threads) = process::switches(pid)?;
    let memory = process::memory(pid)?;
    session.close()?;
    Ok(Idle {
        seconds: settings.idle_s,
        switches: after.saturating_sub(before),
        threads,
        memory,
    })
}
