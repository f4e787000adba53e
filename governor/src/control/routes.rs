//! The routes: each takes a request apart, asks the engine or the ledger once, and answers.
//!
//! Errors are [`RequestError`] as JSON; their code gives the HTTP status. No input makes a handler panic.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::peer::{self, Credentials};
use super::server::{ControlState, FALLEN_BACK};
use super::session::{self, Session};
use super::types::{
    AttachRequest, BODY_MAX, ErrorCode, Explain, JobEvent, JobKey, JobView, Peer, ReleaseRequest, Released,
    Reloaded, RequestError, SessionOpened, SessionRules, Status,
};
use crate::core::rule::PlacementMode;
use crate::ledger::LedgerState;

/// Most records of the past in one answer.
const HISTORY_MAX: u32 = 1000;

type Shared = State<Arc<ControlState>>;
type Answer<T> = Result<Json<T>, RequestError>;

/// All routes of the socket.
pub(super) fn router(state: Arc<ControlState>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/jobs", get(jobs))
        .route("/v1/jobs/{name}", get(job))
        .route("/v1/jobs/{name}/wait", get(wait))
        .route("/v1/explain/{pid}", get(explain))
        .route("/v1/attach", post(attach))
        .route("/v1/release", post(release))
        .route("/v1/reload", post(reload))
        .route("/v1/events", get(events))
        .route("/v1/sessions", post(sessions))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(state)
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let status = match self.code {
            ErrorCode::NoSuchProcess | ErrorCode::NoSuchJob => StatusCode::NOT_FOUND,
            ErrorCode::NotAllowed => StatusCode::FORBIDDEN,
            ErrorCode::NotGovernable => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::JobIdInUse => StatusCode::CONFLICT,
            ErrorCode::Invalid => StatusCode::BAD_REQUEST,
            ErrorCode::Gone => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}

/// The peer of the connection a request came by.
struct Caller(Peer);

impl FromRequestParts<Arc<ControlState>> for Caller {
    type Rejection = RequestError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ControlState>) -> Result<Self, RequestError> {
        let ConnectInfo(credentials) = ConnectInfo::<Credentials>::from_request_parts(parts, state)
            .await
            .map_err(|error| failed(format!("the peer of the socket is not known: {error}")))?;
        let state = Arc::clone(state);
        // The group database may be a file or a directory server.
        blocking(move || Ok(Self(credentials.peer(&state.group)))).await
    }
}

fn failed(message: impl Into<String>) -> RequestError {
    RequestError::new(ErrorCode::Failed, message, "look at the governor's log")
}

fn no_such_job(name: &str) -> RequestError {
    RequestError::new(
        ErrorCode::NoSuchJob,
        format!("no job is named `{}`", crate::core::redact::harmless(name)),
        "`ffrtmp ps --all` lists the jobs, past ones included; name one by its id, pid or key",
    )
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RequestError> + Send + 'static,
) -> Result<T, RequestError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(failed(format!("the request's work was cut short: {error}"))))
}

/// Reads a JSON body; the error names the field.
fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, RequestError> {
    let invalid = |message: String| {
        RequestError::new(
            ErrorCode::Invalid,
            message,
            "the body is JSON; the fields are those of the governor's control types",
        )
    };
    let body = body.map_err(|error| invalid(format!("the body was not read: {}", error.body_text())))?;
    let mut deserializer = serde_json::Deserializer::from_slice(&body);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| invalid(format!("field `{}`: {}", error.path(), error.inner())))?;
    deserializer
        .end()
        .map_err(|error| invalid(format!("text after the end of the JSON: {error}")))?;
    Ok(value)
}

async fn unknown_route(uri: axum::http::Uri) -> Response {
    let error = RequestError::new(
        ErrorCode::Invalid,
        format!("no route {}", uri.path()),
        "routes are /v1/status, jobs, explain/PID, attach, release, reload, events, sessions; is the client newer \
         than the daemon?",
    );
    (StatusCode::NOT_FOUND, Json(error)).into_response()
}

async fn unknown_method(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    let error = RequestError::new(
        ErrorCode::Invalid,
        format!("{} does not take {method}", uri.path()),
        "questions are GET, orders are POST",
    );
    (StatusCode::METHOD_NOT_ALLOWED, Json(error)).into_response()
}

async fn status(State(state): Shared) -> Answer<Status> {
    let mut status = state.engine.status().await?;
    if state.fallback.load(Ordering::Relaxed) {
        status.off.push(FALLEN_BACK.to_owned());
    }
    let ledger = state.ledger.snapshot();
    if let LedgerState::Degraded { since, error } = ledger.state {
        status.off.push(format!("ledger: since {since}: {error}"));
    }
    status
        .counters
        .insert("ledger_backlog".to_owned(), ledger.backlog);
    status
        .counters
        .insert("ledger_failures".to_owned(), ledger.failures);
    Ok(Json(status))
}

#[derive(Debug, serde::Deserialize)]
struct JobsQuery {
    all: Option<String>,
    limit: Option<u32>,
}

async fn jobs(
    State(state): Shared,
    Caller(peer): Caller,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Answer<Vec<JobView>> {
    let Query(query) = query.map_err(|error| {
        RequestError::new(
            ErrorCode::Invalid,
            error.body_text(),
            "the query is ?all=1 and ?limit=N",
        )
    })?;
    let mut jobs = state.engine.jobs().await?;
    if query.all.is_some_and(|all| all == "1" || all == "true") {
        let limit = query.limit.unwrap_or(HISTORY_MAX).min(HISTORY_MAX);
        let known: HashSet<JobKey> = jobs.iter().map(|job| job.key).collect();
        let past = history(&state, move |reader| reader.history(limit)).await?;
        jobs.extend(past.into_iter().filter(|job| !known.contains(&job.key)));
    } else {
        jobs.retain(|job| job.live > 0 || job.report.end_time.is_none());
    }
    Ok(Json(
        jobs.into_iter().map(|job| peer::job_for(peer, job)).collect(),
    ))
}

/// Asks the ledger; nothing where it has no file.
async fn history(
    state: &ControlState,
    ask: impl FnOnce(&crate::ledger::Reader) -> Result<Vec<JobView>, crate::ledger::LedgerError> + Send + 'static,
) -> Result<Vec<JobView>, RequestError> {
    let Some(reader) = state.reader.clone() else {
        return Ok(Vec::new());
    };
    blocking(move || {
        ask(&reader).map_err(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the ledger did not answer"
            );
            failed(error.to_string())
        })
    })
    .await
}

/// A job by key, pid or label: the live one first, then the last of the engine's, then the last of the ledger's.
async fn find(state: &ControlState, name: &str) -> Result<JobView, RequestError> {
    let jobs = state.engine.jobs().await?;
    let mut named: Vec<JobView> = jobs.into_iter().filter(|job| peer::is_named(job, name)).collect();
    named.sort_by_key(|job| (job.live > 0, job.key.0.start));
    if let Some(job) = named.pop() {
        return Ok(job);
    }
    let label = name.to_owned();
    let past = history(state, move |reader| match label.parse::<JobKey>() {
        Ok(key) => Ok(reader.by_key(key)?.into_iter().collect()),
        Err(_) => reader.by_job_id(&label, 1),
    });
    past.await?.pop().ok_or_else(|| no_such_job(name))
}

async fn job(State(state): Shared, Caller(peer): Caller, Path(name): Path<String>) -> Answer<JobView> {
    Ok(Json(peer::job_for(peer, find(&state, &name).await?)))
}

async fn wait(State(state): Shared, Caller(peer): Caller, Path(name): Path<String>) -> Answer<JobView> {
    let job = find(&state, &name).await?;
    let ended = if job.report.end_time.is_some() {
        job
    } else {
        state.engine.wait(job.key).await?
    };
    Ok(Json(peer::job_for(peer, ended)))
}

async fn explain(State(state): Shared, Caller(peer): Caller, Path(pid): Path<String>) -> Answer<Explain> {
    let pid: u32 = pid.parse().map_err(|_| {
        RequestError::new(
            ErrorCode::Invalid,
            format!(
                "field `pid`: `{}` is not a pid",
                crate::core::redact::harmless(&pid)
            ),
            "write a process number, for instance `ffrtmp explain 4711`",
        )
    })?;
    let explained = state.engine.explain(pid).await?;
    let owner = explained.job.as_ref().map(|job| job.uid);
    blocking(move || peer::may_explain(peer, pid, owner)).await?;
    Ok(Json(explained))
}

async fn attach(
    State(state): Shared,
    Caller(peer): Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<JobView> {
    let mut request: AttachRequest = parse(body)?;
    request.limits.validate().map_err(|error| {
        RequestError::new(
            ErrorCode::Invalid,
            format!("field `limits`: {error}"),
            "see `ffrtmp attach --help`",
        )
    })?;
    if state.observes() {
        request.placement = Some(PlacementMode::Observe);
    }
    let request = if peer.privileged {
        request
    } else {
        let jobs = state.engine.jobs().await?;
        blocking(move || peer::may_attach(peer, &request, &jobs).map(|()| request)).await?
    };
    Ok(Json(state.engine.attach(request, peer).await?))
}

async fn release(
    State(state): Shared,
    Caller(peer): Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Vec<Released>> {
    let request: ReleaseRequest = parse(body)?;
    peer::may_release(peer, &request, &state.engine.jobs().await?)?;
    Ok(Json(state.engine.release(request, peer).await?))
}

async fn reload(State(state): Shared, Caller(peer): Caller) -> Answer<Reloaded> {
    peer::privileged_only(peer, "reload the rules")?;
    let reload = Arc::clone(&state.reload);
    Ok(Json(blocking(move || reload()).await?))
}

async fn events(State(state): Shared, Caller(peer): Caller) -> Result<Response, RequestError> {
    let events = ReceiverStream::new(session::listen(&state.engine).await?);
    Ok(lines(
        events.map(move |event| line(&peer::event_for(peer, event))),
    ))
}

/// The session lives as long as its answer is read: the guard belongs to the stream, and the stream is dropped with
/// the connection.
async fn sessions(
    State(state): Shared,
    Caller(peer): Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, RequestError> {
    peer::privileged_only(peer, "bring rules of their own")?;
    let rules: SessionRules = parse(body)?;
    let mut lowered = session::lower(&rules)?;
    if state.observes() {
        lowered = session::observed(&lowered);
    }
    let session = Session::with(&state.engine, lowered).await?;
    let first = line(&SessionOpened {
        session: session.number,
    });
    let (events, guard) = session.into_parts();
    let following = ReceiverStream::new(events).map(move |event: JobEvent| {
        let _alive = &guard;
        line(&event)
    });
    Ok(lines(tokio_stream::once(first).chain(following)))
}

/// One line of NDJSON.
fn line<T: Serialize>(value: &T) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text.into())
}

fn lines(
    stream: impl tokio_stream::Stream<Item = Result<Bytes, serde_json::Error>> + Send + 'static,
) -> Response {
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(stream),
    )
        .into_response()
}
