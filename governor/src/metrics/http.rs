//! The port: `/metrics`, `/healthz` (the process lives) and `/readyz` (it governs and remembers).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::instruments::Instruments;
use super::render::{Figures, render};
use crate::control::types::Status;
use crate::engine::handle::EngineHandle;
use crate::ledger::{LedgerHealth, LedgerState};
use crate::webhook::WebhookStats;

/// How long a scrape waits for the engine, which answers in microseconds. Below the 10 s that Prometheus waits.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the figures come from.
#[derive(Debug)]
pub struct MetricsSource {
    engine: EngineHandle,
    ledger: LedgerHealth,
    started: Instant,
    /// Set while the daemon only observes because it crashed too often.
    fallback: Arc<AtomicBool>,
    /// What the engine counts by class.
    pub instruments: Option<Arc<Instruments>>,
    /// What became of the webhook's events.
    pub webhook: Option<WebhookStats>,
}

impl MetricsSource {
    /// The daemon counts as started now.
    pub fn new(engine: EngineHandle, ledger: LedgerHealth, fallback: Arc<AtomicBool>) -> Self {
        Self {
            engine,
            ledger,
            started: Instant::now(),
            fallback,
            instruments: None,
            webhook: None,
        }
    }

    async fn status(&self) -> Option<Status> {
        tokio::time::timeout(ENGINE_TIMEOUT, self.engine.status())
            .await
            .ok()?
            .ok()
    }
}

/// Serves the port until `stop` is ready.
pub async fn serve(
    listener: TcpListener,
    source: MetricsSource,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(source))
        .with_graceful_shutdown(stop)
        .await
}

/// `/health` and `/ready` are the names the predecessor's probes know.
fn router(source: MetricsSource) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/health", get(healthz))
        .route("/readyz", get(readyz))
        .route("/ready", get(readyz))
        .with_state(Arc::new(source))
}

async fn metrics(State(source): State<Arc<MetricsSource>>) -> Response {
    let figures = Figures {
        status: source.status().await,
        ledger: source.ledger.snapshot(),
        observe_fallback: source.fallback.load(Ordering::Relaxed),
        webhook: source.webhook.as_ref().map(WebhookStats::snapshot),
        lasting: source
            .instruments
            .as_ref()
            .map_or_else(Vec::new, |instruments| instruments.gather()),
        uptime_sec: source.started.elapsed().as_secs_f64(),
    };
    match render(&figures) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "healthy", "timestamp": jiff::Timestamp::now()}))
}

async fn readyz(State(source): State<Arc<MetricsSource>>) -> (StatusCode, Json<Value>) {
    let status = source.status().await;
    let ledger = source.ledger.state();
    let ready = status.is_some() && ledger == LedgerState::Ok;
    let (code, word) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let engine = match status {
        Some(status) => json!({"state": "ok", "tier": status.tier, "tier_reason": status.tier_reason}),
        None => json!({"state": "silent", "error": "the engine does not answer; look at the governor's log"}),
    };
    let body = json!({
        "status": word,
        "checks": {"engine": engine, "ledger": ledger},
        "timestamp": jiff::Timestamp::now(),
    });
    (code, Json(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeEngine, live_job};
    use tokio_util::sync::CancellationToken;

    struct World {
        engine: FakeEngine,
        ledger: LedgerHealth,
        base: String,
        stop: CancellationToken,
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    async fn start() -> World {
        let engine = FakeEngine::start(vec![live_job(10, 5, 0, "job")]);
        let ledger = LedgerHealth::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let source = MetricsSource::new(engine.handle.clone(), ledger.clone(), Arc::default());
        tokio::spawn(serve(listener, source, stop.clone().cancelled_owned()));
        World {
            engine,
            ledger,
            base,
            stop,
        }
    }

    async fn ask(world: &World, path: &str) -> (u16, String) {
        crate::tls::use_ring();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("{}{path}", world.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn a_scrape_shows_the_engines_figures() {
        let world = start().await;
        let (code, text) = ask(&world, "/metrics").await;
        assert_eq!(code, 200);
        assert!(text.contains("\nffrtmp_worker_active_attachments 1\n"), "{text}");
        assert!(text.contains("\nffrtmp_worker_discovered_processes_total 7\n"));
    }

    #[tokio::test]
    async fn readiness_falls_with_the_ledger_and_with_the_engine_but_health_stays() {
        let world = start().await;
        assert_eq!(ask(&world, "/readyz").await.0, 200);
        world.ledger.fail("disk full".to_owned());
        let (code, text) = ask(&world, "/readyz").await;
        assert!(code == 503 && text.contains("disk full"), "{text}");
        world.ledger.recover();
        assert_eq!(ask(&world, "/ready").await.0, 200);
        world.engine.handle.stop().await;
        let (code, text) = ask(&world, "/readyz").await;
        assert!(code == 503 && text.contains("silent"), "{text}");
        assert_eq!(ask(&world, "/healthz").await.0, 200);
        assert!(ask(&world, "/metrics").await.1.contains("ffrtmp_governor_up 0"));
    }
}
