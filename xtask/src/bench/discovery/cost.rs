//! What the governor costs others: how many processes a second an unrelated program can be started with and without it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::super::stats::median;
use super::Settings;
use super::target::Target;
use crate::session::Session;

/// After the start and the end of a governor, before the clock runs.
const SETTLE: Duration = Duration::from_millis(500);

/// Starts a second, round by round. Each round is without, with, without; a ratio is of one round, so that a machine
/// that grows slower over the run does not look like a cost.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    rounds: Vec<Round>,
    /// Median of starts a second without a governor.
    pub(super) without_per_s: Option<f64>,
    /// Median of starts a second with one.
    pub(super) with_per_s: Option<f64>,
    /// Median of the rounds' ratios, with over without.
    pub(super) ratio: Option<f64>,
    /// The smallest and the largest of them.
    pub(super) ratio_range: (f64, f64),
    /// Median of how far the two legs without a governor are apart, as a share: what the machine itself varies by.
    pub(super) noise: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    before: f64,
    with: f64,
    after: f64,
}

impl Round {
    fn ratio(self) -> f64 {
        self.with / f64::midpoint(self.before, self.after)
    }

    fn noise(self) -> f64 {
        (self.before / self.after - 1.0).abs()
    }
}

/// Measures it.
pub(super) fn throughput(binaries: &Path, settings: &Settings) -> Result<Throughput> {
    let target = Target::new(binaries)?;
    // The first starts read the program from disk.
    spawn_true(settings.spawns_a_leg)?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        let before = spawn_true(settings.spawns_a_leg)?;
        let session = Session::start(binaries, &target.rules())?;
        std::thread::sleep(SETTLE);
        let with = spawn_true(settings.spawns_a_leg)?;
        session.close()?;
        std::thread::sleep(SETTLE);
        let after = spawn_true(settings.spawns_a_leg)?;
        rounds.push(Round { before, with, after });
    }
    Ok(summed_up(rounds))
}

fn summed_up(rounds: Vec<Round>) -> Throughput {
    let ratios: Vec<f64> = rounds.iter().map(|round| round.ratio()).collect();
    Throughput {
        without_per_s: median(
            rounds
                .iter()
                .flat_map(|round| [round.before, round.after])
                .collect(),
        ),
        with_per_s: median(rounds.iter().map(|round| round.with).collect()),
        ratio_range: (
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ),
        ratio: median(ratios),
        noise: median(rounds.iter().map(|round| round.noise()).collect()),
        rounds,
    }
}

/// Starts `/bin/true` so many times, one after the other; returns starts a second.
pub(super) fn spawn_true(count: usize) -> Result<f64> {
    let began = Instant::now();
    for _ in 0..count {
        Command::new("/bin/true")
            .stdin(Stdio::null())
            .status()
            .context("starting /bin/true")?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slows_down_evenly_shows_no_cost() {
        let round = Round {
            before: 1100.0,
            with: 1000.0,
            after: 900.0,
        };
        let summed = summed_up(vec![round]);
        assert_eq!(summed.ratio, Some(1.0));
        assert!(summed.noise.is_some_and(|noise| noise > 0.2));
    }
}
