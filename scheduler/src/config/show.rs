//! What the scheduler runs with, as lines for its log and for `--check`. Secrets are said to be set, never shown.

use std::fmt::{self, Display};
use std::path::Path;
use std::time::Duration;

use super::{ClientCerts, Config, Durability, LogDirectory, LogFormat};

impl Config {
    /// Every setting under its key in the file, in the file's order.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("listen", self.listen.to_string()),
            ("database", self.database.display().to_string()),
            (
                "durability",
                lower(self.durability == Durability::Full, "full", "normal"),
            ),
            ("state_dir", self.state_dir().display().to_string()),
        ];
        all.extend(self.access_settings());
        all.extend(self.tls_settings());
        all.extend([
            ("metrics.listen", or_off(self.metrics.as_ref())),
            ("jobs.max_retries", self.jobs.max_retries.to_string()),
            ("jobs.stale_live", span(self.jobs.stale_live)),
            ("jobs.stale_batch", span(self.jobs.stale_batch)),
            (
                "jobs.retention",
                self.jobs.retention.map_or_else(|| "for ever".to_owned(), span),
            ),
            (
                "nodes.heartbeat",
                format!("{} (lease {})", span(self.heartbeat), span(self.lease())),
            ),
            ("scheduler_interval", span(self.scheduler_interval)),
            ("limits.body_bytes", self.limits.body_bytes.to_string()),
            ("limits.connections", self.limits.connections.to_string()),
            (
                "limits.disk_reserve_bytes",
                self.limits.disk_reserve_bytes.to_string(),
            ),
            ("tracing", self.traces_setting()),
            (
                "log.format",
                lower(self.log.format == LogFormat::Text, "text", "json"),
            ),
            ("log.level", format!("{:?}", self.log.level).to_lowercase()),
            ("log.directory", self.log_setting()),
            ("drain", span(self.drain)),
        ]);
        all
    }

    fn access_settings(&self) -> [(&'static str, String); 5] {
        let access = &self.access;
        let key = lower(access.api_key.is_some(), "set (hidden)", "not set");
        let open = lower(access.open_api, "true: NO KEY IS ASKED FOR", "false");
        let exempt: Vec<String> = access.exempt.iter().map(ToString::to_string).collect();
        [
            ("access.api_key", key),
            ("access.open_api", open),
            ("access.per_address", rate(access.per_address)),
            ("access.per_key", rate(access.per_key)),
            ("access.exempt", format!("[{}]", exempt.join(", "))),
        ]
    }

    fn tls_settings(&self) -> Vec<(&'static str, String)> {
        let tls = &self.tls;
        if !tls.enabled {
            return vec![("tls.enabled", "false: PLAIN HTTP".to_owned())];
        }
        let path = |path: Option<&Path>, none: &str| {
            path.map_or_else(|| none.to_owned(), |path| path.display().to_string())
        };
        let who = match tls.client_certs {
            ClientCerts::Off => "off",
            ClientCerts::Nodes => "nodes",
            ClientCerts::All => "all",
        };
        vec![
            ("tls.enabled", "true".to_owned()),
            ("tls.cert", path(tls.cert.as_deref(), "of the own CA")),
            ("tls.key", path(tls.key.as_deref(), "of the own CA")),
            ("tls.ca", path(tls.ca.as_deref(), "the own CA")),
            ("tls.client_certs", who.to_owned()),
            ("tls.names", format!("[{}]", tls.names.join(", "))),
        ]
    }

    fn traces_setting(&self) -> String {
        if !self.traces.enabled {
            return "off".to_owned();
        }
        format!("{} % to {}", self.traces.sample_percent, self.traces.endpoint)
    }

    fn log_setting(&self) -> String {
        match &self.log.directory {
            LogDirectory::None => "none".to_owned(),
            LogDirectory::Auto => "auto".to_owned(),
            LogDirectory::Named(path) => path.display().to_string(),
        }
    }
}

/// One setting a line.
impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (key, value)) in self.settings().iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{key}: {value}")?;
        }
        Ok(())
    }
}

fn lower(first: bool, yes: &str, no: &str) -> String {
    if first { yes } else { no }.to_owned()
}

fn span(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

fn rate(rate: u32) -> String {
    if rate == 0 {
        return "no limit".to_owned();
    }
    format!("{rate} requests a second")
}

fn or_off<T: Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "off".to_owned(), ToString::to_string)
}
