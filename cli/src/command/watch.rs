//! `ffrtmp watch`: governs every matching process for as long as it runs, and tells what happens to each.
//!
//! Its lines are its result and go to standard output, as JSON one event a line. Its end ends no workload.

use std::path::Path;

use ffrtmp_governor::control::types::{Happened, JobEvent, Status};
use ffrtmp_governor::core::facts::Found;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::events::breach;
use super::follow::job_line;
use super::interrupt::Interrupts;
use crate::args::{Format, WatchArgs};
use crate::backend::{Backend, WatchOrder};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, or_dash};

/// The tier in which nobody keeps a ledger.
const WITHOUT_LEDGER: &str = "wait";

/// Watches until a signal, or until the governor or the reader of our lines goes away.
pub async fn watch(
    args: WatchArgs,
    backend: &impl Backend,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let order = order(&args)?;
    let status = backend.status().await?;
    greet(&args, &order, &status, output)?;
    let mut events = backend.open_watch(order).await?;
    let mut live = std::collections::BTreeSet::new();
    loop {
        let first = tokio::select! {
            event = events.recv() => event,
            signal = interrupts.next() => {
                output.talk(&format!(
                    "[watch] Ended by {signal}; {} process(es) go on, with their limits",
                    live.len()
                ));
                return Ok(ExitCode::Success);
            }
        };
        let Some(first) = first else {
            output.talk("[watch] The governor went away; workloads run on");
            return Ok(ExitCode::Failure);
        };
        // What is there already belongs to one burst, and a burst has one line with its count.
        let mut burst = vec![first];
        while let Ok(event) = events.try_recv() {
            burst.push(event);
        }
        // A daemon tells of every job; those of `run` and `attach` have their own terminal.
        burst.retain(|event| matches!(event.job.found, Found::Exec | Found::Adopted));
        for event in &burst {
            match event.what {
                Happened::Closed | Happened::Released => live.remove(&event.job.key),
                Happened::Discovered
                | Happened::Placed
                | Happened::NotPlaced
                | Happened::Moved
                | Happened::LimitBreached
                | Happened::Exited
                | Happened::Oom
                | Happened::SlaMissed => live.insert(event.job.key),
            };
        }
        show(&burst, output)?;
        if output.closed() {
            return Ok(ExitCode::Success);
        }
    }
}

fn order(args: &WatchArgs) -> Result<WatchOrder, Failure> {
    let (rules, origin, targets) = match &args.watch_config {
        Some(path) => (read(path)?, path.display().to_string(), Vec::new()),
        None => (flags_as_file(args), "the flags".to_owned(), args.target.clone()),
    };
    Ok(WatchOrder {
        rules,
        origin,
        targets,
        limits: args.limits(),
        scan_interval: args.scan_interval,
        ledger: args.enable_state.then(|| args.state_path.clone()),
    })
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

/// The flags as a `watch-config.yaml` with the same meaning; JSON is YAML.
fn flags_as_file(args: &WatchArgs) -> String {
    json!({
        "scan_interval": humantime::format_duration(args.scan_interval).to_string(),
        "target_commands": args.target,
        "default_limits": {
            "cpu_quota": args.cpu_quota.unwrap_or(0),
            "cpu_weight": args.cpu_weight.unwrap_or(100),
            "memory_limit": args.memory_limit.unwrap_or(0),
        },
    })
    .to_string()
}

fn greet(args: &WatchArgs, order: &WatchOrder, status: &Status, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return Ok(());
    }
    let mut say = |line: &str| output.line(&stamped(Timestamp::now(), line));
    say("Starting auto-attach service...")?;
    let interval = humantime::format_duration(args.scan_interval);
    // Only these two tiers are told of a start by the kernel.
    if ["kernel", "connector"].contains(&status.tier.as_str()) {
        say(&format!(
            "Scan interval: {interval} (not used: tier {} is told of every start)",
            status.tier
        ))?;
    } else {
        say(&format!("Scan interval: {interval}"))?;
        let why = status.tier_reason.as_deref().unwrap_or("no better tier");
        say(&format!("WARNING: shorter lives are missed in tier scan: {why}"))?;
    }
    match &args.watch_config {
        Some(path) => say(&format!("Rules: {}", path.display()))?,
        None => say(&format!("Target commands: [{}]", args.target.join(" ")))?,
    }
    if let Some(ledger) = &order.ledger {
        let path = ledger.display();
        say(&if status.tier == WITHOUT_LEDGER {
            format!("WARNING: no state is kept in {path}: that needs the governor")
        } else if status.pid == std::process::id() {
            format!("State: {path}, saved as each record closes")
        } else {
            format!(
                "State: in the ledger of the governor, pid {}; {path} is not used",
                status.pid
            )
        })?;
    }
    Ok(())
}

fn show(burst: &[JobEvent], output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        for event in burst {
            output.json_line(event)?;
        }
        return Ok(());
    }
    let discovered = || burst.iter().filter(|event| event.what == Happened::Discovered);
    if let Some(first) = discovered().next() {
        let count = discovered().count();
        output.line(&stamped(first.at, &format!("Discovered {count} new process(es)")))?;
    }
    for event in burst {
        for line in lines(event) {
            output.line(&stamped(event.at, &line))?;
        }
        if event.what == Happened::Closed {
            output.line(&job_line(&event.job.report, None))?;
        }
    }
    Ok(())
}

fn lines(event: &JobEvent) -> Vec<String> {
    let report = &event.job.report;
    let (pid, job) = (report.pid, &report.job_id);
    match event.what {
        Happened::Discovered => vec![format!("Attaching to PID {pid} ({}) as job {job}", name(event))],
        Happened::Placed => {
            let warnings = report.limits.warnings.iter();
            let mut lines: Vec<String> = warnings
                .map(|warning| format!("WARNING: PID {pid}: {warning}"))
                .collect();
            lines.push(format!("✓ Attached to PID {pid} (job: {job})"));
            lines
        }
        Happened::NotPlaced => vec![format!(
            "✗ Cannot place PID {pid} (job: {job}): {}; it is followed without limits",
            report
                .placement
                .not_placed
                .as_deref()
                .unwrap_or("no reason given")
        )],
        Happened::Moved => vec![format!("PID {pid} was moved by somebody else (job: {job})")],
        Happened::LimitBreached => vec![format!(
            "WARNING: PID {pid} ran into a limit: {} (job: {job})",
            or_dash(report.limits.breached.last(), breach)
        )],
        Happened::Oom => vec![format!(
            "WARNING: PID {pid} was killed because memory ran out (job: {job})"
        )],
        Happened::SlaMissed => vec![format!(
            "WARNING: PID {pid} missed its SLA: {} (job: {job})",
            report.platform_sla_reason.as_deref().unwrap_or("-")
        )],
        Happened::Exited => vec![format!(
            "Process {pid} exited (job {job}, duration: {})",
            or_dash(report.duration_sec, |seconds| format!("{seconds:.2}s"))
        )],
        Happened::Closed => vec![format!("⊗ Detached from PID {pid} (job: {job})")],
        Happened::Released => vec![format!("⊗ Released PID {pid} (job: {job}); it runs on")],
    }
}

/// The program's name without its directory.
fn name(event: &JobEvent) -> &str {
    let command = event.job.report.command.as_ref();
    let first = command.and_then(|argv| argv.first());
    first.map_or("?", |path| path.rsplit('/').next().unwrap_or(path))
}

/// `[watch] 2026/01/07 08:18:13 …`, local time.
fn stamped(at: Timestamp, line: &str) -> String {
    let local = at.to_zoned(TimeZone::system());
    format!("[watch] {} {line}", local.strftime("%Y/%m/%d %H:%M:%S"))
}
