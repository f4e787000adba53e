//! The daemon's life: security, ports, timers, signals, and the way back.
//!
//! **Order.** The port of the metrics opens first, so that probes see a scheduler that is starting; the API last, so that
//! whoever connects finds one that works. On the way back, as documented: HTTP (no new connections; streams and long
//! polls are sent home; requests in flight have `drain`), metrics, scheduler and database, log.
//!
//! **Refuses** to touch a running job on its way out: nodes go on, and their leases wait for the next start.

mod queue;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum_server::Handle;
use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::{App, AppState, Disk, probes, router, serve};
use crate::metrics::Metrics;
use crate::security::{Opened, Security, SecurityError};
use crate::store::sqlite::OpenError;
use queue::Closer;
pub use queue::{Queue, open_queue};

/// How often certificates are looked at.
const REFRESH: Duration = Duration::from_hours(1);
/// How often free space is measured.
const MEASURE: Duration = Duration::from_secs(2);
/// How often quiet callers are forgotten.
const FORGET: Duration = Duration::from_mins(1);
/// How long the port of the metrics may take to close.
const METRICS_PATIENCE: Duration = Duration::from_secs(2);
/// How long the audit log may take to write its last lines.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);
/// How long queue and database may take to close. systemd waits 90 s.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);

/// Why the daemon did not start, or ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Certificates, keys or the audit log.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// A port could not be bound.
    #[error("listen on {address} for {what}; another process has the port, or give another with {flag}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// Which flag changes it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The figures could not be set up.
    #[error("set up the metrics")]
    Metrics(#[from] prometheus::Error),
    /// Signals cannot be received.
    #[error("receive signals")]
    Signals(#[source] std::io::Error),
    /// The threads that serve could not be started.
    #[error("start the threads that serve")]
    Threads(#[source] std::io::Error),
    /// The API ended while the daemon ran.
    #[error("the API ended on its own")]
    ApiEnded(#[source] std::io::Error),
    /// The work of a thread was cut short.
    #[error("the start was cut short")]
    Cut(#[from] tokio::task::JoinError),
}

/// A daemon that serves.
pub struct Running {
    /// Where the API is.
    pub api: SocketAddr,
    /// Where metrics and probes are.
    pub metrics: Option<SocketAddr>,
    /// Who may talk to it.
    pub security: Arc<Security>,
    app: App,
    api_handle: Handle<SocketAddr>,
    api_task: tokio::task::JoinHandle<std::io::Result<()>>,
    metrics_stop: CancellationToken,
    metrics_task: Option<tokio::task::JoinHandle<()>>,
    timers: JoinSet<()>,
    close: Closer,
    audit_thread: JoinHandle<()>,
    drain: Duration,
}

fn bind(
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), DaemonError> {
    let failed = |source| DaemonError::Bind {
        address,
        what,
        flag,
        source,
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Opens security and ports and serves the queue. Everything runs when this returns.
pub async fn start(config: &Config, queue: Queue) -> Result<Running, DaemonError> {
    let owned = config.clone();
    let opened = tokio::task::spawn_blocking(move || Security::open(&owned, Timestamp::now())).await?;
    let Opened {
        security,
        audit_thread,
    } = opened?;
    let stop = CancellationToken::new();
    let app = Arc::new(AppState::new(
        Arc::clone(&queue.store),
        Arc::clone(&security),
        Arc::new(Metrics::new()?),
        Disk::of(&config.database, config.limits.disk_reserve_bytes),
        stop,
        config.limits.body_bytes,
    ));
    let metrics_stop = CancellationToken::new();
    let probes = config
        .metrics
        .map(|address| open_probes(address, &app, &metrics_stop))
        .transpose()?;
    let (metrics_at, metrics_task) = probes.unzip();
    let (listener, api) = bind(config.listen, "the API", "--port")?;
    let api_handle = Handle::new();
    let serving = serve(
        listener,
        router(&app),
        security.tls(),
        config.limits.connections,
        api_handle.clone(),
    );
    let api_task = tokio::spawn(serving);
    let scheme = if security.tls().is_some() { "https" } else { "http" };
    tracing::info!(
        "API on {scheme}://{api}, fingerprint of the CA {}",
        security.authority.fingerprint()
    );
    Ok(Running {
        timers: timers(&app, config.scheduler_interval),
        close: queue.close,
        api,
        metrics: metrics_at,
        security,
        app,
        api_handle,
        api_task,
        metrics_stop,
        metrics_task,
        audit_thread,
        drain: config.drain,
    })
}

fn open_probes(
    address: SocketAddr,
    app: &App,
    stop: &CancellationToken,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), DaemonError> {
    let failed = |source| DaemonError::Bind {
        address,
        what: "metrics",
        flag: "--metrics-port",
        source,
    };
    let (listener, bound) = bind(address, "metrics", "--metrics-port")?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    tracing::info!("metrics on http://{bound}/metrics");
    let (router, stop) = (probes(app), stop.clone());
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
        {
            tracing::error!(%error, "the port of the metrics ended");
        }
    });
    Ok((bound, task))
}

/// What is done now and then: a quantity sampled, a deadline watched.
fn timers(app: &App, sweep_every: Duration) -> JoinSet<()> {
    let mut timers = JoinSet::new();
    timers.spawn(sweep(App::clone(app), sweep_every));
    let disk = app.disk.clone();
    timers.spawn(every(MEASURE, move || disk.measure()));
    let security = Arc::clone(&app.security);
    timers.spawn(every(FORGET, move || security.rates.forget_quiet()));
    let security = Arc::clone(&app.security);
    timers.spawn(every(REFRESH, move || refresh(&security)));
    timers
}

/// Looks for what is overdue. A sweep that fails is told once, and tried again at the next turn.
async fn sweep(app: App, period: Duration) {
    let mut failing = false;
    loop {
        tokio::time::sleep(period).await;
        match app.store.sweep().await {
            Ok(swept) => {
                failing = false;
                if swept.nodes_lost > 0 || swept.stalled > 0 {
                    tracing::warn!(
                        nodes_lost = swept.nodes_lost,
                        stalled = swept.stalled,
                        returned = swept.returned,
                        "swept"
                    );
                }
            }
            Err(error) if failing => tracing::debug!(%error, "the sweep failed again"),
            Err(error) => {
                failing = true;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the sweep failed; it is tried again"
                );
            }
        }
    }
}

async fn every(period: Duration, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    loop {
        tokio::time::sleep(period).await;
        let work = Arc::clone(&work);
        if tokio::task::spawn_blocking(move || work()).await.is_err() {
            tracing::error!("a timer's work was cut short; it does not run again");
            return;
        }
    }
}

fn refresh(security: &Security) {
    if let Err(error) = security.refresh(Timestamp::now()) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "certificates and keys were not taken up anew; the old ones stay in force"
        );
    }
}

/// The signals that matter. Made before [`start`], so that one that comes early is not missed, let alone fatal.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Receives them from now on.
    pub fn register() -> Result<Self, DaemonError> {
        let register = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            hangup: register(SignalKind::hangup())?,
            terminate: register(SignalKind::terminate())?,
            interrupt: register(SignalKind::interrupt())?,
        })
    }
}

impl Running {
    /// Serves until SIGTERM or SIGINT. SIGHUP takes up changed certificates and keys and opens the logs anew; `on_hangup`
    /// is called with it.
    pub async fn until_told(mut self, mut signals: Signals, on_hangup: impl Fn()) -> Result<(), DaemonError> {
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let why = loop {
            tokio::select! {
                _ = signals.hangup.recv() => {
                    self.on_hangup().await?;
                    on_hangup();
                }
                _ = signals.terminate.recv() => break "SIGTERM",
                _ = signals.interrupt.recv() => break "SIGINT",
                ended = &mut self.api_task => {
                    let error = match ended? {
                        Ok(()) => std::io::Error::other("nobody told it to"),
                        Err(error) => error,
                    };
                    return Err(DaemonError::ApiEnded(error));
                }
            }
        };
        tracing::info!(
            "stopping on {why}; nodes go on with their jobs, and their leases wait for the next start"
        );
        self.stop().await;
        Ok(())
    }

    async fn on_hangup(&self) -> Result<(), DaemonError> {
        let security = Arc::clone(&self.security);
        tokio::task::spawn_blocking(move || {
            refresh(&security);
            security.audit.reopen();
        })
        .await?;
        tracing::info!("took up certificates and keys, opened the logs anew");
        Ok(())
    }

    /// The way back, in the documented order.
    pub async fn stop(mut self) {
        notify(&[NotifyState::Stopping]);
        self.app.stop.cancel();
        self.api_handle.graceful_shutdown(Some(self.drain));
        let patience = self.drain + Duration::from_secs(1);
        match tokio::time::timeout(patience, &mut self.api_task).await {
            Ok(Ok(Ok(()))) => tracing::info!("HTTP stopped"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "HTTP ended with an error"),
            Ok(Err(error)) => tracing::warn!(%error, "HTTP was cut short"),
            Err(_) => tracing::warn!(
                "requests in flight took longer than {} s and were cut off",
                self.drain.as_secs()
            ),
        }
        self.metrics_stop.cancel();
        if let Some(task) = self.metrics_task.take()
            && tokio::time::timeout(METRICS_PATIENCE, task).await.is_err()
        {
            tracing::debug!("a scrape was cut off");
        }
        tracing::info!("metrics stopped");
        self.timers.shutdown().await;
        tracing::info!("scheduler stopped");
        let Self {
            app,
            security,
            audit_thread,
            close,
            ..
        } = self;
        drop((app, security));
        match tokio::task::spawn_blocking(move || close(CLOSE_PATIENCE)).await {
            Ok(true) => tracing::info!("database closed"),
            Ok(false) => tracing::warn!(
                "the database is still in use by a request that was cut off; what was acknowledged is on disk"
            ),
            Err(error) => tracing::error!(%error, "closing the database was cut short"),
        }
        // Its thread ends once the last connection is gone; one that was cut off may take a moment to notice.
        let joined = tokio::task::spawn_blocking(move || audit_thread.join());
        if tokio::time::timeout(AUDIT_PATIENCE, joined).await.is_err() {
            tracing::debug!("the audit log is still held by a connection that was cut off");
        }
    }
}

/// Nothing happens where no service manager asked to be told.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
