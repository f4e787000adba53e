//! Waiting for jobs. Ends are told by the stream of events; only how far a job is, a quantity, is sampled. Ctrl-C ends the
//! waiting, never the job.

use std::collections::BTreeSet;
use std::time::Duration;

use ffrtmp_api::{Job, JobRef, JobState, JobUuid};
use tokio::time::MissedTickBehavior;

use super::show;
use crate::client::Client;
use crate::client::events::{Events, Told};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Progress, harmless};

/// How often a job is asked how far it is, while somebody looks.
const SAMPLE: Duration = Duration::from_secs(1);

/// What waiting for a job in this final state comes to.
pub(super) fn verdict(state: JobState) -> ExitCode {
    if state == JobState::Completed {
        ExitCode::Success
    } else {
        ExitCode::JobFailed
    }
}

/// Waits for one job and shows it. With `shown`, how far it is meanwhile.
pub(super) async fn follow(
    client: &Client,
    job: JobRef,
    shown: bool,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let name = job.to_string();
    // Before the first look, so that no step falls between the two.
    let mut events = Events::open(client, Some(&name), None).await?;
    let mut seen: Job = client.get(&["jobs", &name], &[]).await?;
    let progress = shown.then(|| output.progress(100, &format!("job {}", seen.sequence_number)));
    let mut sample = tokio::time::interval(SAMPLE);
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    while !seen.status.terminal() {
        if let Some(progress) = &progress {
            say(&seen, progress, &mut said, output);
        }
        tokio::select! {
            told = events.next() => { told?; }
            _ = sample.tick(), if shown => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                let number = seen.sequence_number;
                output.talk(&format!(
                    "Job {number} goes on. Look again: `ffrtmp jobs status {number} --follow`; end it: `ffrtmp jobs cancel {number}`"
                ));
                return Ok(ExitCode::Interrupted);
            }
        }
        seen = client.get(&["jobs", &name], &[]).await?;
    }
    if let Some(progress) = progress {
        say(&seen, &progress, &mut said, output);
        progress.finish();
    }
    show::one(&seen, output)?;
    if seen.status != JobState::Completed {
        let why = seen.error.as_deref().map(harmless);
        let why = why.or(seen.failure_reason.map(|reason| reason.to_string()));
        output.talk(&format!(
            "Job {} is {}{}",
            seen.sequence_number,
            seen.status,
            why.map_or(String::new(), |why| format!(": {why}"))
        ));
    }
    Ok(verdict(seen.status))
}

/// The bar, or where nobody sees one, a line when something changed.
fn say(job: &Job, progress: &Progress, said: &mut String, output: &mut Output) {
    let on = job
        .node_id
        .as_ref()
        .map_or(String::new(), |node| format!(" on {node}"));
    // A try that begins anew, or says nothing, has no length to show.
    progress.at(job.progress.map_or(0, |percent| percent.clamp(0.0, 100.0) as u64));
    let percent = job
        .progress
        .map_or(String::new(), |percent| format!("{percent:.0}% "));
    // Tens only: a line for each percent would be a hundred.
    let tens = job.progress.map_or(String::new(), |percent| {
        format!(", {:.0}%", (percent / 10.0).floor() * 10.0)
    });
    let text = format!("{}{on}{tens}", job.status);
    let detail = job.progress_detail.clone().unwrap_or_default();
    let speed = detail
        .speed
        .map_or(String::new(), |speed| format!(", {speed:.1}x"));
    let left = detail.eta_sec.map_or(String::new(), |left| {
        let left = Duration::try_from_secs_f64(left).unwrap_or_default();
        format!(", {} left", crate::output::age(left))
    });
    if progress.visible() {
        progress.say(&format!("{percent}{}{speed}{left}", job.status));
    } else if *said != text {
        output.talk(&format!("Job {}: {text}", job.sequence_number));
        *said = text;
    }
}

/// Waits for many jobs. `events` was opened before they were submitted; `older` says that some existed before and may have
/// ended before.
pub(super) async fn all(
    client: &Client,
    mut events: Events,
    jobs: Vec<JobUuid>,
    older: bool,
    shown: bool,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let total = jobs.len();
    let mut waiting: BTreeSet<JobUuid> = jobs.into_iter().collect();
    let mut failed = 0_usize;
    let progress = shown.then(|| output.progress(waiting.len() as u64, "ended"));
    let mut look = older;
    while !waiting.is_empty() {
        if look {
            for id in waiting.clone() {
                let job: Job = client.get(&["jobs", &id.to_string()], &[]).await?;
                if job.status.terminal() {
                    waiting.remove(&id);
                    failed += usize::from(job.status != JobState::Completed);
                }
            }
            look = false;
            continue;
        }
        let told = tokio::select! {
            told = events.next() => told?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                output.talk(&format!("{} jobs go on; `ffrtmp jobs list` shows them", waiting.len()));
                return Ok(ExitCode::Interrupted);
            }
        };
        match told {
            Told::Gap => look = true,
            Told::Event(event) if event.step.to.terminal() && waiting.remove(&event.job_id) => {
                failed += usize::from(event.step.to != JobState::Completed);
            }
            Told::Event(_) => {}
        }
        if let Some(progress) = &progress {
            progress.at((total - waiting.len()) as u64);
            progress.say(&format!("{} of {total}", total - waiting.len()));
        }
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    output.talk(&format!(
        "{} of {total} jobs completed",
        total.saturating_sub(failed)
    ));
    Ok(if failed == 0 {
        ExitCode::Success
    } else {
        ExitCode::JobFailed
    })
}
