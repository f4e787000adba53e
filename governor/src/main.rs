//! The daemon `ffrtmp-governor`: arguments, configuration, log, then [`daemon::run`].
//!
//! Exit codes: 0 told to stop; 1 the daemon could not start or broke; 2 wrong arguments; 3 another governor runs;
//! 4 the configuration is wrong.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use ffrtmp_governor::config::{self, Config, ConfigError, LogFormat, LogLevel};
use ffrtmp_governor::daemon::{self, CleanupError, DaemonError, DaemonOptions, LedgerAt};
use ffrtmp_governor::lock::LockError;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Exit code when the daemon could not start, or broke.
const FAILED: u8 = 1;
/// Exit code when another governor runs.
const ANOTHER: u8 = 3;
/// Exit code when the configuration is wrong.
const CONFIG: u8 = 4;

/// Variable with the log filter, in the syntax of tracing's `EnvFilter`, for instance `debug`.
const LOG_VARIABLE: &str = "FFRTMP_LOG";

/// Governs media processes on this node: finds them at their exec, limits and accounts for them, never owns them
#[derive(Debug, Parser)]
#[command(
    name = "ffrtmp-governor",
    version,
    after_help = "Exit codes: 0 told to stop, 1 failed, 2 wrong arguments, 3 another governor runs, 4 configuration \
                  wrong.\nSIGHUP reloads the rules; SIGTERM and SIGINT stop the daemon, workloads and their limits stay."
)]
struct Args {
    /// Configuration file [default: /etc/ffrtmp/governor.yaml, if it exists]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Control socket [default: as configured, else /run/ffrtmp/governor.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz, or `off` [default: as configured, else 127.0.0.1:9091]
    #[arg(long, value_name = "IP:PORT", value_parser = metrics_address)]
    metrics: Option<MetricsAddress>,
    /// File that records are kept in, or `memory` [default: as configured, else /var/lib/ffrtmp/governor.db]
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Change nothing on any process, only record
    #[arg(long)]
    observe: bool,
    /// Log JSON, whatever the configuration says
    #[arg(long)]
    log_json: bool,
    /// Take away what governors made on this machine, put back what they changed, and exit; workloads run on. Refused
    /// while a governor runs
    #[arg(long)]
    cleanup: bool,
    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
    /// Print the JSON Schema of the configuration and exit
    #[arg(long)]
    print_schema: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetricsAddress {
    Off,
    At(SocketAddr),
}

fn metrics_address(text: &str) -> Result<MetricsAddress, String> {
    if text == "off" {
        return Ok(MetricsAddress::Off);
    }
    text.parse()
        .map(MetricsAddress::At)
        .map_err(|_| "write IP:PORT, for instance 127.0.0.1:9091, or off".to_owned())
}

#[expect(clippy::print_stdout, reason = "a main prints what it was asked to print")]
fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_schema {
        println!("{:#}", config::schema());
        return ExitCode::SUCCESS;
    }
    let (config, path) = match load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) => return complain(&error, CONFIG),
    };
    if args.check {
        println!("{}", checked(&config, path.as_deref()));
        return ExitCode::SUCCESS;
    }
    start_log(&config, args.log_json);
    if args.cleanup {
        return clean(&options(args, config, path));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("service")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, FAILED),
    };
    let ended = runtime.block_on(daemon::run(options(args, config, path)));
    // Whoever still waits for an answer is cut off; nothing of the governor depends on it.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ DaemonError::Lock(LockError::Held { .. })) => complain(&error, ANOTHER),
        Err(error) => complain(&error, FAILED),
    }
}

/// Prints a line for each thing put back, and says what was not.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a main prints what it was asked to print"
)]
fn clean(options: &DaemonOptions) -> ExitCode {
    match daemon::cleanup(options) {
        Ok(cleaned) => {
            for line in &cleaned.done {
                println!("{line}");
            }
            for line in &cleaned.left {
                eprintln!("ffrtmp-governor: {line}");
            }
            if let LedgerAt::File(path) = &options.ledger {
                println!("records stay in {}", path.display());
            }
            if cleaned.left.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            }
        }
        Err(error @ CleanupError::Lock(LockError::Held { .. })) => complain(&error, ANOTHER),
        Err(error) => complain(&error, FAILED),
    }
}

/// The configuration and the file it is from. Only a file that was named must exist.
fn load(named: Option<&Path>) -> Result<(Config, Option<PathBuf>), ConfigError> {
    let path = named.unwrap_or(Path::new(config::DEFAULT_PATH));
    if named.is_none() && !path.exists() {
        return Ok((Config::default(), None));
    }
    Ok((config::load(path)?, Some(path.to_path_buf())))
}

fn options(args: Args, config: Config, path: Option<PathBuf>) -> DaemonOptions {
    let mut options = DaemonOptions::new(config, path);
    options.config_required = args.config.is_some();
    // A default file that appears later is taken up by a reload.
    options
        .config_path
        .get_or_insert_with(|| PathBuf::from(config::DEFAULT_PATH));
    options.observe = args.observe;
    if let Some(socket) = args.socket {
        options.socket = socket;
    }
    match args.metrics {
        None => {}
        Some(MetricsAddress::Off) => options.metrics = None,
        Some(MetricsAddress::At(address)) => options.metrics = Some(address),
    }
    if let Some(path) = args.ledger {
        options.ledger = if path == Path::new("memory") {
            LedgerAt::Memory
        } else {
            LedgerAt::File(path)
        };
    }
    options
}

fn checked(config: &Config, path: Option<&Path>) -> String {
    let place = path.map_or_else(
        || "no configuration file; the defaults".to_owned(),
        |path| path.display().to_string(),
    );
    let wide = if config.rules.wide() {
        "; a rule without a name makes the kernel tell of every exec"
    } else {
        ""
    };
    format!(
        "{place}: ok, {} rules for {}{wide}",
        config.rules.len(),
        config.rules.names().join(", ")
    )
}

fn start_log(config: &Config, json: bool) {
    let level = match config.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var(LOG_VARIABLE)
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    if json || config.log_format == LogFormat::Json {
        log.json().init();
    } else {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        log.with_ansi(colour).init();
    }
}

/// Prints the error with its causes, each once.
#[expect(clippy::print_stderr, reason = "a main says why it ends")]
fn complain(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprint!("ffrtmp-governor: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprint!(": {cause}");
        source = cause.source();
    }
    eprintln!();
    ExitCode::from(code)
}
