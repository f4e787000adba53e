//! What only the governor itself can tell: from an exec to its decision, and how fast placement was had.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::super::stats::Summary;
use super::Settings;
use super::target::Target;
use crate::session::Session;

/// From the end of the last process to its closed record.
const RECORD_LIMIT: Duration = Duration::from_secs(20);

/// A governor that has just started still reads /proc and writes its ledger.
const SETTLE: Duration = Duration::from_secs(2);

/// Life of each process, microseconds.
const LIFE_US: u64 = 50_000;

/// From the exec to the step in which a rule matched, microseconds, as `ffrtmp explain` tells it.
#[derive(Debug, Serialize)]
pub(super) struct Decided {
    /// Of starts far apart.
    pub(super) lone: Summary,
    /// Of starts back to back.
    pub(super) storm: Summary,
}

/// Measures both.
pub(super) fn decided(binaries: &Path, settings: &Settings, extra: &str) -> Result<Decided> {
    let target = Target::new(binaries)?;
    let session = Session::start(binaries, &format!("{extra}{}", target.rules()))?;
    std::thread::sleep(SETTLE);
    let gap = Duration::from_millis(settings.lone_gap_ms);
    let lone = started(&target, settings.decisions, gap)?;
    let storm = started(&target, settings.decisions * 3, Duration::ZERO)?;
    closed(&session, lone.len() + storm.len())?;
    let decided = Decided {
        lone: decisions(&session, &lone)?,
        storm: decisions(&session, &storm)?,
    };
    session.close()?;
    Ok(decided)
}

fn decisions(session: &Session, pids: &[u32]) -> Result<Summary> {
    let mut decided = Vec::new();
    for pid in pids {
        decided.extend(decision(&session.explain(*pid)?));
    }
    Ok(Summary::of(decided))
}

fn started(target: &Target, count: usize, gap: Duration) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for id in 0..count {
        children.push(target.start(id, LIFE_US)?);
        std::thread::sleep(gap);
    }
    let mut pids = Vec::new();
    for mut child in children {
        child.wait().context("waiting for a target")?;
        pids.push(child.id());
    }
    Ok(pids)
}

/// Waits until so many records are closed.
fn closed(session: &Session, count: usize) -> Result<()> {
    let deadline = Instant::now() + RECORD_LIMIT;
    loop {
        let views = session.jobs()?;
        let closed = views.iter().filter(|view| !view["report"]["end_time"].is_null());
        let closed = closed.count();
        if closed >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "{closed} of {count} records are closed; the governor said:\n{}",
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

/// Lets a governor switch fast placement on, and returns what it says of it.
pub(super) fn ladder(binaries: &Path) -> Result<Option<String>> {
    let target = Target::new(binaries)?;
    let session = Session::start(binaries, &format!("fast_placement: true\n{}", target.rules()))?;
    std::thread::sleep(SETTLE);
    let line = &session.status()?["fast_placement"];
    let said = line["text"].as_str().map(str::to_owned);
    session.close()?;
    Ok(said)
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
