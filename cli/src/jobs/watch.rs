//! `ffrtmp jobs watch`: what happens to jobs, a line an event.

use ffrtmp_api::{Job, JobEvent};

use super::args::WatchArgs;
use super::follow::verdict;
use crate::args::Format;
use crate::client::Client;
use crate::client::events::{Events, Told};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, harmless, or_dash, second};

/// Prints events until the job has ended, or the reader or the person has gone.
pub(super) async fn watch(
    client: &Client,
    args: &WatchArgs,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let name = args.job.map(|job| job.to_string());
    let mut events = Events::open(client, name.as_deref(), args.after).await?;
    if let Some(name) = &name
        && args.after.is_none()
    {
        let job: Job = client.get(&["jobs", name], &[]).await?;
        if job.status.terminal() {
            output.talk(&format!("Job {} is {} already", job.sequence_number, job.status));
            return Ok(verdict(job.status));
        }
    }
    if output.format() == Format::Csv {
        output.line("ID,AT,JOB #,FROM,TO,NODE,ATTEMPT,REASON")?;
    }
    while !output.closed() {
        let told = tokio::select! {
            told = events.next() => told?,
            // Ending the watch is what was asked for; no job notices.
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(ExitCode::Success);
            }
        };
        let Told::Event(event) = told else {
            output.talk("The connection broke before any event; some may be missing");
            continue;
        };
        print(&event, output)?;
        if let Some(name) = &name
            && event.step.to.terminal()
            && is_last(client, name, &event).await?
        {
            return Ok(verdict(event.step.to));
        }
    }
    Ok(ExitCode::Success)
}

/// False for an end of the past, after which the job was retried.
async fn is_last(client: &Client, name: &str, event: &JobEvent) -> Result<bool, Failure> {
    let job: Job = client.get(&["jobs", name], &[]).await?;
    let last = job.state_transitions.as_deref().and_then(<[_]>::last);
    Ok(job.status.terminal()
        && last.is_none_or(|last| last.to == event.step.to && last.timestamp == event.step.timestamp))
}

fn print(event: &JobEvent, output: &mut Output) -> Result<(), Failure> {
    let step = &event.step;
    let from = or_dash(step.from, |from| from.to_string());
    let node = or_dash(event.node_id.as_ref(), ToString::to_string);
    let attempt = or_dash(event.attempt, |attempt| attempt.to_string());
    match output.format() {
        Format::Json => output.json_line(event)?,
        Format::Csv => {
            let cells = [
                event.id.to_string(),
                step.timestamp.to_string(),
                event.sequence_number.to_string(),
                from,
                step.to.to_string(),
                node,
                attempt,
                step.reason.clone(),
            ];
            output.csv_line(&cells)?;
        }
        _ => output.line(&format!(
            "{} #{} {from} -> {} {}{}",
            second(step.timestamp),
            event.sequence_number,
            step.to,
            if node == "-" {
                String::new()
            } else {
                format!("on {node}, attempt {attempt}: ")
            },
            harmless(&step.reason),
        ))?,
    }
    Ok(())
}
