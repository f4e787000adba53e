//! The API: routes, who may use them, and how they answer. It decides nothing about jobs; each handler takes a request
//! apart, gives one command to the [`Store`], and puts the answer into words.
//!
//! Every path is served under `/` and `/api/v1`, those of jobs under `/api` too, as the predecessor's documents have it.

mod access;
mod events;
mod guard;
mod health;
mod input;
mod jobs;
mod nodes;
mod openapi;
pub mod problem;
mod route;
mod server;
mod submit;
mod upkeep;
mod whoami;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ffrtmp_api::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::security::Security;
use crate::security::scope::Need;
use crate::store::Store;
use guard::Door;
pub use health::Disk;
pub(crate) use health::probes;
pub use jobs::filter;
use problem::Refused;
use route::Route;
pub(crate) use server::serve;

/// What the routes share.
pub struct AppState {
    /// The queue.
    pub store: Arc<dyn Store>,
    /// Who may talk to it.
    pub security: Arc<Security>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Free space for the database.
    pub disk: Disk,
    /// Ends streams and long polls, so that connections can drain.
    pub stop: CancellationToken,
    /// Largest body, bytes.
    pub body_bytes: usize,
    /// When the process started, milliseconds since 1970: the first part of request numbers.
    pub start_ms: u64,
    document: OnceLock<Bytes>,
}

/// Shared by all requests.
pub type App = Arc<AppState>;

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState").finish_non_exhaustive()
    }
}

impl AppState {
    /// Puts the parts together.
    pub fn new(
        store: Arc<dyn Store>,
        security: Arc<Security>,
        metrics: Arc<Metrics>,
        disk: Disk,
        stop: CancellationToken,
        body_bytes: usize,
    ) -> Self {
        Self {
            store,
            security,
            metrics,
            disk,
            stop,
            body_bytes,
            start_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default(),
            document: OnceLock::new(),
        }
    }
}

/// Every route of the API.
fn routes() -> Vec<Route> {
    let mut all = health::routes();
    all.extend(jobs::routes());
    all.extend(events::routes());
    all.extend(nodes::routes());
    all.extend(access::routes());
    all.extend(upkeep::routes());
    all.extend(whoami::routes());
    all.push(
        Route::new(
            Method::GET,
            "/openapi.json",
            "getOpenapi",
            "This document",
            Need::Nobody,
            get(document),
        )
        .gives::<serde_json::Value>(200),
    );
    all
}

async fn document(axum::extract::State(app): axum::extract::State<App>) -> Response {
    let text = app
        .document
        .get_or_init(|| openapi::document(&routes()).to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response()
}

/// The `OpenAPI` document, for files and tests.
pub fn openapi() -> serde_json::Value {
    openapi::document(&routes())
}

/// The whole API.
pub fn router(app: &App) -> Router {
    let plain = mounted(app, routes());
    let jobs = routes()
        .into_iter()
        .filter(|route| route.path.starts_with("/jobs"))
        .collect();
    Router::new()
        .nest("/api/v1", plain.clone())
        .nest("/api", mounted(app, jobs))
        .merge(plain)
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(app.body_bytes))
        .with_state(Arc::clone(app))
}

fn mounted(app: &App, routes: Vec<Route>) -> Router<App> {
    routes.into_iter().fold(Router::new(), |router, route| {
        let door = Arc::new(Door {
            app: Arc::clone(app),
            need: route.need,
            audited: route.audited,
            endpoint: route.path,
        });
        router.route(
            route.path,
            route
                .serve
                .route_layer(middleware::from_fn_with_state(door, guard::guard)),
        )
    })
}

async fn unknown_route(uri: Uri) -> Refused {
    let path: String = uri.path().escape_debug().take(128).collect();
    Refused::new(
        ErrorCode::NotFound,
        format!("there is no route {path}; /openapi.json lists them all"),
    )
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let path: String = uri.path().escape_debug().take(128).collect();
    let refused = Refused::new(
        ErrorCode::Invalid,
        format!("{path} does not take {method}; /openapi.json lists what it takes"),
    );
    let mut answer = refused.into_response();
    *answer.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    answer
}

#[cfg(test)]
mod tests;
