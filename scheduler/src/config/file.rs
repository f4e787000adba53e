//! From the file's keys to settings: every key is looked at, every fault is told, defaults stand in for what is absent.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::at::At;
use super::check::{Checker, TEN_YEARS};
use super::raw::{RawAccess, RawConfig, RawJobs, RawLimits, RawLog, RawMetrics, RawTls, RawTracing};
use super::{Access, Config, Jobs, Limits, Log, LogDirectory, Tls, Traces, secret};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
/// Most requests a second that a limit can be set to.
const RATE_MAX: u32 = 1_000_000;

/// Settings of a file, defaults where it says nothing.
pub(super) fn lower(raw: &RawConfig, check: &mut Checker) -> Config {
    let base = Config::default();
    Config {
        listen: check
            .address(raw.listen.as_ref(), "listen")
            .unwrap_or(base.listen),
        database: check
            .path(raw.database.as_ref(), "database")
            .unwrap_or(base.database),
        durability: raw.durability.unwrap_or_default(),
        state_dir: check.path(raw.state_dir.as_ref(), "state_dir"),
        access: raw.access.as_ref().map_or(base.access, |raw| access(raw, check)),
        tls: raw.tls.as_ref().map_or(base.tls, |raw| tls(raw, check)),
        metrics: raw
            .metrics
            .as_ref()
            .map_or(base.metrics, |raw| metrics(raw, base.metrics, check)),
        jobs: raw.jobs.as_ref().map_or(base.jobs, |raw| jobs(raw, check)),
        heartbeat: raw
            .nodes
            .as_ref()
            .and_then(|nodes| check.span(nodes.heartbeat.as_ref(), "nodes.heartbeat", (SECOND, HOUR)))
            .unwrap_or(base.heartbeat),
        scheduler_interval: check
            .span(
                raw.scheduler_interval.as_ref(),
                "scheduler_interval",
                (SECOND / 10, HOUR),
            )
            .unwrap_or(base.scheduler_interval),
        limits: raw.limits.as_ref().map_or(base.limits, |raw| limits(raw, check)),
        traces: raw.tracing.as_ref().map_or(base.traces, |raw| traces(raw, check)),
        log: raw.log.as_ref().map_or(base.log, |raw| log(raw, check)),
        drain: check
            .span(raw.drain.as_ref(), "drain", (Duration::ZERO, HOUR))
            .unwrap_or(base.drain),
    }
}

fn access(raw: &RawAccess, check: &mut Checker) -> Access {
    let base = Access::default();
    Access {
        api_key: raw.api_key_file.as_ref().and_then(|at| {
            secret::read(Path::new(&at.value))
                .map_err(|error| check.problems.add(at, "access.api_key_file", error))
                .ok()
        }),
        open_api: raw.open_api.unwrap_or(base.open_api),
        per_address: rate(raw.per_address.as_ref(), "access.per_address", check).unwrap_or(base.per_address),
        per_key: rate(raw.per_key.as_ref(), "access.per_key", check).unwrap_or(base.per_key),
        exempt: check
            .list(raw.exempt.as_deref(), "access.exempt", network)
            .unwrap_or_default(),
    }
}

fn rate(at: Option<&At<i64>>, key: &str, check: &mut Checker) -> Option<u32> {
    check.number(at, key, (0, RATE_MAX))
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse().map(|ip: std::net::IpAddr| IpNet::from(ip)))
        .map_err(|_| format!("\"{text}\" is no address and no network; write 10.0.0.1 or 10.0.0.0/8"))
}

fn tls(raw: &RawTls, check: &mut Checker) -> Tls {
    let base = Tls::default();
    let tls = Tls {
        enabled: raw.enabled.unwrap_or(base.enabled),
        cert: check.path(raw.cert.as_ref(), "tls.cert"),
        key: check.path(raw.key.as_ref(), "tls.key"),
        ca: check.path(raw.ca.as_ref(), "tls.ca"),
        client_certs: raw.client_certs.unwrap_or_default(),
        names: check
            .list(raw.names.as_deref(), "tls.names", super::host_name)
            .unwrap_or_default(),
    };
    match (&raw.cert, &raw.key) {
        (Some(cert), None) => check
            .problems
            .add(cert, "tls.cert", "stands alone; give tls.key as well"),
        (None, Some(key)) => check
            .problems
            .add(key, "tls.key", "stands alone; give tls.cert as well"),
        _ => {}
    }
    tls
}

fn metrics(raw: &RawMetrics, base: Option<SocketAddr>, check: &mut Checker) -> Option<SocketAddr> {
    let address = check.address(raw.listen.as_ref(), "metrics.listen").or(base);
    address.filter(|_| raw.enabled.unwrap_or(true))
}

fn jobs(raw: &RawJobs, check: &mut Checker) -> Jobs {
    let base = Jobs::default();
    let spans = (SECOND, TEN_YEARS);
    let retention = check
        .span(raw.retention.as_ref(), "jobs.retention", (HOUR, TEN_YEARS))
        .or(base.retention);
    Jobs {
        max_retries: check
            .number(raw.max_retries.as_ref(), "jobs.max_retries", (0, 100))
            .unwrap_or(base.max_retries),
        stale_live: check
            .span(raw.stale_live.as_ref(), "jobs.stale_live", spans)
            .unwrap_or(base.stale_live),
        stale_batch: check
            .span(raw.stale_batch.as_ref(), "jobs.stale_batch", spans)
            .unwrap_or(base.stale_batch),
        retention: retention.filter(|_| raw.cleanup.unwrap_or(true)),
    }
}

fn limits(raw: &RawLimits, check: &mut Checker) -> Limits {
    let base = Limits::default();
    Limits {
        body_bytes: check
            .number(raw.body_bytes.as_ref(), "limits.body_bytes", (1024, 1 << 30))
            .unwrap_or(base.body_bytes),
        connections: check
            .number(raw.connections.as_ref(), "limits.connections", (16, 1_000_000))
            .unwrap_or(base.connections),
        disk_reserve_bytes: check
            .number(
                raw.disk_reserve_bytes.as_ref(),
                "limits.disk_reserve_bytes",
                (0, u64::MAX >> 1),
            )
            .unwrap_or(base.disk_reserve_bytes),
    }
}

fn traces(raw: &RawTracing, check: &mut Checker) -> Traces {
    let base = Traces::default();
    Traces {
        enabled: raw.enabled.unwrap_or(base.enabled),
        endpoint: raw.endpoint.as_ref().map_or(base.endpoint, |at| at.value.clone()),
        sample_percent: check
            .number(raw.sample_percent.as_ref(), "tracing.sample_percent", (0, 100))
            .unwrap_or(base.sample_percent),
    }
}

fn log(raw: &RawLog, check: &mut Checker) -> Log {
    Log {
        format: raw.format.unwrap_or_default(),
        level: raw.level.unwrap_or_default(),
        directory: match raw.directory.as_ref() {
            None => LogDirectory::default(),
            Some(at) if at.value == "auto" => LogDirectory::Auto,
            Some(at) if at.value == "none" => LogDirectory::None,
            Some(at) => check
                .path(Some(at), "log.directory")
                .map_or(LogDirectory::None, LogDirectory::Named),
        },
    }
}
