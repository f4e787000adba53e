//! `cargo xtask bench scheduler`: the load of `scheduler/benches/load` on the release build, and its figures as a table.
//!
//! Everything is measured by that program; this file builds it, gives it a directory on a real disk, and shows what came
//! of it beside what docs/promises.md promises.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};
use xshell::cmd;

use super::machine::{self, Machine};
use crate::package::{self, Need};
use crate::workspace;

/// Width of the table.
const WIDTH: u16 = 150;

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
    load_after: f64,
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
        load_after: machine::load()?,
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

fn render(results: &Results) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header([
            "goal",
            "measured, synchronous = FULL",
            "figure",
            "promise",
            "kept",
        ]);
    for figure in &results.figures {
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
        table.add_row([goal, what, measured, gate, kept]);
    }
    format!(
        "machine: {}\nsettings: {}release build, load and scheduler on the same cores; load after the run {:.2}\n\n{table}",
        results.machine,
        if results.quick {
            "QUICK, not for the record; "
        } else {
            ""
        },
        results.load_after,
    )
}
