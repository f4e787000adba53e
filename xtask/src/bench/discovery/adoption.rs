//! From the start of a governor to its first placement of a process that began while there was none: by the tracepoints of
//! the governor's own exec and of the move. The first decision lies before it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::super::stats::Summary;
use super::Settings;
use super::lives::{Event, What};
use super::referee::Referee;
use super::target::Target;
use crate::session::{Pins, Session};

/// How long a governor may take.
const LIMIT: Duration = Duration::from_secs(10);

/// From the first sight of a placement to the end of the recording.
const MARGIN: Duration = Duration::from_millis(200);

/// Life of the process that runs already, microseconds; it is ended as soon as it was placed.
const LIFE_US: u64 = 60_000_000;

/// Measures it so many times; milliseconds. An ordered restart each time: three crashes within a minute would make the
/// governor only observe.
pub(super) fn measure(binaries: &Path, settings: &Settings) -> Result<Summary> {
    let target = Target::new(binaries)?;
    let mut session = Session::with(binaries, &target.rules(), Pins::Own)?;
    let mut figures = Vec::new();
    for id in 0..settings.adoptions {
        session.end(Signal::SIGTERM)?;
        let mut child = target.start(id, LIFE_US)?;
        let measured = once(&mut session, &target, child.id());
        child.kill().context("ending the target")?;
        child.wait().context("waiting for the target")?;
        figures.push(measured?);
    }
    session.close()?;
    Ok(Summary::of(figures))
}

fn once(session: &mut Session, target: &Target, pid: u32) -> Result<f64> {
    let referee = Referee::watch(&session.program(), target, Some("ffrtmp.slice/"))?;
    session.relaunch()?;
    let began = Instant::now();
    let groups = format!("/proc/{pid}/cgroup");
    while !std::fs::read_to_string(&groups)
        .with_context(|| format!("reading {groups}"))?
        .contains("ffrtmp.slice/")
    {
        if began.elapsed() > LIMIT {
            bail!(
                "the process was not placed; the governor said:\n{}",
                session.log()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    session.wait_until_ready()?;
    std::thread::sleep(MARGIN);
    let events = referee.verdict()?;
    between(&events, session.governor_pid(), pid).context("the referee did not see both ends")
}

/// Milliseconds from the governor's exec to the first move of the process.
fn between(events: &[Event], governor: u32, pid: u32) -> Option<f64> {
    let first = |wanted: u32, matches: &dyn Fn(What) -> bool| {
        let of_it = events
            .iter()
            .filter(|event| event.pid == wanted && matches(event.what));
        of_it.map(|event| event.at_ns).min()
    };
    let exec = first(governor, &|what| what == What::Execed)?;
    let moved = first(pid, &|what| matches!(what, What::Moved { .. }))?;
    Some(moved.checked_sub(exec)? as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_time_between_two_processes_events() {
        let event = |at_ns, pid, what| Event { at_ns, pid, what };
        let events = [
            event(1_000_000, 7, What::Execed),
            event(4_000_000, 9, What::Moved { hierarchy: 2 }),
            event(3_000_000, 9, What::Moved { hierarchy: 1 }),
        ];
        assert_eq!(between(&events, 7, 9), Some(2.0));
        assert_eq!(between(&events, 8, 9), None);
    }
}
