//! What `run` and `attach` have in common: their `[wrapper]` lines, their report, and how they let go.

use ffrtmp_api::{ExitReason, Report};
use ffrtmp_governor::control::types::{AttachRequest, ErrorCode, JobView, RequestError};
use ffrtmp_governor::host::priority::NEGATIVE_NICE_REFUSED;
use nix::sys::signal::Signal;

use super::ps;
use crate::args::{Format, JobFlags};
use crate::backend::Backend;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Output, or_dash};

/// Asks for the process to be governed. What only root may ask for is given up, with the warning users know, rather
/// than the whole request.
pub(super) async fn ask(backend: &impl Backend, request: AttachRequest) -> Result<JobView, RequestError> {
    let refused = match backend.attach(request.clone()).await {
        Err(refused) if refused.code == ErrorCode::NotAllowed => refused,
        answered => return answered,
    };
    let mut less = request;
    let mut warnings = Vec::new();
    if less.limits.nice.take_if(|nice| *nice < 0).is_some() {
        warnings.push(NEGATIVE_NICE_REFUSED.to_owned());
    }
    if less.limits.oom_score_adj.take_if(|score| *score < 0).is_some() {
        warnings.push("Cannot set negative OOM score (requires root), leaving it".to_owned());
    }
    if warnings.is_empty() {
        return Err(refused);
    }
    let mut view = backend.attach(less).await?;
    view.report.limits.warnings.splice(0..0, warnings);
    Ok(view)
}

/// The line that says whose job this is.
pub(super) fn announce(job: &JobFlags, output: &mut Output) {
    let id = job.job_id.as_ref().map_or("unknown", ffrtmp_api::JobId::as_str);
    let intent = ffrtmp_api::Intent::from(job.intent);
    output.wrapper(&format!("Job: {id}, Intent: {intent}, SLA: {}", job.sla_eligible));
}

/// A line for each thing that is not as asked.
pub(super) fn warn(report: &Report, output: &mut Output) {
    for warning in &report.limits.warnings {
        output.wrapper(&format!("WARNING: {warning}"));
    }
}

/// True when the report itself is wanted on standard output.
pub(super) fn wants_report(job: &JobFlags, output: &Output) -> bool {
    job.json || matches!(output.format(), Format::Json | Format::Csv)
}

/// Tells how it ended, and returns the workload's own status.
pub(super) fn conclude(view: &JobView, job: &JobFlags, output: &mut Output) -> Result<u8, Failure> {
    output.wrapper(&exited_line(&view.report));
    output.talk(&job_line(&view.report, None));
    write_report(view, job, output)?;
    Ok(exit::mirror(&view.report))
}

/// Lets go of a workload that runs on.
pub(super) fn detach(
    view: &JobView,
    signal: Signal,
    job: &JobFlags,
    output: &mut Output,
) -> Result<u8, Failure> {
    let pid = view.report.pid;
    output.wrapper(&format!(
        "Ended by {signal}; process {pid} goes on, with its limits. Look again: `ffrtmp ps`, or `ps -p {pid}`"
    ));
    output.talk(&job_line(&view.report, Some("detached_workload_continues")));
    write_report(view, job, output)?;
    Ok(exit::signalled(signal as i32))
}

fn write_report(view: &JobView, job: &JobFlags, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Csv && !job.json {
        output.rows(&ps::rows(std::slice::from_ref(view)))?;
    } else if wants_report(job, output) {
        output.json(&view.report)?;
    }
    Ok(())
}

/// `Process exited: code=0, reason=success, duration=0.0s`.
fn exited_line(report: &Report) -> String {
    let code = or_dash(report.exit_code, |code| code.to_string());
    let reason = report.exit_reason.as_deref().unwrap_or("-");
    let mut parts = vec![format!("Process exited: code={code}"), format!("reason={reason}")];
    if let Some(signal) = report.signal {
        let name = Signal::try_from(i32::from(signal)).map_or("?", Signal::as_str);
        parts.push(format!("signal={signal} ({name})"));
        let sender = report
            .killed_by
            .as_ref()
            .or_else(|| report.exit.as_ref().and_then(ExitReason::sender));
        parts.push(format!("sender={}", or_dash(sender, ToString::to_string)));
    }
    if let Some(ExitReason::Unobserved { why }) = &report.exit {
        parts.push(format!("why={why}"));
    }
    let duration = or_dash(report.duration_sec, |seconds| format!("{seconds:.1}s"));
    parts.push(format!("duration={duration}"));
    parts.join(", ")
}

/// `JOB id | sla=COMPLIANT | reason=… | runtime=1s | exit=0 | pid=1`, with the intent where it is not production.
pub(super) fn job_line(report: &Report, reason: Option<&str>) -> String {
    let intent = match report.intent {
        ffrtmp_api::Intent::Production => String::new(),
        other => format!("intent={other} | "),
    };
    let sla = match report.platform_sla_compliant {
        Some(true) => "COMPLIANT",
        Some(false) => "VIOLATION",
        None => "-",
    };
    let reason = reason.or(report.platform_sla_reason.as_deref());
    let running = || {
        jiff::Timestamp::now()
            .duration_since(report.start_time)
            .as_secs_f64()
    };
    format!(
        "JOB {} | {intent}sla={sla} | reason={} | runtime={:.0}s | exit={} | pid={}",
        report.job_id,
        reason.or(report.exit_reason.as_deref()).unwrap_or("-"),
        report.duration_sec.unwrap_or_else(running).max(0.0),
        or_dash(report.exit_code, |code| code.to_string()),
        report.pid,
    )
}
