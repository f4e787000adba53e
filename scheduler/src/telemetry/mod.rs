//! Logs and traces of the process: to stdout, to a file where one is wanted, and as OTLP where that is switched on.

mod logs;
mod traces;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::{Config, LogFormat, LogLevel};
pub use logs::LogFile;
pub use traces::TraceError;

/// Variable with the log filter, in the syntax of tracing's `EnvFilter`, for instance `debug`.
const LOG_VARIABLE: &str = "FFRTMP_LOG";

/// Logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Somebody else logs in this process.
    #[error("install the log")]
    Install(#[from] TryInitError),
}

/// What must be closed at the very end, so that the last lines are written.
#[derive(Debug)]
pub struct Telemetry {
    file: Option<LogFile>,
    traces: Option<traces::Exporter>,
}

/// Starts logging. Lines go to stdout, and to the file `scheduler.log` of the directory that is configured.
pub fn start(config: &Config) -> Result<Telemetry, TelemetryError> {
    let (file, fallback) = LogFile::open(&config.log.directory);
    let traces = config
        .traces
        .enabled
        .then(|| traces::Exporter::start(&config.traces))
        .transpose()?;
    let json = config.log.format == LogFormat::Json;
    let lines = |ansi: bool| {
        tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_ansi(ansi)
    };
    let stdout = {
        let layer = lines(std::io::IsTerminal::is_terminal(&std::io::stdout())).with_writer(std::io::stdout);
        if json { layer.json().boxed() } else { layer.boxed() }
    };
    let to_file = file.as_ref().map(|file| {
        let layer = lines(false).with_writer(file.writer());
        if json { layer.json().boxed() } else { layer.boxed() }
    });
    let spans = traces
        .as_ref()
        .map(|exporter| exporter.layer().with_filter(LevelFilter::INFO));
    tracing_subscriber::registry()
        .with(spans)
        .with(stdout.and_then(to_file).with_filter(filter(config.log.level)))
        .try_init()?;
    if let Some(said) = fallback {
        tracing::warn!("{said}");
    }
    if let Some(file) = &file {
        tracing::info!("logging to {} as well", file.path().display());
    }
    Ok(Telemetry { file, traces })
}

impl Telemetry {
    /// Opens the log file anew, after it was moved away.
    pub fn reopen(&self) {
        if let Some(file) = &self.file {
            file.reopen();
        }
    }

    /// Sends what is left. Blocks.
    pub fn close(self) {
        if let Some(exporter) = self.traces {
            exporter.close();
        }
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var(LOG_VARIABLE)
        .from_env_lossy()
}
