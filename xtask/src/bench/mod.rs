//! `cargo xtask bench`: measures what docs/promises.md promises, on real processes, with the release build.
//!
//! It says what machine and settings the figures are from, prints no figure it did not measure in this run, and judges
//! nothing but the promises it knows. Peers run in the same run, one after the other, never beside the governor.

mod adoption;
mod cost;
mod found;
mod idle;
mod machine;
mod placement;
mod programs;
mod report;
mod scan;
mod scheduler;
mod stats;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use xshell::cmd;

use self::machine::Machine;
use crate::package::{self, Need};
use crate::workspace;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// From an exec to its placement, what is missed, and what it costs everybody else
    Discovery(Discovery),
    /// The scheduler under load: submissions, claims, dispatch, restarts, thousands of nodes; a naive design beside it
    Scheduler(scheduler::Scheduler),
}

#[derive(clap::Args)]
struct Discovery {
    /// Rounds of the comparison of spawn throughput with and without a governor
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Fewer starts and shorter waits: figures for a first look, not for the record
    #[arg(long)]
    quick: bool,
    /// Write the figures there as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How much is done; part of the output, so that a figure can be judged.
#[derive(Debug, Clone, Serialize)]
struct Settings {
    quick: bool,
    lone_starts: usize,
    lone_gap_ms: u64,
    storm_starts: usize,
    life_ms: u64,
    short_lives: usize,
    scan_interval_ms: u64,
    spawns_a_leg: usize,
    rounds: u32,
    idle_s: u64,
    adoptions: usize,
}

impl Settings {
    fn new(args: &Discovery) -> Self {
        let pick = |quick: usize, full: usize| if args.quick { quick } else { full };
        Self {
            quick: args.quick,
            lone_starts: pick(20, 50),
            lone_gap_ms: 300,
            storm_starts: pick(300, 500),
            life_ms: 50,
            short_lives: 2_000,
            scan_interval_ms: 100,
            spawns_a_leg: pick(500, 2_000),
            rounds: args.rounds,
            idle_s: if args.quick { 5 } else { 20 },
            adoptions: pick(3, 10),
        }
    }

    fn life(&self) -> Duration {
        Duration::from_millis(self.life_ms)
    }
}

/// Every figure of one run.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    settings: Settings,
    lone: placement::Compared,
    storm: placement::Compared,
    found: found::Compared,
    spawn: cost::Throughput,
    programs: Vec<programs::Program>,
    idle: idle::Idle,
    adoption_ms: stats::Summary,
    load_after: f64,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let args = match &args.what {
        What::Discovery(args) => args,
        What::Scheduler(args) => return scheduler::run(args),
    };
    if !workspace::is_root() {
        bail!("the governor needs root: run `sudo cargo xtask bench`");
    }
    package::ensure(&[Need::Build])?;
    println!("== building (release)");
    let binaries = build()?;
    let results = measure(&binaries, Settings::new(args))?;
    println!("\n{}", report::render(&results));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results).context("writing the figures as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let shell = workspace::shell()?;
    let selection = workspace::PRODUCT;
    cmd!(shell, "cargo build --quiet --release {selection...} --bins")
        .run()
        .context("building the product")?;
    Ok(workspace::target()?.join("release"))
}

fn measure(binaries: &Path, settings: Settings) -> Result<Results> {
    let machine = Machine::read()?;
    println!("== machine: {machine}");
    println!("== exec to placed, lone starts");
    let lone = placement::compare(binaries, &settings, placement::Starts::lone(&settings))?;
    println!("== exec to placed, storm");
    let storm = placement::compare(binaries, &settings, placement::Starts::storm(&settings))?;
    println!("== short lives found");
    let found = found::compare(binaries, &settings)?;
    println!("== spawn throughput of an unrelated program");
    let spawn = cost::throughput(binaries, &settings)?;
    println!("== run time of the kernel programs");
    let programs = programs::measure(binaries, &settings)?;
    println!("== idle governor");
    let idle = idle::measure(binaries, &settings)?;
    println!("== first decision after a start");
    let adoption_ms = adoption::measure(binaries, &settings)?;
    Ok(Results {
        machine,
        settings,
        lone,
        storm,
        found,
        spawn,
        programs,
        idle,
        adoption_ms,
        load_after: machine::load()?,
    })
}
