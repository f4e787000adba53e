//! From an exec to the moment the process sits in its group: ours as the records tell it, the peer's by the clock.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::Settings;
use super::scan::Scan;
use super::stats::Summary;
use super::target::Target;
use crate::session::Session;

/// From the end of the last process to its closed record.
const RECORD_LIMIT: Duration = Duration::from_secs(20);

/// A governor that has just started still reads /proc and writes its ledger; lone starts wait for that.
const SETTLE: Duration = Duration::from_secs(2);

/// How the targets are started.
#[derive(Clone, Copy)]
pub(super) struct Starts {
    count: usize,
    gap: Duration,
}

impl Starts {
    /// One by one, so far apart that the kernel has forgotten the last one.
    pub(super) fn lone(settings: &Settings) -> Self {
        Self {
            count: settings.lone_starts,
            gap: Duration::from_millis(settings.lone_gap_ms),
        }
    }

    /// Back to back.
    pub(super) fn storm(settings: &Settings) -> Self {
        Self {
            count: settings.storm_starts,
            gap: Duration::ZERO,
        }
    }
}

/// The governor and the scan on the same starts. All times are microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    /// Number of starts, each way.
    pub(super) starts: usize,
    /// From the exec to the core's having the process in hand.
    pub(super) decided_us: Summary,
    /// From the exec to the last move.
    pub(super) placed_us: Summary,
    /// From the return of the spawn to the scan's move, of those it moved.
    pub(super) scan_placed_us: Summary,
}

struct Started {
    child: Child,
    at: Instant,
}

/// Measures both.
pub(super) fn compare(binaries: &Path, settings: &Settings, starts: Starts) -> Result<Compared> {
    let target = Target::new(binaries)?;
    let (decided, placed) = governed(binaries, &target, settings, starts)?;
    Ok(Compared {
        starts: starts.count,
        decided_us: Summary::of(decided),
        placed_us: Summary::of(placed),
        scan_placed_us: Summary::of(scanned(&target, settings, starts)?),
    })
}

fn start_all(target: &Target, settings: &Settings, starts: Starts) -> Result<Vec<Started>> {
    let life_us = u64::try_from(settings.life().as_micros()).context("a life in microseconds")?;
    let mut started = Vec::new();
    for id in 0..starts.count {
        let child = target.start(id, life_us)?;
        // The spawn returns at the exec, because the parent waits for it.
        let at = Instant::now();
        started.push(Started { child, at });
        if !starts.gap.is_zero() {
            std::thread::sleep(starts.gap);
        }
    }
    for one in &mut started {
        one.child.wait().context("waiting for a target")?;
    }
    Ok(started)
}

fn governed(
    binaries: &Path,
    target: &Target,
    settings: &Settings,
    starts: Starts,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let session = Session::start(binaries, &target.rules())?;
    std::thread::sleep(SETTLE);
    let started = start_all(target, settings, starts)?;
    let views = closed(&session, starts.count)?;
    let placed: Vec<f64> = views
        .iter()
        .filter_map(|view| view["report"]["placement"]["placed_in_us"].as_f64())
        .collect();
    let mut decided = Vec::new();
    for one in &started {
        decided.extend(decision(&session.explain(one.child.id())?));
    }
    session.close()?;
    if placed.len() < starts.count {
        println!(
            "   {} of {} were not placed",
            starts.count - placed.len(),
            starts.count
        );
    }
    Ok((decided, placed))
}

/// Waits until so many records are closed.
pub(super) fn closed(session: &Session, count: usize) -> Result<Vec<Value>> {
    let deadline = Instant::now() + RECORD_LIMIT;
    loop {
        let mut views = session.jobs()?;
        views.retain(|view| !view["report"]["end_time"].is_null());
        if views.len() >= count {
            return Ok(views);
        }
        if Instant::now() > deadline {
            bail!(
                "{} of {count} records are closed; the governor said:\n{}",
                views.len(),
                session.log()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Microseconds from the exec to the step in which a rule matched.
fn decision(explained: &Value) -> Option<f64> {
    let steps = explained["steps"].as_array()?;
    let step = steps.iter().find(|step| {
        let what = step["what"].as_str().unwrap_or_default();
        what.starts_with("rule `") && what.contains("matched")
    })?;
    step["at_us"].as_f64()
}

fn scanned(target: &Target, settings: &Settings, starts: Starts) -> Result<Vec<f64>> {
    let scan = Scan::start(target.name(), Duration::from_millis(settings.scan_interval_ms))?;
    let started = start_all(target, settings, starts)?;
    let delays = started.iter().filter_map(|one| {
        let sighting = scan.sighting(one.child.id()).filter(|sighting| sighting.moved)?;
        Some(sighting.at.duration_since(one.at).as_secs_f64() * 1e6)
    });
    Ok(delays.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_decision_is_the_step_of_the_rule() {
        let explained = json!({"steps": [
            {"at_us": 0, "what": "pid 7 executed: x"},
            {"at_us": 21, "what": "rule `bench` matched: class `bench`"},
            {"at_us": 90, "what": "placed"},
        ]});
        assert_eq!(decision(&explained), Some(21.0));
        assert_eq!(
            decision(&json!({"steps": [{"at_us": 0, "what": "no rule wants it"}]})),
            None
        );
    }
}
