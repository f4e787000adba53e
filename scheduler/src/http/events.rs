//! The stream of events, of all jobs or of one: server-sent events that go on where a client left off.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use ffrtmp_api::{ErrorCode, JobEvent, JobUuid};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::input::{Id, Query};
use super::jobs::job_ref;
use super::problem::{Answer, Refused};
use super::route::Route;
use crate::security::scope::{Need, Scope};

/// Events fetched at a time.
const PAGE: u32 = 500;
/// Events that wait for a slow reader; after that it is waited for, and nobody else is.
const WAITING_MAX: usize = 64;
/// How often a quiet stream says that it lives: below the 60 s at which proxies cut.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> Vec<Route> {
    let route = |path, name, summary, serve| {
        Route::new(Method::GET, path, name, summary, Need::Scope(Scope::Read), serve)
            .gives_other(200)
            .query::<i64>(
                "after",
                "Number of the last event seen; 0 is the beginning; what comes from now on when left out",
            )
            .problems(&[ErrorCode::Gone])
    };
    vec![
        route(
            "/events",
            "watchEvents",
            "Transitions of all jobs as server-sent events",
            get(all),
        ),
        route(
            "/jobs/{id}/events",
            "watchJob",
            "Transitions of one job as server-sent events",
            get(of_job),
        ),
    ]
}

async fn all(
    State(app): State<App>,
    headers: HeaderMap,
    query: Query,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let clock = *app.store.watch().borrow();
    let after = start(&headers, query, clock)?;
    stream(app, None, after).await
}

async fn of_job(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    query: Query,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let job = app.store.get(job_ref(&id)?).await?.id;
    let clock = *app.store.watch().borrow();
    let after = start(&headers, query, clock)?;
    stream(app, Some(job), after).await
}

/// A browser that reconnects sends the last number it saw in a header; that is later than the one in the address.
fn start(headers: &HeaderMap, mut query: Query, clock: i64) -> Answer<i64> {
    let refuse = |name: &str| Refused::field(name, "is no number of an event; write 0 or more");
    let last = headers.get("last-event-id").map(|value| {
        value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| refuse("Last-Event-ID"))
    });
    let asked: Option<i64> = query.parsed(&["after"])?;
    query.end("after")?;
    let after = last.transpose()?.or(asked).unwrap_or(clock);
    if after < 0 {
        Err(refuse("after"))
    } else {
        Ok(after)
    }
}

/// The first page is fetched before the answer begins, so that its problems are answers and not broken streams.
async fn stream(
    app: App,
    job: Option<JobUuid>,
    after: i64,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let mut clock = app.store.watch();
    clock.mark_unchanged();
    let first = app.store.events(after, PAGE).await?;
    let (sender, events) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let follow = follow(&app, job, after, first, clock, &sender);
        tokio::select! {
            () = follow => {}
            () = app.stop.cancelled() => {}
            () = sender.closed() => {}
        }
    });
    Ok(Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn follow(
    app: &App,
    job: Option<JobUuid>,
    mut after: i64,
    first: Vec<JobEvent>,
    mut clock: tokio::sync::watch::Receiver<i64>,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut page = first;
    loop {
        let full = page.len() >= PAGE as usize;
        for event in page {
            after = after.max(event.id);
            if job.is_some_and(|job| job != event.job_id) {
                continue;
            }
            let Ok(line) = Event::default()
                .event("transition")
                .id(event.id.to_string())
                .json_data(&event)
            else {
                return;
            };
            if sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
        if !full && clock.changed().await.is_err() {
            return;
        }
        page = match app.store.events(after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                let told = Event::default().event("problem").json_data(error.problem());
                if let Ok(event) = told
                    && sender.send(Ok(event)).await.is_err()
                {
                    tracing::debug!("a stream's reader left before its problem was told");
                }
                return;
            }
        };
    }
}
