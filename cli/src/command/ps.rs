//! `ffrtmp ps`: lists jobs.

use std::time::Duration;

use ffrtmp_governor::control::types::JobView;
use ffrtmp_governor::host::process::read_stat;
use jiff::Timestamp;

use crate::args::{Format, PsArgs};
use crate::backend::Backend;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, age, bytes, or_dash};

/// Lists the jobs.
pub async fn ps(args: &PsArgs, backend: &impl Backend, output: &mut Output) -> Result<ExitCode, Failure> {
    let mut jobs = backend.jobs().await?;
    jobs.retain(|job| args.all || job.report.end_time.is_none());
    jobs.sort_by_key(|job| (job.report.start_time, job.key));
    if output.format() == Format::Json {
        output.json(&jobs)?;
        return Ok(ExitCode::Success);
    }
    let status = backend.status().await?;
    for rule in status.policy.pressure.iter().filter(|rule| rule.lowered) {
        let back = or_dash(rule.restore_in_ms, |ms| format!("{}s", ms.div_ceil(1000)));
        output.talk(&format!(
            "Class {} is lowered by pressure rule {} ({}); lifted in {back} unless it rises again",
            rule.lowers, rule.rule, rule.watches
        ));
    }
    if jobs.is_empty()
        && let Some(why) = status.tier_reason.filter(|_| status.tier == "wait")
    {
        output.talk(&format!("No jobs are known: {why}"));
    }
    output.rows(&rows(&jobs))?;
    Ok(ExitCode::Success)
}

/// A row for each job.
pub(super) fn rows(jobs: &[JobView]) -> Rows {
    let mut rows = Rows::new(&[
        "JOB",
        "PID",
        "CLASS",
        "STATE",
        "PLACED IN",
        "CPU",
        "RSS/PEAK",
        "AGE",
        "COMMAND",
    ])
    .wide(&[
        "UID",
        "MODE",
        "INTENT",
        "SLA",
        "LIVE",
        "READ",
        "WRITTEN",
        "EXIT",
        "SENDER",
        "RULE",
        "TIER",
        "PLACEMENT",
        "LIMITS",
        "WARNINGS",
        "KEY",
    ]);
    for job in jobs {
        let mut cells = plain_cells(job);
        cells.extend(wide_cells(job));
        rows.push(cells);
    }
    rows
}

fn plain_cells(job: &JobView) -> Vec<String> {
    let report = &job.report;
    let until = report.end_time.unwrap_or_else(Timestamp::now);
    let lived = Duration::try_from(until.duration_since(report.start_time)).unwrap_or_default();
    let resident = report.end_time.is_none().then(|| resident(job)).flatten();
    vec![
        report.job_id.to_string(),
        report.pid.to_string(),
        report.class.clone(),
        job.state.clone(),
        or_dash(report.placement.placed_in_us, |us| format!("{us}µs")),
        or_dash(report.usage.cpu_sec, |seconds| format!("{seconds:.2}s")),
        format!(
            "{}/{}",
            or_dash(resident, bytes),
            or_dash(report.usage.memory_peak_bytes, bytes)
        ),
        age(lived),
        or_dash(report.command.as_ref(), |argv| argv.join(" ")),
    ]
}

fn wide_cells(job: &JobView) -> Vec<String> {
    let report = &job.report;
    let limits = report.limits.applied.iter();
    let limits: Vec<String> = limits
        .map(|limit| format!("{}={}", limit.limit, limit.value))
        .collect();
    let exit = report.exit_reason.as_ref().map(|reason| match report.exit_code {
        Some(code) => format!("{reason}({code})"),
        None => reason.clone(),
    });
    vec![
        job.uid.to_string(),
        report.mode.clone(),
        report.intent.to_string(),
        if report.sla_eligible { "yes" } else { "no" }.to_owned(),
        job.live.to_string(),
        or_dash(report.usage.read_bytes, bytes),
        or_dash(report.usage.write_bytes, bytes),
        or_dash(exit, |exit| exit),
        or_dash(report.killed_by.as_ref(), ToString::to_string),
        report.rule.clone().unwrap_or_else(|| "-".to_owned()),
        report.tier.clone(),
        report.placement.mode.clone(),
        limits.join(" "),
        report.limits.warnings.join("; "),
        job.key.to_string(),
    ]
}

/// Resident memory of the first process, bytes, if it still is the one of this job.
fn resident(job: &JobView) -> Option<u64> {
    let stat = read_stat(job.key.0.pid).ok()?;
    let same = ffrtmp_governor::host::process::same_start(job.key.0, stat.starttime);
    same.then(|| stat.rss * procfs::page_size())
}
