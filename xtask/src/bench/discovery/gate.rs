//! The exec gate: whether a process sits in its group at its first instruction, and what its holder adds to an exec.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::super::stats::Summary;
use super::Settings;
use super::lives::{self, Verdict};
use super::referee::Referee;
use super::target::Target;
use crate::session::Session;

/// A gate that has just started is given its groups.
const SETTLE: Duration = Duration::from_secs(2);

/// Between two starts with and without the gate.
const GAP: Duration = Duration::from_millis(20);

/// Busy threads for each CPU of a saturated machine.
const BUSY: usize = 2;

/// The gate's figures.
#[derive(Debug, Serialize)]
pub(super) struct Gate {
    /// While the machine does nothing else.
    pub(super) idle: Held,
    /// While every CPU has more to do than it can.
    pub(super) saturated: Held,
}

/// What became of held execs.
#[derive(Debug, Serialize)]
pub(super) struct Held {
    /// Execs that the referee saw.
    pub(super) execs: usize,
    /// Those that were in their group before the exec was done.
    pub(super) in_time: usize,
    /// Start of a process without the gate, microseconds until its exec is done.
    pub(super) without_us: Summary,
    /// The same with it.
    pub(super) with_us: Summary,
    /// Of that the holder's own work, from the read of the event to the answer, as it tells: half of the execs,
    /// microseconds.
    pub(super) own_us: Option<u64>,
}

impl Held {
    /// What the gate adds to half of the execs, microseconds.
    pub(super) fn added_us(&self) -> Option<f64> {
        self.with_us
            .p50
            .zip(self.without_us.p50)
            .map(|(with, without)| with - without)
    }
}

/// Measures it on an idle machine and on a busy one.
pub(super) fn measure(binaries: &Path, settings: &Settings, extra: &str) -> Result<Gate> {
    let idle = held(binaries, settings, extra)?;
    let _busy = Busy::start()?;
    let saturated = held(binaries, settings, extra)?;
    Ok(Gate { idle, saturated })
}

fn held(binaries: &Path, settings: &Settings, extra: &str) -> Result<Held> {
    let target = Target::new(binaries)?;
    let session = Session::start(binaries, &format!("{extra}{}", target.gated_rules()))?;
    std::thread::sleep(SETTLE);
    let referee = Referee::watch(target.path(), &target, Some("ffrtmp.slice/"))?;
    let with_us = spawns(&target, settings.gate_starts)?;
    std::thread::sleep(SETTLE);
    let lives = lives::join(referee.verdict()?);
    let own_us = session.status()?["gate"]["moves"]["p50_us"].as_u64();
    session.close()?;
    let in_time = |verdict: Verdict| matches!(verdict, Verdict::Placed(us) if us <= 0.0);
    Ok(Held {
        execs: lives.len(),
        in_time: lives.iter().filter(|life| in_time(life.verdict())).count(),
        without_us: spawns(&target, settings.gate_starts)?,
        with_us,
        own_us,
    })
}

/// How long each start takes until its exec is done: the spawn returns then.
fn spawns(target: &Target, count: usize) -> Result<Summary> {
    let mut took = Vec::new();
    for id in 0..count {
        let began = Instant::now();
        let mut child = target.start(id, 1_000)?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
        child.wait().context("waiting for a target")?;
        std::thread::sleep(GAP);
    }
    Ok(Summary::of(took))
}

/// Threads that compute until this is dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let cpus = std::thread::available_parallelism()
            .context("counting CPUs")?
            .get();
        let threads = (0..cpus * BUSY)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        Ok(Self { stop, threads })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // They cannot fail.
            let _joined = thread.join();
        }
    }
}
