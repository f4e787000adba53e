//! `ffrtmp jobs submit`: one job by one request, many by batches. Each submission carries a key, so that one whose answer was
//! lost is sent again without making the job twice.

use ffrtmp_api::{BatchRequest, BatchResponse, ItemOutcome, Job, JobRequest, JobUuid};
use serde_json::json;

use super::args::SubmitArgs;
use super::batch::{self, Item};
use super::{follow, show};
use crate::args::Format;
use crate::client::events::Events;
use crate::client::{Client, new_key};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, harmless};

/// Most jobs of one request, as the scheduler has it.
const BATCH_MOST: usize = 1000;
/// Most bytes of one request: half of what the scheduler takes by default.
const BATCH_BYTES: usize = 4 << 20;

/// Shows what would be submitted.
pub(super) fn dry_run(args: &SubmitArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let items = batch::items(args)?;
    match output.format() {
        Format::Json if is_single(args) => {
            if let [one] = items.as_slice() {
                output.json(&one.job)?;
            }
        }
        Format::Json => {
            for item in &items {
                output.json_line(&item.job)?;
            }
        }
        _ => output.rows(&show::request_rows(&items))?,
    }
    output.talk(&format!(
        "Dry run: {} would be submitted; nothing was sent",
        counted(items.len())
    ));
    Ok(ExitCode::Success)
}

/// Submits.
pub(super) async fn submit(
    args: &SubmitArgs,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let items = batch::items(args)?;
    match items.as_slice() {
        [one] if is_single(args) => single(args, &one.job, client, output).await,
        _ => many(args, items, client, output).await,
    }
}

fn is_single(args: &SubmitArgs) -> bool {
    args.file.is_none() && args.glob.is_none()
}

fn counted(jobs: usize) -> String {
    format!("{jobs} {}", if jobs == 1 { "job" } else { "jobs" })
}

async fn single(
    args: &SubmitArgs,
    job: &JobRequest,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let key = args.idempotency_key.clone().unwrap_or_else(new_key);
    let made: Job = client.post(&["jobs"], job, &key).await?;
    let waits = args.wait || args.follow;
    // A program that waits gets one result, that of the end.
    if !(waits && matches!(output.format(), Format::Json | Format::Csv)) {
        show::submitted(&made, output)?;
    }
    output.talk(&format!("Job submitted: number {}", made.sequence_number));
    if !waits {
        return Ok(ExitCode::Success);
    }
    follow::follow(client, made.id.into(), args.follow, output).await
}

/// What became of one item.
struct Done {
    place: String,
    outcome: ItemOutcome,
}

async fn many(
    args: &SubmitArgs,
    items: Vec<Item>,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let total = items.len();
    let waits = args.wait || args.follow;
    // Opened before the first submission, so that no end is missed.
    let events = if waits {
        Some(Events::open(client, None, None).await?)
    } else {
        None
    };
    let mut done = Vec::new();
    let ended = send(args, items, client, output, &mut done).await;
    let created = report(&done, total, output)?;
    if let Err(failure) = ended {
        output.talk(&format!(
            "{} were not sent; run the same again with --idempotency-key to send the rest and none twice",
            counted(total - done.len())
        ));
        return Err(failure);
    }
    let ids: Vec<JobUuid> = done.iter().filter_map(|item| id(&item.outcome)).collect();
    let all = ids.len() == total;
    let older = done
        .iter()
        .any(|item| matches!(item.outcome, ItemOutcome::Existing { .. }));
    let verdict = match events {
        Some(events) => follow::all(client, events, ids, older, args.follow, output).await?,
        None => ExitCode::Success,
    };
    Ok(if all && created {
        verdict
    } else {
        ExitCode::Partial
    })
}

fn id(outcome: &ItemOutcome) -> Option<JobUuid> {
    match outcome {
        ItemOutcome::Created { id, .. } | ItemOutcome::Existing { id, .. } => Some(*id),
        ItemOutcome::Refused { .. } | ItemOutcome::KeyReused { .. } => None,
    }
}

async fn send(
    args: &SubmitArgs,
    items: Vec<Item>,
    client: &Client,
    output: &mut Output,
    done: &mut Vec<Done>,
) -> Result<(), Failure> {
    let base = args.idempotency_key.clone().unwrap_or_else(new_key);
    if items.len() > BATCH_MOST {
        output.talk(&format!(
            "Submitting {} under the key {base}",
            counted(items.len())
        ));
    }
    let progress = output.progress(items.len() as u64, "submitting");
    let mut waiting = items.into_iter().enumerate().peekable();
    let mut number = 0;
    while waiting.peek().is_some() {
        let (mut places, mut jobs, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((index, item)) = waiting.next_if(|_| jobs.len() < BATCH_MOST && bytes < BATCH_BYTES) {
            let mut job = item.job;
            // The key of an item is its own, not its batch's: where batches are cut may change.
            job.idempotency_key
                .get_or_insert_with(|| format!("{base}#{index}"));
            bytes += serde_json::to_string(&job).map_or(0, |text| text.len());
            jobs.push(job);
            places.push(item.place);
        }
        let key = format!("{base}.{number}");
        number += 1;
        let answer: BatchResponse = client
            .post(&["jobs", "batch"], &BatchRequest { jobs }, &key)
            .await?;
        let pairs = places.into_iter().zip(answer.items);
        done.extend(pairs.map(|(place, outcome)| Done { place, outcome }));
        progress.at(done.len() as u64);
        progress.say(&done.len().to_string());
    }
    progress.finish();
    Ok(())
}

/// Tells of every item; true when none was refused.
fn report(done: &[Done], total: usize, output: &mut Output) -> Result<bool, Failure> {
    let mut rows = Rows::new(&["PLACE", "OUTCOME", "JOB #", "ID", "ERROR"]);
    let (mut created, mut existing, mut refused) = (0, 0, 0);
    for Done { place, outcome } in done {
        let (word, number, id, error) = match outcome {
            ItemOutcome::Created { id, sequence_number } => {
                created += 1;
                (
                    "created",
                    sequence_number.to_string(),
                    id.to_string(),
                    String::new(),
                )
            }
            ItemOutcome::Existing { id, sequence_number } => {
                existing += 1;
                (
                    "existing",
                    sequence_number.to_string(),
                    id.to_string(),
                    String::new(),
                )
            }
            ItemOutcome::Refused { errors } => {
                refused += 1;
                let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
                (
                    "refused",
                    "-".to_owned(),
                    "-".to_owned(),
                    harmless(&told.join("; ")),
                )
            }
            ItemOutcome::KeyReused { id } => {
                refused += 1;
                let error = "the idempotency key made this job before, with another body";
                ("refused", "-".to_owned(), id.to_string(), error.to_owned())
            }
        };
        rows.push(vec![place.clone(), word.to_owned(), number, id, error]);
    }
    if output.format() == Format::Json {
        let items: Vec<_> = done
            .iter()
            .map(|item| json!({"place": item.place, "result": item.outcome}))
            .collect();
        output
            .json(&json!({"created": created, "existing": existing, "refused": refused, "items": items}))?;
    } else {
        output.rows(&rows)?;
    }
    output.talk(&format!(
        "{created} of {} created, {existing} existed, {refused} refused",
        counted(total)
    ));
    Ok(refused == 0)
}
