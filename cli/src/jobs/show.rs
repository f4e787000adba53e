//! Jobs as rows and columns.

use ffrtmp_api::{Job, JobLogs, JobRef};
use jiff::Timestamp;

use super::batch::Item;
use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, harmless, or_dash, second as time};

/// Shows one job.
pub(super) async fn status(client: &Client, job: JobRef, output: &mut Output) -> Result<ExitCode, Failure> {
    let job: Job = client.get(&["jobs", &job.to_string()], &[]).await?;
    one(&job, output)?;
    Ok(ExitCode::Success)
}

/// A job in the chosen form.
pub(super) fn one(job: &Job, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json => output.json(job)?,
        Format::Csv => output.rows(&rows(std::slice::from_ref(job)))?,
        _ => {
            output.rows(&details(job))?;
            if output.format() == Format::Wide {
                output.rows(&history(job))?;
            }
        }
    }
    Ok(())
}

/// What a submission made.
pub(super) fn submitted(job: &Job, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json => output.json(job)?,
        Format::Csv => output.rows(&rows(std::slice::from_ref(job)))?,
        _ => output.rows(&fields(&[
            ("Job #", job.sequence_number.to_string()),
            ("ID", job.id.to_string()),
            ("Scenario", harmless(&job.scenario)),
            ("Confidence", harmless(&job.confidence)),
            ("Status", job.status.to_string()),
            ("Created At", time(job.created_at)),
        ]))?,
    }
    Ok(())
}

/// The last lines of a job's attempts.
pub(super) fn logs(logs: &JobLogs, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return Ok(output.json(logs)?);
    }
    if logs.logs.is_empty() {
        output.talk("No attempt of this job has left any lines");
    }
    for line in logs.logs.lines() {
        output.line(&harmless(line))?;
    }
    Ok(())
}

fn fields(pairs: &[(&'static str, String)]) -> Rows {
    let mut rows = Rows::new(&["FIELD", "VALUE"]);
    for (field, value) in pairs {
        rows.push(vec![(*field).to_owned(), value.clone()]);
    }
    rows
}

fn details(job: &Job) -> Rows {
    let text = |text: &Option<String>| or_dash(text.as_deref(), harmless);
    let at = |at: Option<Timestamp>| or_dash(at, time);
    let mut pairs = vec![
        ("Job #", job.sequence_number.to_string()),
        ("ID", job.id.to_string()),
        ("Scenario", harmless(&job.scenario)),
        ("Status", state(job)),
        ("Progress", progress(job)),
        ("Queue", format!("{}/{}", job.queue, job.priority)),
        ("Engine", job.engine.to_string()),
        ("Confidence", harmless(&job.confidence)),
        ("Node", node(job)),
        ("Attempt", job.attempt.to_string()),
        ("Retries", format!("{} of {}", job.retry_count, job.max_retries)),
        ("Created At", time(job.created_at)),
        ("Started At", at(job.started_at)),
        ("Completed At", at(job.completed_at)),
        ("SLA", sla(job)),
    ];
    if let Some(retry) = job.retry_at {
        pairs.push(("Next Try", time(retry)));
    }
    if job.failure_reason.is_some() || job.error.is_some() {
        pairs.push((
            "Failure",
            or_dash(job.failure_reason, |reason| reason.to_string()),
        ));
        pairs.push(("Error", text(&job.error)));
    }
    for (name, value) in &job.parameters {
        pairs.push(("Parameter", harmless(&format!("{name}={value}"))));
    }
    fields(&pairs)
}

fn history(job: &Job) -> Rows {
    let mut rows = Rows::new(&["AT", "FROM", "TO", "REASON"]);
    for step in job.state_transitions.iter().flatten() {
        rows.push(vec![
            time(step.timestamp),
            or_dash(step.from, |from| from.to_string()),
            step.to.to_string(),
            harmless(&step.reason),
        ]);
    }
    rows
}

/// A row for each job.
pub(super) fn rows(jobs: &[Job]) -> Rows {
    let mut rows = Rows::new(&[
        "JOB #", "SCENARIO", "STATUS", "QUEUE", "PRIORITY", "PROGRESS", "NODE", "FAILURE", "CREATED",
    ])
    .wide(&[
        "ID",
        "ENGINE",
        "CLASS",
        "TENANT",
        "ATTEMPT",
        "RETRIES",
        "STARTED",
        "COMPLETED",
        "SLA",
        "ERROR",
    ]);
    for job in jobs {
        rows.push(vec![
            job.sequence_number.to_string(),
            harmless(&job.scenario),
            state(job),
            job.queue.to_string(),
            job.priority.to_string(),
            progress(job),
            node(job),
            or_dash(job.failure_reason, |reason| reason.to_string()),
            time(job.created_at),
            job.id.to_string(),
            job.engine.to_string(),
            job.classification.to_string(),
            or_dash(job.tenant_id.as_deref(), harmless),
            job.attempt.to_string(),
            job.retry_count.to_string(),
            or_dash(job.started_at, time),
            or_dash(job.completed_at, time),
            sla(job),
            or_dash(job.error.as_deref(), harmless),
        ]);
    }
    rows
}

/// A row for each job that would be submitted.
pub(super) fn request_rows(items: &[Item]) -> Rows {
    let mut rows = Rows::new(&["PLACE", "SCENARIO", "QUEUE", "PRIORITY", "ENGINE", "PARAMETERS"]);
    for Item { place, job } in items {
        let parameters = job.parameters.iter().map(|(key, value)| format!("{key}={value}"));
        rows.push(vec![
            place.clone(),
            job.scenario.clone(),
            job.queue.to_string(),
            job.priority.to_string(),
            job.engine.to_string(),
            harmless(&parameters.collect::<Vec<_>>().join(" ")),
        ]);
    }
    rows
}

/// The state, and what keeps the job in it.
fn state(job: &Job) -> String {
    match (job.held, job.paused) {
        (true, _) => format!("{} (held)", job.status),
        (false, true) => format!("{} (paused)", job.status),
        (false, false) => job.status.to_string(),
    }
}

fn progress(job: &Job) -> String {
    or_dash(job.progress, |percent| format!("{percent:.0}%"))
}

fn node(job: &Job) -> String {
    let id = job.node_id.as_ref().map(ToString::to_string);
    or_dash(job.node_name.clone().or(id), |name| harmless(&name))
}

fn sla(job: &Job) -> String {
    let verdict = match job.platform_sla_compliant {
        Some(true) => "compliant",
        Some(false) => "violated",
        None if job.sla_eligible => "-",
        None => "not counted",
    };
    match &job.platform_sla_reason {
        Some(reason) if reason != verdict => format!("{verdict} ({})", harmless(reason)),
        _ => verdict.to_owned(),
    }
}
