//! Routes of jobs: submit, look, act.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::Method;
use axum::routing::{MethodRouter, get, patch, post};
use ffrtmp_api::{
    BatchRequest, BatchResponse, Cursor, Engine, ErrorCode, Explanation, Job, JobActed, JobEdit, JobFilter,
    JobList, JobLogs, JobRef, JobRequest, NodeId, Paging, Priority, Problem, Queue, Stats,
};
use jiff::Timestamp;

use super::App;
use super::input::{Body, Id, Query};
use super::problem::{Answer, Refused};
use super::route::Route;
use super::submit;
use crate::security::scope::{Need, Scope};
use crate::store::Control;

/// Largest body of one job, bytes.
const JOB_BYTES: usize = 1 << 20;
/// What the list takes, for messages.
const FILTERS: &str = "status, queue, priority, engine, scenario, node, tenant, created_after, created_before, limit and cursor";

const READ: Need = Need::Scope(Scope::Read);
const OPERATE: Need = Need::Scope(Scope::Operate);
const SUBMIT: Need = Need::Scope(Scope::Submit);

pub(super) fn routes() -> Vec<Route> {
    let mut all = submissions();
    all.extend(questions());
    all.extend(actions());
    all.push(gone(Method::GET, "/jobs/next", "nextJobGone", get(next_gone)));
    all.push(gone(Method::POST, "/results", "resultsGone", post(results_gone)));
    all
}

fn submissions() -> Vec<Route> {
    let submit_one = post(submit::one).layer(DefaultBodyLimit::max(JOB_BYTES));
    vec![
        Route::new(
            Method::POST,
            "/jobs",
            "submitJob",
            "Submit one job; 2xx means it is on disk",
            SUBMIT,
            submit_one,
        )
        .takes::<JobRequest>()
        .gives::<Job>(201)
        .gives::<Job>(200)
        .problems(&[ErrorCode::KeyReused, ErrorCode::StorageFull]),
        Route::new(
            Method::POST,
            "/jobs/batch",
            "submitJobs",
            "Submit up to 1000 jobs in one commit",
            SUBMIT,
            post(submit::batch),
        )
        .takes::<BatchRequest>()
        .gives::<BatchResponse>(200)
        .problems(&[ErrorCode::StorageFull]),
    ]
}

fn questions() -> Vec<Route> {
    vec![
        list_route(),
        Route::new(
            Method::GET,
            "/jobs/{id}",
            "getJob",
            "One job with its history and attempts",
            READ,
            get(one),
        )
        .gives::<Job>(200),
        Route::new(
            Method::GET,
            "/jobs/{id}/logs",
            "getJobLogs",
            "Last lines of its attempts",
            READ,
            get(logs),
        )
        .gives::<JobLogs>(200),
        Route::new(
            Method::GET,
            "/jobs/{id}/explain",
            "explainJob",
            "Why it waits, and when it may start",
            READ,
            get(explain),
        )
        .gives::<Explanation>(200),
        Route::new(
            Method::GET,
            "/queues",
            "getQueues",
            "Figures of the whole queue",
            READ,
            get(stats),
        )
        .gives::<Stats>(200),
    ]
}

fn actions() -> Vec<Route> {
    let act = |path, name, summary, action| {
        Route::new(Method::POST, path, name, summary, OPERATE, acting(action))
            .gives::<JobActed>(200)
            .problems(&[ErrorCode::Conflict])
    };
    vec![
        Route::new(
            Method::PATCH,
            "/jobs/{id}",
            "editJob",
            "Change a job that waits",
            OPERATE,
            patch(edit),
        )
        .takes::<JobEdit>()
        .gives::<Job>(200)
        .problems(&[ErrorCode::Conflict]),
        act("/jobs/{id}/cancel", "cancelJob", "End it", Control::Cancel),
        act(
            "/jobs/{id}/pause",
            "pauseJob",
            "Freeze its process, or keep it from starting",
            Control::Pause,
        ),
        act(
            "/jobs/{id}/resume",
            "resumeJob",
            "Undo pause and hold",
            Control::Resume,
        ),
        act(
            "/jobs/{id}/hold",
            "holdJob",
            "Keep it from starting",
            Control::Hold,
        ),
        act(
            "/jobs/{id}/retry",
            "retryJob",
            "Queue a job that has ended once more",
            Control::Retry,
        ),
    ]
}

fn list_route() -> Route {
    Route::new(
        Method::GET,
        "/jobs",
        "listJobs",
        "A page of jobs, newest first",
        READ,
        get(list),
    )
    .gives::<JobList>(200)
    .query::<String>("status", "States, separated by commas")
    .query::<Queue>("queue", "In this queue")
    .query::<Priority>("priority", "Of this priority")
    .query::<Engine>("engine", "Asked for this engine")
    .query::<String>("scenario", "Of this scenario, exactly")
    .query::<NodeId>("node", "Last given to this node")
    .query::<String>("tenant", "Of this tenant")
    .query::<String>("created_after", "Submitted at or after this time, RFC 3339")
    .query::<String>("created_before", "Submitted before this time, RFC 3339")
    .query::<u32>("limit", "Jobs on a page, 1 to 1000; 50 when left out")
    .query::<Cursor>("cursor", "Where the page before ended, from its next_cursor")
}

fn gone(method: Method, path: &'static str, name: &'static str, serve: MethodRouter<App>) -> Route {
    Route::new(
        method,
        path,
        name,
        "Left; the answer names the successor",
        Need::Nobody,
        serve,
    )
    .problems(&[ErrorCode::Gone])
}

async fn next_gone() -> Refused {
    Refused::new(
        ErrorCode::Gone,
        "jobs are no longer fetched by GET: register at POST /nodes/register and ask for work by POST /nodes/{id}/claim, or run \
         the ffrtmp governor, which does both",
    )
}

async fn results_gone() -> Refused {
    Refused::new(
        ErrorCode::Gone,
        "results carry their attempt now: send them by POST /nodes/{id}/reports, or run the ffrtmp governor, which does",
    )
}

/// A job as a path names it.
pub(super) fn job_ref(text: &str) -> Answer<JobRef> {
    text.parse()
        .map_err(|error: ffrtmp_api::JobRefError| Refused::new(ErrorCode::NotFound, error.to_string()))
}

fn time(query: &mut Query, name: &'static str) -> Answer<Option<Timestamp>> {
    let text = query.text(&[name])?;
    // A `+` of the offset that was not escaped arrives as a blank.
    let parse = |text: String| {
        text.replace(' ', "+")
            .parse()
            .map_err(|_| Refused::field(name, "is no time; write for instance 2026-01-31T12:00:00Z"))
    };
    text.map(parse).transpose()
}

/// What a query string asks of a list.
fn asked(mut query: Query) -> Answer<(JobFilter, Paging)> {
    let status = query.text(&["status", "state"])?;
    let filter = JobFilter {
        status: status
            .as_deref()
            .map(JobFilter::states)
            .transpose()?
            .unwrap_or_default(),
        queue: query.parsed(&["queue"])?,
        priority: query.parsed(&["priority"])?,
        engine: query.parsed(&["engine"])?,
        scenario: query.text(&["scenario"])?,
        node: query.parsed(&["node", "node_id"])?,
        tenant: query.text(&["tenant", "tenant_id"])?,
        created_after: time(&mut query, "created_after")?,
        created_before: time(&mut query, "created_before")?,
    };
    let paging = Paging {
        limit: query.parsed(&["limit"])?.unwrap_or(Paging::LIMIT),
        cursor: query.parsed(&["cursor"])?,
    };
    query.end(FILTERS)?;
    filter.validate()?;
    paging.validate()?;
    Ok((filter, paging))
}

/// Reads a query string as the list of jobs does; for fuzzers and clients that check before they ask.
pub fn filter(query: &str) -> Result<(JobFilter, Paging), Problem> {
    asked(Query::of(query)).map_err(|refused| refused.0)
}

async fn list(State(app): State<App>, query: Query) -> Answer<Json<JobList>> {
    let (filter, paging) = asked(query)?;
    Ok(Json(app.store.list(filter, paging).await?))
}

async fn one(State(app): State<App>, Id(id): Id) -> Answer<Json<Job>> {
    Ok(Json(app.store.get(job_ref(&id)?).await?))
}

async fn edit(State(app): State<App>, Id(id): Id, Body(edit): Body<JobEdit>) -> Answer<Json<Job>> {
    let job = job_ref(&id)?;
    if edit == JobEdit::default() {
        return Err(Refused::field(
            "body",
            "changes nothing; give priority, queue or max_retries",
        ));
    }
    if edit.max_retries.is_some_and(|tries| tries > 100) {
        return Err(Refused::field("max_retries", "write 0 to 100"));
    }
    Ok(Json(app.store.edit(job, edit).await?))
}

async fn explain(State(app): State<App>, Id(id): Id) -> Answer<Json<Explanation>> {
    Ok(Json(app.store.explain(job_ref(&id)?).await?))
}

async fn stats(State(app): State<App>) -> Answer<Json<Stats>> {
    Ok(Json(app.store.stats().await?))
}

/// Where no attempt left lines, the error stands for them, as the predecessor's clients expect.
async fn logs(State(app): State<App>, Id(id): Id) -> Answer<Json<JobLogs>> {
    let job = app.store.get(job_ref(&id)?).await?;
    let attempts = job.attempts.unwrap_or_default();
    let lines: Vec<String> = attempts
        .into_iter()
        .filter_map(|attempt| attempt.result)
        .flat_map(|result| result.log_tail)
        .collect();
    let logs = if lines.is_empty() {
        job.error.unwrap_or_default()
    } else {
        lines.join("\n")
    };
    Ok(Json(JobLogs { job_id: job.id, logs }))
}

fn acting(action: Control) -> MethodRouter<App> {
    post(move |State(app): State<App>, Id(id): Id| act(app, id, action))
}

async fn act(app: App, id: String, action: Control) -> Answer<Json<JobActed>> {
    let job = app.store.control(job_ref(&id)?, action).await?;
    let status = match action {
        Control::Cancel => "canceled",
        Control::Pause => "paused",
        Control::Resume => "resumed",
        Control::Hold => "held",
        Control::Retry => "queued",
    };
    Ok(Json(JobActed {
        status: status.to_owned(),
        job_id: job.id,
        sequence_number: job.sequence_number,
        state: job.status,
        retry_count: job.retry_count,
    }))
}
