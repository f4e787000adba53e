//! The daemon `ffrtmp-scheduler`: flags, configuration, log, then [`daemon::start`].
//!
//! Exit codes: 0 told to stop; 1 the daemon could not start or broke; 2 wrong arguments; 3 the database is in use;
//! 4 the configuration is wrong.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use ffrtmp_scheduler::config::{self, Args, Command, Config, ConfigError};
use ffrtmp_scheduler::daemon::{self, DaemonError, Signals};
use ffrtmp_scheduler::security::Security;
use ffrtmp_scheduler::store::sqlite::{self, OpenError};
use ffrtmp_scheduler::telemetry::{self, Telemetry};

/// Exit code when the daemon could not start, or broke.
const FAILED: u8 = 1;
/// Exit code when another scheduler has the database.
const ANOTHER: u8 = 3;
/// Exit code when the configuration is wrong.
const CONFIG: u8 = 4;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_schema {
        return say(&format!("{:#}", config::schema()));
    }
    let (check, generate) = (args.check, args.generate_cert == Some(true));
    let command = args.command.clone();
    let named = args.config.clone();
    let config = match load(named.as_deref()) {
        Ok(config) => args.over(config, |name| std::env::var(name).ok()),
        Err(error) => return complain(&error, CONFIG),
    };
    if check {
        return say(&config.to_string());
    }
    if generate {
        return match Security::generate_cert(&config, jiff::Timestamp::now()) {
            Ok(path) => say(&path.display().to_string()),
            Err(error) => complain(&error, FAILED),
        };
    }
    if let Some(command) = command {
        return obey(&command, &config);
    }
    let telemetry = match telemetry::start(&config) {
        Ok(telemetry) => telemetry,
        Err(error) => return complain(&error, FAILED),
    };
    let ended = run(&config, &telemetry);
    telemetry.close();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ DaemonError::Database(OpenError::Held(_))) => complain(&error, ANOTHER),
        Err(error) => complain(&error, FAILED),
    }
}

/// Does one thing and ends.
fn obey(command: &Command, config: &Config) -> ExitCode {
    match command {
        Command::Backup { to } => match sqlite::backup(&config.database, to) {
            Ok(bytes) => say(&format!("{} ({bytes} bytes)", to.display())),
            Err(error) => complain(&error, FAILED),
        },
        Command::Restore { from } => match sqlite::restore(from, &config.database) {
            Ok(None) => say(&format!("restored {}", config.database.display())),
            Ok(Some(kept)) => say(&format!(
                "restored {}; what was there is {}",
                config.database.display(),
                kept.display()
            )),
            Err(error @ OpenError::Held(_)) => complain(&error, ANOTHER),
            Err(error) => complain(&error, FAILED),
        },
        Command::Fingerprint => match Security::fingerprint(config) {
            Ok(fingerprint) => say(&fingerprint),
            Err(error) => complain(&error, FAILED),
        },
        Command::RotateCa { forget_old } => match Security::rotate_ca(config, *forget_old) {
            Ok(fingerprint) => say(&format!(
                "{fingerprint}\nin force when the scheduler is started next"
            )),
            Err(error) => complain(&error, FAILED),
        },
    }
}

/// Prints what was asked for. A reader that has seen enough is no failure.
fn say(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => complain(&error, FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// The file's settings. Only a file that was named must exist.
fn load(named: Option<&Path>) -> Result<Config, ConfigError> {
    let path = named.unwrap_or(Path::new(config::DEFAULT_PATH));
    if named.is_none() && !path.exists() {
        return Ok(Config::default());
    }
    config::load(path)
}

fn run(config: &Config, telemetry: &Telemetry) -> Result<(), DaemonError> {
    for (key, value) in config.settings() {
        tracing::info!("{key}: {value}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("service")
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)?;
    let ended = runtime.block_on(async {
        let signals = Signals::register()?;
        let queue = daemon::open_queue(config).await?;
        let running = daemon::start(config, queue).await?;
        running.until_told(signals, || telemetry.reopen()).await
    });
    runtime.shutdown_background();
    ended
}

/// Prints the error with its causes, each once.
#[expect(clippy::print_stderr, reason = "a main says why it ends")]
fn complain(error: &dyn Error, code: u8) -> ExitCode {
    eprint!("ffrtmp-scheduler: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprint!(": {cause}");
        source = cause.source();
    }
    eprintln!();
    ExitCode::from(code)
}
