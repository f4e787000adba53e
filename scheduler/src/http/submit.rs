//! Submission: one job or many, each with the key that makes a retry harmless.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ffrtmp_api::{
    BatchRequest, BatchResponse, Engine, ErrorCode, ItemOutcome, JobRef, JobRequest, JobUuid, Submitted,
};
use jiff::Timestamp;

use super::App;
use super::input::Body;
use super::problem::{Answer, Refused};
use crate::security::scope::Identity;
use crate::store::NewJob;

/// Longest key of a header, bytes; an item of a batch adds its number.
const KEY_MOST: usize = 200;
/// Most jobs of a batch.
const BATCH_MOST: usize = 1000;

/// The key of the header. Drafts of its RFC write it as a quoted string; most clients do not.
fn header_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let refuse = |text: &str| Refused::field("Idempotency-Key", text);
    let text = value
        .to_str()
        .map_err(|_| refuse("holds characters that no key has"))?;
    let key = text.trim().trim_matches('"');
    if key.is_empty() || key.len() > KEY_MOST {
        return Err(refuse("is empty or longer than 200 bytes"));
    }
    Ok(Some(key.to_owned()))
}

/// The header wins nothing over the body: two different keys are a mistake.
fn with_key(mut job: JobRequest, headers: &HeaderMap) -> Answer<JobRequest> {
    match (header_key(headers)?, &job.idempotency_key) {
        (Some(key), Some(own)) if *own != key => {
            let text = "differs from idempotency_key of the body; give one";
            return Err(Refused::field("Idempotency-Key", text));
        }
        (Some(key), None) => job.idempotency_key = Some(key),
        _ => {}
    }
    Ok(job)
}

fn refuse_when_full(app: &App) -> Answer<()> {
    if app.disk.is_full() {
        return Err(Refused::new(
            ErrorCode::StorageFull,
            "the scheduler's disk is nearly full: no new jobs are taken, running ones go on; free space or lower limits.disk_reserve_bytes",
        ));
    }
    Ok(())
}

/// A submission with the name it will have.
fn named(job: &JobRequest) -> Answer<NewJob> {
    // A name must be unique and is no secret: a system call for each job of a batch would be felt.
    let random = rand::random::<[u8; 10]>();
    let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
    Ok(NewJob::new(JobUuid::from_parts(now_ms, random), job)?)
}

pub(super) async fn one(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    Body(job): Body<JobRequest>,
) -> Answer<Response> {
    let job = with_key(job, &headers)?;
    job.validate()?;
    refuse_when_full(&app)?;
    let engine = job.asked_engine();
    let outcome = app
        .store
        .submit(identity.actor(), vec![named(&job)?])
        .await?
        .pop();
    let (done, status) = match outcome {
        Some(ItemOutcome::Created { id, sequence_number }) => {
            app.metrics.on_submitted(engine);
            (Submitted { id, sequence_number }, StatusCode::CREATED)
        }
        Some(ItemOutcome::Existing { id, sequence_number }) => {
            (Submitted { id, sequence_number }, StatusCode::OK)
        }
        Some(ItemOutcome::Refused { errors }) => return Err(errors.into()),
        Some(ItemOutcome::KeyReused { id }) => return Err(key_reused(&id)),
        None => {
            return Err(Refused::new(
                ErrorCode::Internal,
                "the queue gave no answer for the job",
            ));
        }
    };
    let place = [("location", format!("/api/v1/jobs/{}", done.id))];
    if wants_little(&headers) {
        let applied = [("preference-applied", "return=minimal")];
        return Ok((status, place, applied, Json(done)).into_response());
    }
    let job = app.store.get(JobRef::Id(done.id)).await?;
    Ok((status, place, Json(job)).into_response())
}

fn key_reused(id: &JobUuid) -> Refused {
    let text = format!(
        "the idempotency key belongs to job {id}, which was submitted with another body; use a new key"
    );
    Refused::new(ErrorCode::KeyReused, text)
}

/// `Prefer: return=minimal` (RFC 7240): name and number of the job are enough.
fn wants_little(headers: &HeaderMap) -> bool {
    let preferences = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok());
    preferences
        .flat_map(|text| text.split(','))
        .any(|word| word.trim() == "return=minimal")
}

pub(super) async fn batch(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    Body(batch): Body<BatchRequest>,
) -> Answer<Json<BatchResponse>> {
    if !(1..=BATCH_MOST).contains(&batch.jobs.len()) {
        let text = format!("has {} entries; send 1 to {BATCH_MOST}", batch.jobs.len());
        return Err(Refused::field("jobs", text));
    }
    refuse_when_full(&app)?;
    let key = header_key(&headers)?;
    let engines: Vec<Engine> = batch.jobs.iter().map(JobRequest::asked_engine).collect();
    // One key for the whole request becomes one for each item, so that a retry creates nothing twice.
    let made = batch.jobs.iter().enumerate().map(|(index, job)| {
        let new = named(job)?;
        Ok(match &key {
            Some(key) => new.with_key(&format!("{key}#{index}")),
            None => new,
        })
    });
    let items = app
        .store
        .submit(identity.actor(), made.collect::<Answer<_>>()?)
        .await?;
    let of_item = items
        .iter()
        .zip(engines)
        .filter(|(item, _)| matches!(item, ItemOutcome::Created { .. }));
    let created = of_item
        .map(|(_, engine)| app.metrics.on_submitted(engine))
        .count();
    Ok(Json(BatchResponse { items, created }))
}
