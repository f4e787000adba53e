//! The file as it is written: every key, its type and its meaning. The JSON Schema is generated from these types.
//!
//! Nothing is judged here beyond names and types. Key order is that of the documentation; the flag that overrides a key
//! is named with it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;

/// Configuration of the scheduler (`/etc/ffrtmp/scheduler.yaml`). Flags override the file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "ffrtmp scheduler configuration")]
pub(super) struct RawConfig {
    /// Address of the API, as IP:PORT. Default 0.0.0.0:8080. Flags `--listen`, `--port`.
    pub(super) listen: Option<At<String>>,
    /// Path of the database. Default master.db. Flag `--db`.
    pub(super) database: Option<At<String>>,
    /// `full`: what is acknowledged survives a power cut. `normal`: it survives a crash only. Default full.
    pub(super) durability: Option<Durability>,
    /// Directory of certificates, keys and the audit log. Default: the database's path with `.d` in place of its
    /// extension. Flag `--state-dir`.
    pub(super) state_dir: Option<At<String>>,
    /// Who may use the API.
    pub(super) access: Option<RawAccess>,
    /// Encryption.
    pub(super) tls: Option<RawTls>,
    /// The port of /metrics and probes.
    pub(super) metrics: Option<RawMetrics>,
    /// Retries, staleness, retention.
    pub(super) jobs: Option<RawJobs>,
    /// The nodes' leases.
    pub(super) nodes: Option<RawNodes>,
    /// Longest time between two sweeps for expired leases and due retries, such as 5s. Default 1s. Dispatch does not wait
    /// for it. Flag `--scheduler-interval`.
    pub(super) scheduler_interval: Option<At<String>>,
    /// What one request and one connection may take.
    pub(super) limits: Option<RawLimits>,
    /// Traces.
    pub(super) tracing: Option<RawTracing>,
    /// Logging.
    pub(super) log: Option<RawLog>,
    /// How long requests in flight may take after SIGTERM, such as 30s. Default 30s.
    pub(super) drain: Option<At<String>>,
}

/// Who may use the API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAccess {
    /// File that holds the master key, which may do everything. Flag `--api-key`, variable `MASTER_API_KEY`.
    pub(super) api_key_file: Option<At<String>>,
    /// True: no key is asked for. Whoever reaches the port may do everything. Default false. Flag `--open-api`.
    pub(super) open_api: Option<bool>,
    /// Requests a second from one address (one /64 of IPv6); 0 is no limit. Default 100.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(super) per_address: Option<At<i64>>,
    /// Requests a second with one key, unless the key has a limit of its own; 0 is no limit. Default 1000.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(super) per_key: Option<At<i64>>,
    /// Addresses and networks without a limit for each address, such as [127.0.0.1, 10.0.0.0/8]. Default [].
    pub(super) exempt: Option<Vec<At<String>>>,
}

/// Encryption.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    /// False: plain HTTP. Default true. Flag `--tls`.
    pub(super) enabled: Option<bool>,
    /// Certificate chain of the server, PEM. Default: made by the scheduler's own CA. Flag `--cert`.
    pub(super) cert: Option<At<String>>,
    /// Key of that certificate, PEM. Flag `--key`.
    pub(super) key: Option<At<String>>,
    /// Further CA whose client certificates are taken, PEM. Default: only the scheduler's own. Flag `--ca`.
    pub(super) ca: Option<At<String>>,
    /// Who must show a client certificate: `off` (nobody), `nodes`, `all`. Default off. Flag `--mtls`.
    pub(super) client_certs: Option<ClientCerts>,
    /// Further names and addresses for the own certificate. Flags `--cert-hosts`, `--cert-ips`.
    pub(super) names: Option<Vec<At<String>>>,
}

/// The port of /metrics and probes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    /// False: no such port. Default true. Flag `--metrics`.
    pub(super) enabled: Option<bool>,
    /// Its address, plain HTTP. Default 0.0.0.0:9090. Flag `--metrics-port`.
    pub(super) listen: Option<At<String>>,
}

/// Retries, staleness, retention.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawJobs {
    /// Further attempts after a failure of the platform; ffmpeg's own failures are final. Default 3. Flag `--max-retries`.
    #[schemars(range(min = 0, max = 100))]
    pub(super) max_retries: Option<At<i64>>,
    /// Without progress for so long, a job of queue live is given up and tried again. Default 5m.
    pub(super) stale_live: Option<At<String>>,
    /// The same for all other queues. Default 30m.
    pub(super) stale_batch: Option<At<String>>,
    /// False: finished jobs are kept for ever. Default true. Flag `--cleanup`.
    pub(super) cleanup: Option<bool>,
    /// How long finished jobs are kept, such as 7d. Default 7d. Flag `--cleanup-retention`.
    pub(super) retention: Option<At<String>>,
}

/// The nodes' leases.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNodes {
    /// How often a node tells that it lives, such as 10s; its lease is the larger of 30s and three of these. Default 10s.
    pub(super) heartbeat: Option<At<String>>,
}

/// What one request and one connection may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    /// Largest body of a request, bytes. Default 8388608; a single job may have 1 MiB of it.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub(super) body_bytes: Option<At<i64>>,
    /// Most connections at once. Default 16384.
    #[schemars(range(min = 16, max = 1_000_000))]
    pub(super) connections: Option<At<i64>>,
    /// Free space below which submissions are refused, bytes. Default 268435456.
    #[schemars(range(min = 0))]
    pub(super) disk_reserve_bytes: Option<At<i64>>,
}

/// Traces, sent as OTLP over HTTP.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTracing {
    /// Default false. Flag `--tracing`.
    pub(super) enabled: Option<bool>,
    /// Host and port, or URL, of the collector. Default localhost:4318. Flag `--tracing-endpoint`.
    pub(super) endpoint: Option<At<String>>,
    /// Share of requests traced, in percent. Default 100.
    #[schemars(range(min = 0, max = 100))]
    pub(super) sample_percent: Option<At<i64>>,
}

/// Logging.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    /// Form of a line. Default text.
    pub(super) format: Option<LogFormat>,
    /// Least severity shown. Default info. Flag `--log-level`.
    pub(super) level: Option<LogLevel>,
    /// Directory of a log file beside stdout; `auto` is /var/log/ffrtmp, or ./logs where that cannot be written; `none`
    /// is stdout alone. Default none. Flag `--log-dir`.
    pub(super) directory: Option<At<String>>,
}

/// What an acknowledgement outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A power cut.
    #[default]
    Full,
    /// A crash of the process.
    Normal,
}

/// Who must show a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCerts {
    /// Nobody; a certificate that is shown counts.
    #[default]
    Off,
    /// Nodes, on their routes. Joining is by token, because it is how a certificate is come by.
    Nodes,
    /// Everybody, in the handshake.
    All,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And what happens to jobs and nodes.
    #[default]
    Info,
    /// And each request.
    Debug,
    /// And each step.
    Trace,
}
