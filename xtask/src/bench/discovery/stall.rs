//! A contender stopped through a storm in which long-lived targets start, then continued: how many of those does it place,
//! and how soon. Whoever is told by a queue loses what does not fit, and only a look at the machine afterwards finds it.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;

use super::super::stats::Summary;
use super::Settings;
use super::lives::{self, Verdict};
use super::peer::{Running, Who};
use super::process::Priority;
use super::referee::Referee;
use super::storm::{Life, Pace, Starts};
use super::target::Target;

/// Targets that stay.
const STAYING: usize = 50;

/// Life of those, microseconds; they are ended long before.
const STAY_US: u64 = 300_000_000;

/// From the contender's return to the verdict.
const WAIT: Duration = Duration::from_secs(4);

/// One contender.
#[derive(Debug, Serialize)]
pub(super) struct Stall {
    /// Who.
    pub(super) who: Who,
    /// Short lives meanwhile.
    pub(super) storm: usize,
    /// Targets that stayed.
    pub(super) staying: usize,
    /// Those that were placed in the end.
    pub(super) placed: usize,
    /// From its return to each placement, milliseconds.
    pub(super) after_ms: Summary,
}

/// The governor, and the peer that places.
pub(super) fn measure(binaries: &Path, settings: &Settings, extra: &str) -> Result<Vec<Stall>> {
    [Who::Ours, Who::Cgrulesengd]
        .into_iter()
        .map(|who| one(who, binaries, settings, extra).with_context(|| who.name()))
        .collect()
}

fn one(who: Who, binaries: &Path, settings: &Settings, extra: &str) -> Result<Stall> {
    let target = Target::new(binaries)?;
    let running = Running::start(who, Priority::Fifo, binaries, &target, extra)?;
    let referee = Referee::watch(target.path(), &target, running.groups().as_deref())?;
    let pid = Pid::from_raw(running.pid() as i32);
    kill(pid, Signal::SIGSTOP).context("stopping it")?;
    let mut staying = Vec::new();
    let stormed = storm(&target, settings.stall_lives, &mut staying);
    let back = clock_gettime(ClockId::CLOCK_MONOTONIC).context("reading the clock")?;
    kill(pid, Signal::SIGCONT).context("continuing it")?;
    std::thread::sleep(WAIT);
    let pids: Vec<u32> = staying.iter().map(Child::id).collect();
    for mut child in staying {
        child.kill().context("ending a target")?;
        child.wait().context("waiting for a target")?;
    }
    stormed?;
    let lives = lives::join(referee.verdict()?);
    running.close()?;
    let back_us = Duration::from(back).as_nanos() as f64 / 1e3;
    let after = lives
        .iter()
        .filter(|life| pids.contains(&life.pid))
        .filter_map(|life| match life.verdict() {
            Verdict::Placed(us) => Some((life.exec_ns as f64 / 1e3 + us - back_us) / 1e3),
            Verdict::Late | Verdict::Missed => None,
        });
    let after_ms = Summary::of(after.collect());
    Ok(Stall {
        who,
        storm: settings.stall_lives,
        staying: pids.len(),
        placed: after_ms.count,
        after_ms,
    })
}

/// Short lives, with one that stays after every fiftieth part of them.
fn storm(target: &Target, lives: usize, staying: &mut Vec<Child>) -> Result<()> {
    let part = Starts {
        count: lives / STAYING,
        life: Life::Short,
        pace: Pace::AtOnce(4),
    };
    for number in 0..STAYING {
        part.run(target, number * part.count)?;
        staying.push(target.start(lives + number, STAY_US)?);
    }
    Ok(())
}
