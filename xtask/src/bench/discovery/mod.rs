//! `cargo xtask bench discovery`: from an exec to its placement, what is missed, and what it costs everybody else.
//!
//! Everything is mounted in a namespace of the benchmark's own. The one thing that outlives it is what fast placement does
//! to the machine: on Linux 6.18 and later lone moves stay cheap until the next boot; `--stock` does without it.

mod adoption;
mod births;
mod cost;
mod duel;
mod gate;
mod idle;
mod judge;
mod lives;
mod lost;
mod own;
mod page;
mod peer;
mod plot;
mod process;
mod programs;
mod referee;
mod stage;
mod stall;
mod storm;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use xshell::cmd;

use self::duel::{Card, Row};
use super::machine::{self, Machine};
use super::stats;
use crate::package::{self, Need};
use crate::workspace;

/// How the verb is asked for.
#[derive(clap::Args)]
pub(super) struct Discovery {
    /// Rounds of the comparison of spawn throughput with and without a governor
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Fewer starts and shorter waits: figures for a first look, not for the record
    #[arg(long)]
    quick: bool,
    /// Leave lone moves between groups as slow as this machine has them. Without this flag fast placement is switched on
    /// after the figures without it were taken; on Linux 6.18 and later it then stays on until the next boot
    #[arg(long)]
    stock: bool,
    /// Write the figures there as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the distributions there, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Measure the programs in this directory instead of building them: another version's, for instance
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// End with an error when a promise is not kept
    #[arg(long)]
    strict: bool,
}

/// How much is done; part of the output, so that a figure can be judged.
#[derive(Debug, Clone, Serialize)]
struct Settings {
    quick: bool,
    lone_starts: usize,
    lone_gap_ms: u64,
    storm_starts: usize,
    duel_rounds: usize,
    decisions: usize,
    gate_starts: usize,
    short_lives: usize,
    dead_lives: usize,
    flood_lives: usize,
    flood_records: usize,
    spawns_a_leg: usize,
    rounds: u32,
    idle_s: u64,
    adoptions: usize,
    stall_lives: usize,
}

impl Settings {
    fn new(args: &Discovery) -> Self {
        let pick = |quick: usize, full: usize| if args.quick { quick } else { full };
        Self {
            quick: args.quick,
            lone_starts: pick(10, 50),
            // No divisor of a scan's interval, or the scan would keep step with the starts.
            lone_gap_ms: 307,
            storm_starts: pick(500, 2_000),
            duel_rounds: pick(1, 3),
            decisions: pick(15, 60),
            gate_starts: pick(50, 300),
            short_lives: pick(5_000, 100_000),
            dead_lives: pick(5_000, 50_000),
            // More than the kernel's map holds.
            flood_lives: pick(4_000, 200_000),
            flood_records: pick(1_024, 65_536),
            spawns_a_leg: pick(300, 1_500),
            rounds: if args.quick {
                args.rounds.min(3)
            } else {
                args.rounds
            },
            idle_s: if args.quick { 5 } else { 20 },
            adoptions: pick(3, 10),
            stall_lives: pick(3_000, 20_000),
        }
    }
}

/// What a lone move takes on this machine, without and with fast placement.
#[derive(Debug, Serialize)]
struct Mode {
    /// As the machine was found, microseconds.
    found_us: f64,
    /// With fast placement, where it was switched on.
    fast_us: Option<f64>,
    /// What the governor says of it.
    said: Option<String>,
    /// What every other start on the machine takes: as found, and with fast placement.
    births: Option<(births::Births, births::Births)>,
}

/// Every figure of one run.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    settings: Settings,
    mode: Mode,
    /// The governor on the machine as it was found, where lone moves were slow there.
    stock: Vec<Row>,
    rows: Vec<Row>,
    decided: own::Decided,
    gate: gate::Gate,
    stalls: Vec<stall::Stall>,
    lost: Vec<lost::Leg>,
    spawn: cost::Throughput,
    programs: Vec<programs::Program>,
    idle: idle::Idle,
    adoption_ms: stats::Summary,
    load_after: f64,
    took_s: u64,
}

/// The verb.
pub(super) fn run(args: &Discovery) -> Result<()> {
    if !workspace::is_root() {
        bail!("the governor needs root: run `sudo cargo xtask bench discovery`");
    }
    package::ensure(&[Need::Build, Need::Bench])?;
    let binaries = match &args.binaries {
        Some(directory) => directory.clone(),
        None => build()?,
    };
    programs::refuse_others()?;
    stage::enter()?;
    let results = measure(&binaries, Settings::new(args), args.stock)?;
    let verdicts = judge::judge(&results);
    println!("\n{}", page::render(&results, &verdicts));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results).context("writing the figures as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        plot::draw(path, &results.rows, &results.machine.to_string())?;
        println!("\nplot: {}", path.display());
    }
    let broken = verdicts
        .iter()
        .filter(|verdict| verdict.kept == Some(false))
        .count();
    if args.strict && broken > 0 {
        bail!("{broken} promises were not kept in this run");
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    println!("== building (release)");
    let shell = workspace::shell()?;
    let selection = workspace::PRODUCT;
    cmd!(shell, "cargo build --quiet --release {selection...} --bins")
        .run()
        .context("building the product")?;
    Ok(workspace::target()?.join("release"))
}

fn measure(binaries: &Path, settings: Settings, keep_stock: bool) -> Result<Results> {
    let began = std::time::Instant::now();
    let machine = Machine::read()?;
    println!("== machine: {machine}");
    let found = stage::lone_move()?;
    println!("== a lone move between groups takes {} us", found.as_micros());
    let mut stock = Vec::new();
    if !stage::is_fast(found) {
        println!("== placement without fast placement");
        stock = Card::alone().hold(binaries, &settings)?;
    }
    let (mode, fast) = fast_placement(binaries, found, &settings, keep_stock)?;
    let extra = if keep_stock { "" } else { "fast_placement: true\n" };
    println!("== placement beside the peers: lone starts");
    let mut rows = Card::lone(extra).hold(binaries, &settings)?;
    println!("== placement beside the peers: storms");
    rows.extend(Card::storms(&settings, extra).hold(binaries, &settings)?);
    println!("== from an exec to its decision");
    let decided = own::decided(binaries, &settings, extra)?;
    println!("== the gate");
    let gate = gate::measure(binaries, &settings, extra)?;
    println!("== stopped through a storm");
    let stalls = stall::measure(binaries, &settings, extra)?;
    drop(fast);
    println!("== what is missed");
    let lost = lost::measure(binaries, &settings)?;
    println!("== spawn throughput of an unrelated program");
    let spawn = cost::throughput(binaries, &settings)?;
    println!("== run time of the kernel programs");
    let programs = programs::measure(binaries, &settings)?;
    println!("== idle governor");
    let idle = idle::measure(binaries, &settings)?;
    println!("== first placement after a start");
    let adoption_ms = adoption::measure(binaries, &settings)?;
    Ok(Results {
        machine,
        settings,
        mode,
        stock,
        rows,
        decided,
        gate,
        stalls,
        lost,
        spawn,
        programs,
        idle,
        adoption_ms,
        load_after: machine::load()?,
        took_s: began.elapsed().as_secs(),
    })
}

/// Lets a governor climb its ladder once, then keeps lone moves cheap for everybody while the peers are measured: before
/// Linux 6.18 the effect would end with that governor, and the peers would be measured on another machine.
fn fast_placement(
    binaries: &Path,
    found: Duration,
    settings: &Settings,
    keep_stock: bool,
) -> Result<(Mode, Option<stage::Fast>)> {
    let mut mode = Mode {
        found_us: found.as_secs_f64() * 1e6,
        fast_us: None,
        said: None,
        births: None,
    };
    if keep_stock {
        return Ok((mode, None));
    }
    let before = if stage::is_fast(found) {
        None
    } else {
        println!("== other starts on the machine, before and after fast placement");
        Some(births::measure(settings)?)
    };
    println!("== switching fast placement on");
    mode.said = own::ladder(binaries)?;
    // What cannot be had is told by the governor and by the probe.
    let fast = if stage::is_fast(stage::lone_move()?) {
        None
    } else {
        stage::Fast::on().ok()
    };
    let fast_move = stage::lone_move()?;
    mode.fast_us = Some(fast_move.as_secs_f64() * 1e6);
    if let Some(before) = before.filter(|_| stage::is_fast(fast_move)) {
        mode.births = Some((before, births::measure(settings)?));
    }
    Ok((mode, fast))
}
