//! What the scheduler runs with: the file, the flags above it, and the list of both that is printed at the start.
//!
//! A file with any fault yields no configuration at all, only the list of what is wrong, with line, column and key. A
//! fault in the file's structure (unknown key, wrong type, broken YAML) ends the reading at once; all faults in values
//! are told together. Nothing here applies a setting.

mod args;
mod at;
mod check;
mod error;
mod file;
mod raw;
mod secret;
mod show;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use args::{Args, Command};
use check::Checker;
pub use error::{ConfigError, Problem};
use raw::RawConfig;
pub use raw::{ClientCerts, Durability, LogFormat, LogLevel};
pub use secret::Secret;

/// Where the daemon looks when no file is named.
pub const DEFAULT_PATH: &str = "/etc/ffrtmp/scheduler.yaml";
/// Largest file read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Shortest lease of a node, whatever its heartbeat.
const LEASE_MIN: Duration = Duration::from_secs(30);

/// Everything that is set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Path of the database.
    pub database: PathBuf,
    /// What an acknowledgement outlives.
    pub durability: Durability,
    /// Directory of certificates, keys and the audit log, where one was named.
    pub state_dir: Option<PathBuf>,
    /// Who may use the API.
    pub access: Access,
    /// Encryption.
    pub tls: Tls,
    /// Address of metrics and probes; `None` for no such port.
    pub metrics: Option<SocketAddr>,
    /// Retries, staleness, retention.
    pub jobs: Jobs,
    /// How often a node tells that it lives.
    pub heartbeat: Duration,
    /// Longest time between two sweeps.
    pub scheduler_interval: Duration,
    /// What one request and one connection may take.
    pub limits: Limits,
    /// Traces.
    pub traces: Traces,
    /// Logging.
    pub log: Log,
    /// How long requests in flight may take at the end.
    pub drain: Duration,
}

/// Who may use the API.
#[derive(Debug, Clone)]
pub struct Access {
    /// The key that may do everything, as the operator chose it.
    pub api_key: Option<Secret>,
    /// No key is asked for.
    pub open_api: bool,
    /// Requests a second from one address; 0 is no limit.
    pub per_address: u32,
    /// Requests a second with one key; 0 is no limit.
    pub per_key: u32,
    /// Networks without a limit for each address.
    pub exempt: Vec<IpNet>,
}

/// Encryption.
#[derive(Debug, Clone)]
pub struct Tls {
    /// False for plain HTTP.
    pub enabled: bool,
    /// Certificate chain of the server; `None` for one of the own CA.
    pub cert: Option<PathBuf>,
    /// Its key; present exactly when `cert` is.
    pub key: Option<PathBuf>,
    /// Further CA for client certificates.
    pub ca: Option<PathBuf>,
    /// Who must show one.
    pub client_certs: ClientCerts,
    /// Further names and addresses for the own certificate.
    pub names: Vec<String>,
}

/// Retries, staleness, retention.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// Further attempts after a failure of the platform.
    pub max_retries: u32,
    /// Longest silence of a job of queue live.
    pub stale_live: Duration,
    /// Longest silence of any other.
    pub stale_batch: Duration,
    /// How long finished jobs are kept; `None` for ever.
    pub retention: Option<Duration>,
}

/// What one request and one connection may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body, bytes.
    pub body_bytes: usize,
    /// Most connections at once.
    pub connections: usize,
    /// Free space below which submissions are refused, bytes.
    pub disk_reserve_bytes: u64,
}

/// Traces.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Whether any are made.
    pub enabled: bool,
    /// Host and port, or URL, of the collector.
    pub endpoint: String,
    /// Share of requests traced, in percent.
    pub sample_percent: u32,
}

/// Logging.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// Least severity.
    pub level: LogLevel,
    /// Where a log file goes.
    pub directory: LogDirectory,
}

/// Where a log file goes, beside stdout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogDirectory {
    /// Nowhere.
    #[default]
    None,
    /// /var/log/ffrtmp, or ./logs where that cannot be written.
    Auto,
    /// This directory.
    Named(PathBuf),
}

impl Default for Config {
    /// What no file and no flag mean.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            database: PathBuf::from("master.db"),
            durability: Durability::default(),
            state_dir: None,
            access: Access::default(),
            tls: Tls::default(),
            metrics: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9090))),
            jobs: Jobs::default(),
            heartbeat: Duration::from_secs(10),
            scheduler_interval: Duration::from_secs(1),
            limits: Limits::default(),
            traces: Traces::default(),
            log: Log::default(),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            api_key: None,
            open_api: false,
            per_address: 100,
            per_key: 1000,
            exempt: Vec::new(),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            enabled: true,
            cert: None,
            key: None,
            ca: None,
            client_certs: ClientCerts::default(),
            names: Vec::new(),
        }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            max_retries: 3,
            stale_live: Duration::from_mins(5),
            stale_batch: Duration::from_mins(30),
            retention: Some(Duration::from_hours(7 * 24)),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            connections: 16_384,
            disk_reserve_bytes: 256 << 20,
        }
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoint: "localhost:4318".to_owned(),
            sample_percent: 100,
        }
    }
}

impl Config {
    /// Directory of certificates, keys and the audit log: as named, else beside the database.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir
            .clone()
            .unwrap_or_else(|| self.database.with_extension("d"))
    }

    /// How long a node may be silent before its jobs are given to others.
    pub fn lease(&self) -> Duration {
        LEASE_MIN.max(self.heartbeat * 3)
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(std::io::Error::other("the file is larger than 1 MiB"));
        }
        Ok(text)
    };
    let text = read().map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&path.display().to_string(), &text)
}

/// Checks a text; `name` stands for the file in messages.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    let raw = structure(name, text)?;
    let mut check = Checker::default();
    let config = file::lower(&raw, &mut check);
    check.problems.into_result(name)?;
    Ok(config)
}

/// The JSON Schema of the file, generated from the types that read it.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RawConfig).to_value()
}

/// Keys, types and YAML itself. An empty file is an empty configuration.
fn structure(name: &str, text: &str) -> Result<RawConfig, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut path = None;
    let raw = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        serde_path_to_error::deserialize::<_, Option<RawConfig>>(yaml).map_err(|error| {
            path = Some(error.path().clone());
            error.into_inner()
        })
    });
    raw.map(Option::unwrap_or_default)
        .map_err(|error| error::from_yaml(name, path.as_ref(), &error))
}

/// A host name or an address that a certificate can be made for.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label)) {
        return Ok(name.to_owned());
    }
    Err(format!("\"{text}\" is no host name and no address"))
}

#[cfg(test)]
mod tests;
