//! Of many short lives at full rate, how many leave a record, and how many of those their arguments: with the governor at
//! work, stopped for a while, and dead, up to the record map's capacity and far beyond it.
//!
//! How many there were is the referee's word. What became of them is read from the ledger, and from the kernel's own
//! count of what it refused.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::Settings;
use super::lives;
use super::referee::Referee;
use super::storm::{Life, Pace, Starts};
use super::target::Target;
use crate::session::{Pins, Session};

/// Records that the kernel's map holds by default.
const RECORDS: usize = 65_536;

/// Targets that live at the same time.
const WIDTH: usize = 4;

/// How long a stopped governor is stopped.
const STOP: Duration = Duration::from_secs(2);

/// Without a new record for so long, no more are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the governor does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum State {
    /// Its work.
    Running,
    /// Nothing for two seconds, from the first start on.
    Stopped,
    /// It was killed before the first start, and starts again after the last end.
    Dead,
}

/// One way of losing them.
#[derive(Debug, Serialize)]
pub(super) struct Leg {
    /// What the governor did meanwhile.
    pub(super) state: State,
    /// Records that the kernel's map holds.
    pub(super) room: usize,
    /// Lives the referee saw.
    pub(super) lives: usize,
    /// Closed records in the ledger afterwards.
    pub(super) recorded: usize,
    /// Different lives among those records that have their arguments.
    pub(super) with_arguments: usize,
    /// Lives that the kernel's side counted as refused.
    pub(super) refused: usize,
    /// Starts a second.
    pub(super) per_s: f64,
    /// From the last end to the last record, seconds.
    pub(super) caught_up_s: f64,
}

impl Leg {
    /// Lives of which nothing is known, not even a count. Negative when something was counted twice.
    pub(super) fn lost(&self) -> i64 {
        self.lives as i64 - self.recorded as i64 - self.refused as i64
    }
}

/// Measures all of them.
pub(super) fn measure(binaries: &Path, settings: &Settings) -> Result<Vec<Leg>> {
    let legs = [
        (State::Running, settings.short_lives, RECORDS),
        (State::Stopped, settings.short_lives, RECORDS),
        (State::Dead, settings.dead_lives, RECORDS),
        (State::Dead, settings.flood_lives, settings.flood_records),
    ];
    let target = Target::new(binaries)?;
    legs.into_iter()
        .map(|(state, count, records)| {
            println!(
                "   {count} lives, the governor {}, room for {records}",
                name(state)
            );
            leg(binaries, &target, state, count, records)
                .with_context(|| format!("the governor {}", name(state)))
        })
        .collect()
}

/// In words.
pub(super) fn name(state: State) -> &'static str {
    match state {
        State::Running => "at work",
        State::Stopped => "stopped for 2 s",
        State::Dead => "dead",
    }
}

fn leg(binaries: &Path, target: &Target, state: State, count: usize, records: usize) -> Result<Leg> {
    let rules = format!("records: {records}\n{}", target.rules());
    let mut session = Session::with(binaries, &rules, Pins::Own)?;
    let referee = Referee::watch(target.path(), target, None)?;
    let starts = Starts {
        count,
        life: Life::Short,
        pace: Pace::AtOnce(WIDTH),
    };
    let per_s = match state {
        State::Running => starts.run(target, 0)?,
        State::Stopped => stopped(&session, starts, target)?,
        State::Dead => {
            session.end(Signal::SIGKILL)?;
            let per_s = starts.run(target, 0)?;
            session.relaunch()?;
            session.wait_until_ready()?;
            per_s
        }
    };
    let ended = Instant::now();
    let lives = lives::join(referee.verdict()?).len();
    if lives != count {
        bail!("the referee saw {lives} of {count} starts");
    }
    let refused = || -> Result<usize> {
        let status = session.status()?;
        let refused = status["counters"]["kernel_refused"].as_u64();
        Ok(refused.context("the governor does not say what was refused")? as usize)
    };
    let last = wait(&session, lives.saturating_sub(refused()?))?;
    let (recorded, with_arguments) = counted(&session)?;
    let leg = Leg {
        state,
        room: records,
        lives,
        recorded,
        with_arguments,
        refused: refused()?,
        per_s,
        caught_up_s: last.saturating_duration_since(ended).as_secs_f64(),
    };
    if leg.lost() != 0 {
        println!("   the governor said:\n{}", session.log());
    }
    session.close()?;
    Ok(leg)
}

/// Runs the starts beside a thread that lets the governor go on after a while.
fn stopped(session: &Session, starts: Starts, target: &Target) -> Result<f64> {
    session.signal(Signal::SIGSTOP)?;
    std::thread::scope(|scope| {
        let continued = scope.spawn(|| {
            std::thread::sleep(STOP);
            session.signal(Signal::SIGCONT)
        });
        let ran = starts.run(target, 0);
        match continued.join() {
            Ok(continued) => continued?,
            Err(_) => bail!("the thread that lets the governor go on panicked"),
        }
        ran
    })
}

/// Waits until so many records are closed, or no more come; returns when the last one was seen to be there.
fn wait(session: &Session, wanted: usize) -> Result<Instant> {
    let (mut most, mut last) = (0, Instant::now());
    loop {
        let now = closed(session)?;
        if now > most {
            (most, last) = (now, Instant::now());
        }
        if most >= wanted || last.elapsed() > PATIENCE {
            return Ok(last);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn closed(session: &Session) -> Result<usize> {
    let count: i64 = open(session)?
        .query_row("SELECT count(*) FROM jobs WHERE closed = 1", [], |row| row.get(0))
        .context("counting records")?;
    Ok(count as usize)
}

/// Closed records, and different lives among those that have their arguments.
fn counted(session: &Session) -> Result<(usize, usize)> {
    let ledger = open(session)?;
    let (records, lives): (i64, i64) = ledger
        .query_row(
            "SELECT count(*), count(DISTINCT json_extract(view, '$.report.command[2]')) FROM jobs WHERE closed = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .context("counting arguments")?;
    Ok((records as usize, lives as usize))
}

fn open(session: &Session) -> Result<Connection> {
    Connection::open_with_flags(session.ledger(), OpenFlags::SQLITE_OPEN_READ_ONLY)
        .context("opening the governor's ledger")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_and_counted_is_not_lost() {
        let leg = |recorded, refused| Leg {
            state: State::Dead,
            room: 1_000,
            lives: 100,
            recorded,
            with_arguments: recorded,
            refused,
            per_s: 1.0,
            caught_up_s: 0.0,
        };
        assert_eq!(leg(100, 0).lost(), 0);
        assert_eq!(leg(60, 40).lost(), 0);
        assert_eq!(leg(60, 39).lost(), 1);
        assert_eq!(leg(61, 40).lost(), -1);
    }
}
