//! From the start of a governor to a process that ran before it being placed: an upper bound by the wall clock, because
//! it ends with the answer of `ffrtmp ps`, a process that has to start itself.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Settings;
use super::stats::Summary;
use super::target::Target;
use crate::session::Session;

/// How long a governor may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Between two looks; a look takes longer than this.
const PAUSE: Duration = Duration::from_millis(1);

/// Life of the process that runs already, microseconds; it is ended as soon as it was found.
const LIFE_US: u64 = 60_000_000;

/// Measures it so many times; milliseconds.
pub(super) fn measure(binaries: &Path, settings: &Settings) -> Result<Summary> {
    let target = Target::new(binaries)?;
    let mut figures = Vec::new();
    for id in 0..settings.adoptions {
        let mut child = target.start(id, LIFE_US)?;
        let measured = once(binaries, &target, &child);
        child.kill().context("ending the target")?;
        child.wait().context("waiting for the target")?;
        figures.push(measured?.as_secs_f64() * 1e3);
    }
    Ok(Summary::of(figures))
}

fn once(binaries: &Path, target: &Target, child: &Child) -> Result<Duration> {
    let began = Instant::now();
    let session = Session::launch(binaries, &target.rules())?;
    loop {
        // Until the socket is there, there is no answer.
        let views = session.jobs().unwrap_or_default();
        let placed = views.iter().any(|view| {
            let report = &view["report"];
            report["pid"] == child.id() && !report["placement"]["placed_in_us"].is_null()
        });
        let took = began.elapsed();
        if placed {
            session.close()?;
            return Ok(took);
        }
        if took > LIMIT {
            bail!(
                "the process was not placed; the governor said:\n{}",
                session.log()
            );
        }
        std::thread::sleep(PAUSE);
    }
}
