//! What fast placement costs everybody: each fork and exit takes the other side of the lock that it makes cheap for moves.
//!
//! It cannot be switched to and fro (on Linux 6.18 it stays until the next boot), so this is a before and an after, and the
//! rounds of each side tell how far they can be trusted.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use super::super::stats::Summary;
use super::{Settings, cost};

/// Threads started and joined in one round; a thread takes the lock as a process does, and little else.
const THREADS: u32 = 2_000;

/// The machine in one mode. One figure a round, each the mean of that round.
#[derive(Debug, Serialize)]
pub(super) struct Births {
    /// A thread's start and end, microseconds.
    pub(super) thread_us: Summary,
    /// Start and end of `/bin/true`, microseconds.
    pub(super) exec_us: Summary,
}

/// Measures the machine as it is now.
pub(super) fn measure(settings: &Settings) -> Result<Births> {
    // The first starts read the program from disk.
    cost::spawn_true(settings.spawns_a_leg)?;
    let (mut threads, mut execs) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        threads.push(thread_us()?);
        execs.push(1e6 / cost::spawn_true(settings.spawns_a_leg)?);
    }
    Ok(Births {
        thread_us: Summary::of(threads),
        exec_us: Summary::of(execs),
    })
}

fn thread_us() -> Result<f64> {
    let began = Instant::now();
    for _ in 0..THREADS {
        let thread = std::thread::Builder::new()
            .spawn(|| {})
            .context("starting a thread")?;
        if thread.join().is_err() {
            anyhow::bail!("a thread that does nothing panicked");
        }
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(THREADS))
}
