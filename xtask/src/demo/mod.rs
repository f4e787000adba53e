//! `cargo xtask demo`: the main job on real input. A governor is started, a shell that knows nothing of it starts real
//! encodes, and a table shows what the governor saw and did.
//!
//! It touches no governor, file or group that was there before, and leaves none behind.

mod jobs;
mod table;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::jobs::JOBS;
use crate::package::{self, Need};
use crate::session::Session;
use crate::test::Counts;
use crate::{vm, workspace};

/// All jobs together take about eight seconds on two cores; a busy machine may need several times that.
const JOBS_LIMIT: Duration = Duration::from_mins(2);

/// From the end of the last process to its closed record.
const RECORD_LIMIT: Duration = Duration::from_secs(10);

/// How the demo runs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show the governor's log too
    #[arg(long)]
    log: bool,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (views, log) = perform()?;
    println!("\n{}\n", table::render(&views));
    for view in &views {
        for warning in view["report"]["limits"]["warnings"]
            .as_array()
            .into_iter()
            .flatten()
        {
            println!(
                "   {}: {}",
                view["report"]["job_id"].as_str().unwrap_or("-"),
                warning.as_str().unwrap_or("-")
            );
        }
    }
    if args.log {
        println!("The governor's log:\n{log}");
    }
    let failed = judge(&views).failed;
    next();
    if failed > 0 {
        bail!(
            "{failed} of {} jobs were not recorded as they happened",
            JOBS.len()
        );
    }
    Ok(())
}

/// The demo as a test: how many jobs have a true record.
pub(crate) fn check() -> Result<Counts> {
    let (views, log) = perform()?;
    println!("\n{}\n", table::render(&views));
    let counts = judge(&views);
    if counts.failed > 0 {
        println!("The governor's log:\n{log}");
    }
    Ok(counts)
}

/// Runs everything; returns the jobs' records and the governor's log.
fn perform() -> Result<(Vec<Value>, String)> {
    if !workspace::is_root() {
        bail!("the governor needs root: run `sudo cargo xtask demo`");
    }
    package::ensure(&[Need::Build, Need::Media])?;
    println!("== building");
    // The dev profile: a fresh build takes a quarter of the release build's time, and the demo shows truth, not speed.
    let binaries = vm::product_binaries()?;
    let binaries = binaries
        .first()
        .and_then(|path| path.parent())
        .context("no binaries were built")?
        .to_owned();
    println!("== starting the governor");
    let session = Session::start(&binaries, include_str!("rules.yaml"))?;
    let result = encode(&session);
    let log = session.log();
    let left = session.close()?;
    let views = result.with_context(|| format!("the governor said:\n{log}"))?;
    for line in left {
        println!("left behind: {line}");
    }
    Ok((views, log))
}

fn encode(session: &Session) -> Result<Vec<Value>> {
    println!("== a shell that knows nothing of it starts:");
    for job in JOBS {
        println!("   {:<16} {}", job.mark, job.about);
    }
    let killer = write(session, jobs::KILLER.0, jobs::KILLER.1)?;
    fs::set_permissions(&killer, fs::Permissions::from_mode(0o755))
        .context("making the killer executable")?;
    let script = write(session, "jobs.sh", jobs::SCRIPT)?;
    let started = Instant::now();
    session.shell(&script, JOBS_LIMIT)?;
    println!(
        "   all of them ended after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let deadline = Instant::now() + RECORD_LIMIT;
    loop {
        let views = session.jobs()?;
        let closed = JOBS.iter().all(|job| jobs::closed(job, &views).is_some());
        if closed || Instant::now() > deadline {
            return Ok(views);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn write(session: &Session, name: &str, text: &str) -> Result<PathBuf> {
    let path = session.work().join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Says of each job whether its record tells what happened.
fn judge(views: &[Value]) -> Counts {
    let mut counts = Counts::default();
    for job in JOBS {
        let problems = jobs::problems(job, views);
        counts += Counts::one(problems.is_empty());
        if problems.is_empty() {
            println!("   ok     {}: {}", job.mark, job.about);
        } else {
            println!("   WRONG  {}: {}: {}", job.mark, job.about, problems.join("; "));
        }
    }
    counts
}

fn next() {
    println!(
        "
What to try next
   cargo build --release && sudo target/release/ffrtmp-governor --config RULES.yaml    the same, on your own processes
   sudo target/release/ffrtmp doctor                                                   what works on this machine
   sudo target/release/ffrtmp run --cpu-quota 50 -- ffmpeg ...                         one job by hand
   sudo target/release/ffrtmp explain PID                                              why a process was judged so
   The demo's rules are xtask/src/demo/rules.yaml."
    );
}
