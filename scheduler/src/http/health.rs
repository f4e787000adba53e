//! Probes: does the process live (`/healthz`, `/health`), can it do its work (`/readyz`, `/ready`); and the port of their
//! own that they share with `/metrics`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ffrtmp_api::Health;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use super::App;
use super::route::Route;
use crate::metrics::Moment;
use crate::security::scope::Need;

/// How long a probe waits for the queue, which answers in milliseconds. Below the 10 s that Prometheus waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Free space where the database is. Submissions look at what was last measured, so that they cost no system call.
#[derive(Debug, Clone)]
pub struct Disk {
    place: PathBuf,
    reserve: u64,
    measured: Arc<Measured>,
}

#[derive(Debug, Default)]
struct Measured {
    known: AtomicBool,
    free: AtomicU64,
}

impl Disk {
    /// Of the filesystem that holds `database`; full when less than `reserve` bytes are free.
    pub fn of(database: &Path, reserve: u64) -> Self {
        let place = database
            .parent()
            .filter(|place| !place.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let disk = Self {
            place: place.to_path_buf(),
            reserve,
            measured: Arc::default(),
        };
        disk.measure();
        disk
    }

    /// Asks the system.
    pub fn measure(&self) {
        match statvfs(&self.place) {
            Ok(found) => {
                self.measured.free.store(
                    found.blocks_available().saturating_mul(found.fragment_size()),
                    Ordering::Relaxed,
                );
                self.measured.known.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                self.measured.known.store(false, Ordering::Relaxed);
                tracing::warn!(%error, "free space of {} is not known", self.place.display());
            }
        }
    }

    /// Bytes that were free; `None` when that is not known.
    pub fn free(&self) -> Option<u64> {
        self.measured
            .known
            .load(Ordering::Relaxed)
            .then(|| self.measured.free.load(Ordering::Relaxed))
    }

    /// Whether too little is free. What is not known is not full: SQLite itself will say.
    pub fn is_full(&self) -> bool {
        self.free().is_some_and(|free| free < self.reserve)
    }
}

pub(super) fn routes() -> Vec<Route> {
    let health = |path, name| {
        Route::new(
            Method::GET,
            path,
            name,
            "The process lives",
            Need::Nobody,
            get(healthz),
        )
        .gives::<Health>(200)
    };
    let ready = |path, name| {
        Route::new(
            Method::GET,
            path,
            name,
            "Database and disk are fit for work",
            Need::Nobody,
            get(readyz),
        )
        .gives::<Value>(200)
        .gives::<Value>(503)
    };
    vec![
        health("/healthz", "healthz"),
        health("/health", "health"),
        ready("/readyz", "readyz"),
        ready("/ready", "ready"),
    ]
}

/// The port of metrics and probes: plain HTTP, nobody is asked for a key.
pub(crate) fn probes(app: &App) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/health", get(healthz))
        .route("/readyz", get(readyz))
        .route("/ready", get(readyz))
        .with_state(App::clone(app))
}

async fn healthz() -> Json<Health> {
    Json(Health {
        status: "healthy".to_owned(),
    })
}

async fn readyz(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let database = match tokio::time::timeout(PATIENCE, app.store.health()).await {
        Ok(Ok(health)) => match health.trouble {
            None => Ok(health),
            Some(trouble) => Err(trouble),
        },
        Ok(Err(error)) => Err(error.problem().detail),
        Err(_) => Err("the queue does not answer; look at the scheduler's log".to_owned()),
    };
    app.disk.measure();
    let full = app.disk.is_full();
    let draining = app.stop.is_cancelled();
    let ready = database.is_ok() && !full && !draining;
    let body = json!({
        "status": if ready { "ready" } else { "not_ready" },
        "checks": {
            "database": match database {
                Ok(health) => json!({"state": "ok", "bytes": health.database_bytes, "wal_bytes": health.wal_bytes, "versions": health.versions}),
                Err(error) => json!({"state": "failed", "error": error}),
            },
            "disk": {"state": if full { "full" } else { "ok" }, "free_bytes": app.disk.free()},
            "drain": {"state": if draining { "draining" } else { "ok" }},
        },
        "timestamp": jiff::Timestamp::now(),
    });
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        Json(body),
    )
}

async fn metrics(State(app): State<App>) -> Response {
    let stats = tokio::time::timeout(PATIENCE, app.store.stats())
        .await
        .ok()
        .and_then(Result::ok);
    let moment = Moment {
        stats,
        audit_dropped: app.security.audit.dropped(),
        certificate_ends: app.security.certificate_ends().map(jiff::Timestamp::as_second),
        disk_free: app.disk.free(),
    };
    match app.metrics.render(&moment) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}
