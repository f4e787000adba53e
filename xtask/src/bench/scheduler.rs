//! `cargo xtask bench scheduler`: the load of `scheduler/benches/load` on the release build, and its figures as a table.
//!
//! Everything is measured by that program; this file builds it, gives it a directory on a real disk, and shows what came
//! of it beside what docs/promises.md promises.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use xshell::cmd;

use super::machine::{self, Machine};
use crate::package::{self, Need};
use crate::workspace;

#[derive(clap::Args)]
pub(super) struct Scheduler {
    /// Less of everything: figures for a first look, not for the record
    #[arg(long)]
    quick: bool,
    /// Write the figures there as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// End with an error when a promise is not kept
    #[arg(long)]
    strict: bool,
}

/// One line of what the load measured.
#[derive(Debug, Serialize, Deserialize)]
struct Figure {
    goal: String,
    what: String,
    measured: String,
    gate: String,
    met: Option<bool>,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    quick: bool,
    figures: Vec<Figure>,
    load_before: f64,
    load_after: f64,
    seconds: u64,
}

/// The verb.
pub(super) fn run(args: &Scheduler) -> Result<()> {
    package::ensure(&[Need::Build])?;
    println!("== building (release)");
    let shell = workspace::shell()?;
    cmd!(shell, "cargo build --quiet --release -p ffrtmp-scheduler --bins")
        .run()
        .context("building the scheduler")?;
    let server = workspace::target()?.join("release/ffrtmp-scheduler");
    let machine = Machine::read()?;
    println!("== machine: {machine}");
    // Below the target directory: a temporary directory in memory would hide what a commit costs.
    let directory = workspace::scratch("bench-scheduler")?;
    let quick = args.quick.then_some("--quick");
    let (began, load_before) = (Instant::now(), machine::load()?);
    let text = cmd!(
        shell,
        "cargo bench --quiet -p ffrtmp-scheduler --bench load -- --server {server} --directory {directory} {quick...}"
    )
    .read()
    .context("putting the load on")?;
    let figures: Vec<Figure> = serde_json::from_str(&text).context("reading what the load measured")?;
    let results = Results {
        machine,
        quick: args.quick,
        figures,
        load_before,
        load_after: machine::load()?,
        seconds: began.elapsed().as_secs(),
    };
    println!("\n{}", render(&results));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results).context("writing the figures as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    let broken = results
        .figures
        .iter()
        .filter(|figure| figure.met == Some(false))
        .count();
    if args.strict && broken > 0 {
        bail!("{broken} promises were not kept in this run");
    }
    Ok(())
}

/// Ready to be pasted into docs/promises.md: what was measured where and how, then a row for each figure.
fn render(results: &Results) -> String {
    let rows: Vec<String> = results.figures.iter().map(row).collect();
    format!(
        "machine: {}\nsettings: {}release build, load and scheduler on the same cores, WAL, synchronous = FULL; load {:.2} before and \
         {:.2} after; {} s\n\n| goal | measured | figure | promise | kept |\n| --- | --- | --- | --- | --- |\n{}",
        results.machine,
        if results.quick {
            "QUICK, not for the record; "
        } else {
            ""
        },
        results.load_before,
        results.load_after,
        results.seconds,
        rows.concat()
    )
}

fn row(figure: &Figure) -> String {
    let kept = match figure.met {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let Figure {
        goal,
        what,
        measured,
        gate,
        ..
    } = figure;
    format!("| {goal} | {what} | {measured} | {gate} | {kept} |\n")
}
