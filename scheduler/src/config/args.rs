//! The flags: those of the predecessor's master with their names, defaults and Go's way of writing switches
//! (`--tls=false`), and a few of our own. A flag that was given overrides the file; one that was not changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::{ClientCerts, Config, LogDirectory, LogLevel, Secret, host_name};

/// What to do instead of serving.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Copy the database (--db) to a new file, whether a scheduler runs or not
    Backup {
        /// The copy; a name that is not taken
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a backup in the database's place (--db). No scheduler may run; what was there is kept beside it
    Restore {
        /// A copy that `backup` made
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
    /// Print the fingerprint of the scheduler's CA, for `ffrtmp login URL --fingerprint`
    Fingerprint,
    /// Make a new CA and key, in force at the next start. Who trusts the old one goes on trusting
    RotateCa {
        /// Forget the CAs before this one instead: who trusts only them is locked out at the next start
        #[arg(long)]
        forget_old: bool,
    },
}

/// Central scheduler: keeps a durable queue of transcoding jobs and hands them to nodes
#[derive(Debug, Default, Parser)]
#[command(
    name = "ffrtmp-scheduler",
    version,
    after_help = "Flags override the file. MASTER_API_KEY (or FFMPEG_RTMP_API_KEY) stands in for --api-key.\nExit codes: 0 told to \
                  stop, 1 failed, 2 wrong arguments, 3 the database is in use, 4 configuration wrong."
)]
pub struct Args {
    /// What to do; without a word, serve
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Configuration file [default: /etc/ffrtmp/scheduler.yaml, if it exists]
    #[arg(long, value_name = "PATH", global = true)]
    pub config: Option<PathBuf>,
    /// Port of the API [default: 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address of the API [default: 0.0.0.0:8080]
    #[arg(long, value_name = "IP:PORT", conflicts_with = "port")]
    listen: Option<SocketAddr>,
    /// Key that may do everything. Prefer the variable: a flag shows in `ps`
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Ask nobody for a key. Whoever reaches the port may do everything
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    open_api: Option<bool>,
    /// Database [default: master.db]
    #[arg(long, value_name = "PATH", value_parser = database, global = true)]
    db: Option<PathBuf>,
    /// Only sqlite
    #[arg(long, value_name = "TYPE", value_parser = database_type, env = "DATABASE_TYPE")]
    db_type: Option<()>,
    /// Refused: SQLite is named by --db
    #[arg(long, value_name = "DSN", value_parser = database_dsn, env = "DATABASE_DSN", hide_env_values = true)]
    db_dsn: Option<()>,
    /// Directory of certificates, keys and the audit log [default: the database's path, ending in .d]
    #[arg(long, value_name = "PATH", global = true)]
    state_dir: Option<PathBuf>,
    /// Encrypt [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls: Option<bool>,
    /// Certificate chain of the server, PEM [default: made by the scheduler's own CA]
    #[arg(long, value_name = "PATH", requires = "key")]
    cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "PATH", requires = "cert")]
    key: Option<PathBuf>,
    /// Further CA whose client certificates are taken, PEM
    #[arg(long, value_name = "PATH")]
    ca: Option<PathBuf>,
    /// Who must show a client certificate: nodes (the meaning of a bare --mtls), all, off
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "nodes", value_parser = client_certs)]
    mtls: Option<ClientCerts>,
    /// Make a certificate for --cert and --key (or the default place) and exit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub generate_cert: Option<bool>,
    /// Further addresses for the own certificate, separated by commas
    #[arg(long, value_name = "IPS", value_delimiter = ',')]
    cert_ips: Vec<IpAddr>,
    /// Further host names for the own certificate, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = host_name)]
    cert_hosts: Vec<String>,
    /// Further attempts after a failure of the platform; ffmpeg's own failures are final [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    max_retries: Option<u32>,
    /// Longest time between two sweeps for what is overdue; dispatch does not wait for it [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    scheduler_interval: Option<Duration>,
    /// Serve metrics and probes on a port of their own [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    metrics: Option<bool>,
    /// That port, plain HTTP [default: 9090]
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
    /// Send traces as OTLP over HTTP [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tracing: Option<bool>,
    /// Collector, as host:port or URL [default: localhost:4318]
    #[arg(long, value_name = "ENDPOINT")]
    tracing_endpoint: Option<String>,
    /// Delete finished jobs some day [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cleanup: Option<bool>,
    /// After how long; a bare number is days [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = retention)]
    cleanup_retention: Option<Duration>,
    /// Least severity logged [default: info]
    #[arg(long, value_name = "LEVEL", value_enum)]
    log_level: Option<LogLevel>,
    /// Directory of a log file beside stdout: a path, auto (/var/log/ffrtmp, else ./logs) or none [default: none]
    #[arg(long, value_name = "PATH", value_parser = log_directory)]
    log_dir: Option<LogDirectory>,
    /// Check the configuration, print what would be run with, and exit
    #[arg(long)]
    pub check: bool,
    /// Print the JSON Schema of the configuration file and exit
    #[arg(long)]
    pub print_schema: bool,
}

impl Args {
    /// The file's settings with the flags above them. `variable` answers for the environment.
    pub fn over(self, mut config: Config, variable: impl Fn(&str) -> Option<String>) -> Config {
        let given = self.api_key.as_deref().and_then(Secret::new);
        let from_environment = || {
            ["MASTER_API_KEY", "FFMPEG_RTMP_API_KEY"]
                .iter()
                .find_map(|name| variable(name).as_deref().and_then(Secret::new))
        };
        if let Some(key) = given.or_else(from_environment) {
            config.access.api_key = Some(key);
        }
        set(&mut config.access.open_api, self.open_api);
        set(&mut config.listen, self.listen);
        if let Some(port) = self.port {
            config.listen.set_port(port);
        }
        set(&mut config.database, self.db);
        config.state_dir = self.state_dir.or(config.state_dir);
        set(&mut config.tls.enabled, self.tls);
        if self.cert.is_some() {
            (config.tls.cert, config.tls.key) = (self.cert, self.key);
        }
        config.tls.ca = self.ca.or(config.tls.ca);
        set(&mut config.tls.client_certs, self.mtls);
        config.tls.names.extend(self.cert_hosts);
        config
            .tls
            .names
            .extend(self.cert_ips.iter().map(IpAddr::to_string));
        set(&mut config.jobs.max_retries, self.max_retries);
        set(&mut config.scheduler_interval, self.scheduler_interval);
        set(&mut config.traces.enabled, self.tracing);
        set(&mut config.traces.endpoint, self.tracing_endpoint);
        set(&mut config.log.level, self.log_level);
        set(&mut config.log.directory, self.log_dir);
        metrics(&mut config, self.metrics, self.metrics_port);
        cleanup(&mut config, self.cleanup, self.cleanup_retention);
        config
    }
}

fn set<T>(slot: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *slot = value;
    }
}

/// A port that was named is served even if the file switched the port off, unless the flag says no.
fn metrics(config: &mut Config, on: Option<bool>, port: Option<u16>) {
    let wanted = on.unwrap_or(config.metrics.is_some() || port.is_some());
    let mut address = config.metrics.or(Config::default().metrics);
    if let (Some(address), Some(port)) = (&mut address, port) {
        address.set_port(port);
    }
    config.metrics = address.filter(|_| wanted);
}

fn cleanup(config: &mut Config, on: Option<bool>, after: Option<Duration>) {
    let wanted = on.unwrap_or(config.jobs.retention.is_some() || after.is_some());
    let span = after
        .or(config.jobs.retention)
        .or(super::Jobs::default().retention);
    config.jobs.retention = span.filter(|_| wanted);
}

fn database(text: &str) -> Result<PathBuf, String> {
    match text {
        "" | ":memory:" | "memory" => Err(
            "a queue in memory would lose what it acknowledged; name a file, such as master.db".to_owned(),
        ),
        path => Ok(PathBuf::from(path)),
    }
}

fn database_type(text: &str) -> Result<(), String> {
    match text {
        "sqlite" | "" => Ok(()),
        other => Err(format!(
            "`{other}` is not built in; the scheduler keeps its queue in SQLite, named by --db"
        )),
    }
}

fn database_dsn(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    Err("only SQLite is built in; name its file by --db and leave this out".to_owned())
}

fn client_certs(text: &str) -> Result<ClientCerts, String> {
    match text {
        "nodes" | "true" => Ok(ClientCerts::Nodes),
        "all" => Ok(ClientCerts::All),
        "off" | "false" => Ok(ClientCerts::Off),
        other => Err(format!("`{other}` is not possible; write nodes, all or off")),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let span =
        humantime::parse_duration(text).map_err(|_| "write a number with its unit, such as 5s".to_owned())?;
    if (Duration::from_millis(100)..=Duration::from_hours(1)).contains(&span) {
        return Ok(span);
    }
    Err("write 100ms to 1h".to_owned())
}

/// The predecessor took a number of days.
fn retention(text: &str) -> Result<Duration, String> {
    let span = match text.parse::<u64>() {
        Ok(days) => Duration::from_secs(days.saturating_mul(86_400)),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "write a number of days, or a number with its unit, such as 36h".to_owned())?,
    };
    if (Duration::from_hours(1)..=super::check::TEN_YEARS).contains(&span) {
        return Ok(span);
    }
    Err("write 1h to ten years, or --cleanup=false to keep all jobs".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a value parser")]
fn log_directory(text: &str) -> Result<LogDirectory, String> {
    Ok(match text {
        "none" | "" => LogDirectory::None,
        "auto" => LogDirectory::Auto,
        path => LogDirectory::Named(PathBuf::from(path)),
    })
}
