//! The daemon's life: lock, ledger, engine, socket, metrics, signals, and the way back.
//!
//! **Order.** The lock comes first, so that nothing of a running governor is touched; the socket comes last, so that
//! whoever connects finds a governor that works. On the way back the engine stops first: what it still had to save is
//! then in the ledger's queue, and the ledger's thread ends when it is written.
//!
//! **Refuses** to touch a workload on its way out: limits stay in force, and that is said.

mod cleanup;
mod outward;
mod reload;
mod settings;
mod starts;
mod store;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::server::{ControlError, ControlState, FALLEN_BACK, Socket};
use crate::control::session;
use crate::control::types::RequestError;
use crate::engine::{Engine, EngineError, EngineHandle, EngineOptions, SaveQueue};
use crate::host::fast::{FastPlacement, Outcome, mount_beside};
use crate::ledger::{LateEngine, LedgerError};
use crate::lock::{Lock, LockError};
use crate::metrics::{self, MetricsSource};
use crate::webhook::WebhookError;
pub use cleanup::{Cleaned, CleanupError, cleanup};
use outward::Outward;
use reload::Reloader;
use settings::engine_options;
use starts::Starts;
use store::{Store, open_ledger};

/// How long the way back may take before what is left is abandoned. systemd waits 90 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerAt {
    /// This file.
    File(PathBuf),
    /// Memory; nothing outlives the process.
    Memory,
}

/// What the daemon starts with.
#[derive(Debug)]
pub struct DaemonOptions {
    /// The configuration as it was read, or its defaults.
    pub config: Config,
    /// The file it came from, which a reload reads again; `None` for none.
    pub config_path: Option<PathBuf>,
    /// True when the file was named, so that its absence is an error at a reload as well.
    pub config_required: bool,
    /// Path of the control socket.
    pub socket: PathBuf,
    /// Address of metrics and health; `None` for no port.
    pub metrics: Option<SocketAddr>,
    /// Where records go.
    pub ledger: LedgerAt,
    /// Nothing is changed on any process, everything is recorded.
    pub observe: bool,
    /// Ends the daemon like SIGTERM.
    pub stop: CancellationToken,
}

impl DaemonOptions {
    /// Everything as the configuration says.
    pub fn new(config: Config, config_path: Option<PathBuf>) -> Self {
        Self {
            config_required: config_path.is_some(),
            config_path,
            socket: config.socket.clone(),
            metrics: Some(config.listen),
            ledger: LedgerAt::File(config.ledger.clone()),
            observe: false,
            stop: CancellationToken::new(),
            config,
        }
    }
}

/// Why the daemon did not start, or ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another governor runs, or the lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The ledger cannot be used at all.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The number of this boot is not known.
    #[error("read /proc/sys/kernel/random/boot_id; is /proc mounted?")]
    BootId(#[source] std::io::Error),
    /// The engine did not start.
    #[error("start the engine; `ffrtmp doctor` shows what this machine lacks")]
    Engine(#[source] Box<dyn Error + Send + Sync>),
    /// The control socket could not be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The webhook cannot be what the configuration says.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The port of the metrics could not be bound.
    #[error("listen on {address} for metrics; give another --metrics IP:PORT, or `--metrics off`")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("receive signals")]
    Signals(#[source] std::io::Error),
    /// A thread could not be made.
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    /// The engine did not answer its first question.
    #[error("the engine stopped at its start")]
    Silent(#[source] RequestError),
    /// The engine ended while the daemon ran.
    #[error("the engine ended on its own; its log says why, workloads run on under their limits")]
    EngineEnded,
}

/// Starts the engine: the one place where a daemon's engine comes from. Blocks while the kernel programs are loaded.
fn start_engine(
    options: EngineOptions,
    saves: SaveQueue,
    late: LateEngine,
) -> Result<EngineHandle, EngineError> {
    let engine = Engine::start(options, move |handle| {
        late.connect(handle);
        saves
    })?;
    Ok(engine.handle())
}

/// Runs until SIGTERM, SIGINT or [`DaemonOptions::stop`]. SIGHUP reloads the rules.
pub async fn run(options: DaemonOptions) -> Result<(), DaemonError> {
    run_with(options, |options, saves, late| {
        start_engine(options, saves, late).map_err(Into::into)
    })
    .await
}

/// As [`run`], with an engine from elsewhere.
async fn run_with(
    options: DaemonOptions,
    start: impl FnOnce(EngineOptions, SaveQueue, LateEngine) -> Result<EngineHandle, Box<dyn Error + Send + Sync>>
    + Send
    + 'static,
) -> Result<(), DaemonError> {
    let _lock = Lock::beside(&options.socket)?;
    let starts = Starts::beside(&options.socket);
    let fallback = Arc::new(AtomicBool::new(falls_back(&starts, &options)));
    let signals = Signals::register().map_err(DaemonError::Signals)?;
    let (store, saves, late) = open_ledger(&options)?;
    let observe = options.observe || fallback.load(Ordering::Relaxed);
    let outcome: Arc<OnceLock<Outcome>> = Arc::default();
    let mut settings = engine_options(&options, &store, observe, Arc::clone(&outcome));
    let outward = Outward::start(&options, &mut settings)?;
    let engine = tokio::task::spawn_blocking(move || start(settings, saves, late))
        .await
        .map_err(|error| DaemonError::Engine(error.into()))?
        .map_err(DaemonError::Engine)?;
    engine.status().await.map_err(DaemonError::Silent)?;
    let fast = options.config.fast_placement && !observe;
    // Held until the end, when it is undone.
    let _fast = fast
        .then(|| FastPlacement::start(mount_beside(&options.socket), outcome))
        .transpose()
        .map_err(DaemonError::Thread)?;
    if tracing::enabled!(tracing::Level::DEBUG) {
        tokio::spawn(log_events(engine.clone()));
    }
    let service = Service {
        stop: options.stop.clone(),
        reloader: Arc::new(Reloader::new(
            &options,
            engine.clone(),
            starts.clone(),
            Arc::clone(&fallback),
        )),
        fallback: Arc::clone(&fallback),
        engine,
        signals,
    };
    let served = match service.open(&options, &store, &outward).await {
        Ok(()) => service.until_told().await,
        Err(error) => {
            // The ledger's thread ends with the engine that feeds it.
            service.stop.cancel();
            service.engine.stop().await;
            Err(error)
        }
    };
    outward.close().await;
    store.close().await;
    if served.is_ok()
        && let Err(error) = starts.ended_well(fallback.load(Ordering::Relaxed))
    {
        tracing::warn!(%error, path = %starts.path().display(), "this stop will count as a crash");
    }
    served
}

/// Notes the start. True when the ones before it crashed so often that this one only observes.
fn falls_back(starts: &Starts, options: &DaemonOptions) -> bool {
    let noted = starts.note(crate::engine::clock::boot_ns()).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %starts.path().display(), "starts cannot be counted; crashes change nothing");
        false
    });
    if noted && !options.observe {
        tracing::error!("{FALLEN_BACK}");
    }
    noted && !options.observe
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// The daemon once its engine runs.
struct Service {
    engine: EngineHandle,
    reloader: Arc<Reloader>,
    signals: Signals,
    stop: CancellationToken,
    /// Set while only observing because of crashes.
    fallback: Arc<AtomicBool>,
}

impl Service {
    /// Opens port and socket and tells systemd. What was opened closes with `stop`.
    async fn open(
        &self,
        options: &DaemonOptions,
        store: &Store,
        outward: &Outward,
    ) -> Result<(), DaemonError> {
        if let Some(address) = options.metrics {
            self.open_metrics(address, store, outward).await?;
        }
        let reloader = Arc::clone(&self.reloader);
        let mut state = ControlState::new(
            self.engine.clone(),
            store.reader.clone(),
            store.health.clone(),
            Arc::new(move || reloader.reload()),
        );
        state.observe = options.observe;
        state.fallback = Arc::clone(&self.fallback);
        let socket = Socket::bind(&options.socket)?;
        tracing::info!(
            socket = %socket.path().display(),
            config = %shown(options),
            observe = options.observe,
            "governing"
        );
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if let Err(error) = socket.serve(state, stop).await {
                tracing::error!(%error, "the control socket ended");
            }
        });
        notify(&[NotifyState::Ready, NotifyState::Status("governing")]);
        Ok(())
    }

    async fn open_metrics(
        &self,
        address: SocketAddr,
        store: &Store,
        outward: &Outward,
    ) -> Result<(), DaemonError> {
        let failed = |source| DaemonError::Metrics { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        tracing::info!("metrics on http://{bound}/metrics");
        let fallback = Arc::clone(&self.fallback);
        let mut source = MetricsSource::new(self.engine.clone(), store.health.clone(), fallback);
        outward.show(&mut source);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if let Err(error) = metrics::serve(listener, source, stop.cancelled_owned()).await {
                tracing::error!(%error, "the metrics port ended");
            }
        });
        Ok(())
    }

    /// Serves signals until told to stop; then stops the engine.
    async fn until_told(mut self) -> Result<(), DaemonError> {
        let engine = self.engine.clone();
        let ended = engine.ended();
        tokio::pin!(ended);
        let why = loop {
            tokio::select! {
                _ = self.signals.hangup.recv() => self.on_hangup().await,
                () = &mut ended => {
                    self.stop.cancel();
                    return Err(DaemonError::EngineEnded);
                }
                _ = self.signals.terminate.recv() => break "SIGTERM",
                _ = self.signals.interrupt.recv() => break "SIGINT",
                () = self.stop.cancelled() => break "an order",
            }
        };
        self.end(why).await;
        Ok(())
    }

    async fn on_hangup(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "systemd was not told of the reload"),
        }
        let reloader = Arc::clone(&self.reloader);
        // What came of it is in the log already.
        let _told = tokio::task::spawn_blocking(move || reloader.reload()).await;
        notify(&[NotifyState::Ready]);
    }

    async fn end(&self, why: &str) {
        notify(&[NotifyState::Stopping]);
        let live = tokio::time::timeout(PATIENCE, self.engine.status()).await;
        let live = live.ok().and_then(Result::ok).map_or(0, |status| status.jobs);
        tracing::info!(
            "stopping on {why}: {live} live jobs run on, and their limits stay in force; the next governor takes them \
             up again"
        );
        self.stop.cancel();
        if tokio::time::timeout(PATIENCE, self.engine.stop()).await.is_err() {
            tracing::warn!("the engine has not ended within {} s", PATIENCE.as_secs());
        }
    }
}

/// Each step of each job. Only on demand: in a storm it would cost more than the governing. What a job came to is logged
/// by the ledger anyway.
async fn log_events(engine: EngineHandle) {
    let Ok(mut events) = session::listen(&engine).await else {
        return;
    };
    while let Some(event) = events.recv().await {
        let report = &event.job.report;
        tracing::debug!(
            job = %report.job_id,
            pid = report.pid,
            rule = report.rule.as_deref(),
            placed_in_us = report.placement.placed_in_us,
            exit_reason = report.exit_reason.as_deref(),
            "job {:?}",
            event.what
        );
    }
}

/// Nothing happens where no service manager asked to be told.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// The configuration in force, for the log.
fn shown(options: &DaemonOptions) -> String {
    options
        .config_path
        .as_deref()
        .filter(|path| path.exists())
        .map_or_else(|| "defaults".to_owned(), |path| path.display().to_string())
}
