//! Of many short lives at full rate, how many leave a record: ours, and what a scan of /proc sees.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde_json::Value;

use super::Settings;
use super::scan::Scan;
use super::target::Target;
use crate::session::Session;

/// Starts between two looks at the records: the governor lists no more than 1,000 closed ones.
const BATCH: usize = 500;

/// Longest life, microseconds.
const LIFE_MAX_US: u64 = 5_000;

/// From the end of a batch to its last record.
const RECORD_LIMIT: Duration = Duration::from_secs(30);

/// The governor and the scan on the same lives.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    /// Number of lives, each way.
    pub(super) lives: usize,
    /// Lives with a closed record of their own arguments.
    pub(super) recorded: usize,
    /// Lives whose pid the scan saw.
    pub(super) scan_saw: usize,
    /// Starts a second while the governor ran.
    pub(super) per_s: f64,
}

/// Measures both.
pub(super) fn compare(binaries: &Path, settings: &Settings) -> Result<Compared> {
    let target = Target::new(binaries)?;
    let (recorded, per_s) = governed(binaries, &target, settings.short_lives)?;
    Ok(Compared {
        lives: settings.short_lives,
        recorded,
        scan_saw: scanned(&target, settings)?,
        per_s,
    })
}

/// 0 to 5 ms; every other one does not sleep at all.
fn life_us(id: usize) -> u64 {
    if id.is_multiple_of(2) {
        return 0;
    }
    (id as u64 * 37) % LIFE_MAX_US
}

/// Runs the lives of these numbers on every core at once; returns their pids.
fn live(target: &Target, from: usize, to: usize) -> Result<Vec<u32>> {
    let next = AtomicUsize::new(from);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let one = || -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        loop {
            let id = next.fetch_add(1, Ordering::Relaxed);
            if id >= to {
                return Ok(pids);
            }
            let mut child = target.start(id, life_us(id))?;
            pids.push(child.id());
            child.wait().context("waiting for a target")?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let mut pids = Vec::new();
        for worker in workers {
            pids.extend(worker.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(pids)
    })
}

fn governed(binaries: &Path, target: &Target, lives: usize) -> Result<(usize, f64)> {
    let session = Session::start(binaries, &target.rules())?;
    let mut recorded = HashSet::new();
    let mut busy = Duration::ZERO;
    for from in (0..lives).step_by(BATCH) {
        let to = (from + BATCH).min(lives);
        let began = Instant::now();
        live(target, from, to)?;
        busy += began.elapsed();
        collect(&session, from..to, &mut recorded)?;
    }
    session.close()?;
    Ok((recorded.len(), lives as f64 / busy.as_secs_f64()))
}

/// Waits for the records of a batch and notes those that are there.
fn collect(session: &Session, batch: std::ops::Range<usize>, recorded: &mut HashSet<usize>) -> Result<()> {
    let deadline = Instant::now() + RECORD_LIMIT;
    loop {
        let mut twice = HashSet::new();
        for view in session.jobs()? {
            let closed = !view["report"]["end_time"].is_null();
            if let Some(id) = id(&view).filter(|id| closed && batch.contains(id)) {
                if !twice.insert(id) {
                    bail!("life {id} has two records");
                }
                recorded.insert(id);
            }
        }
        if twice.len() == batch.len() || Instant::now() > deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The number of a life, from the arguments in its record.
fn id(view: &Value) -> Option<usize> {
    view["report"]["command"][2].as_str()?.parse().ok()
}

fn scanned(target: &Target, settings: &Settings) -> Result<usize> {
    let scan = Scan::start(target.name(), Duration::from_millis(settings.scan_interval_ms))?;
    let pids = live(target, 0, settings.short_lives)?;
    Ok(pids.iter().filter(|pid| scan.sighting(**pid).is_some()).count())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_life_is_known_by_its_argument() {
        let view = json!({"report": {"command": ["x", "--id", "42", "sleep-us", "0"]}});
        assert_eq!(id(&view), Some(42));
        assert_eq!(id(&json!({"report": {"command": null}})), None);
    }

    #[test]
    fn no_life_is_longer_than_five_milliseconds() {
        assert!((0..10_000).all(|id| life_us(id) < LIFE_MAX_US));
        assert!((0..10_000).any(|id| life_us(id) > LIFE_MAX_US / 2));
    }
}
