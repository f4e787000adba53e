//! Figures for Prometheus, under the predecessor's names with fixed meanings: a gauge is a gauge, times are histograms,
//! and no label can have more values than there are routes, queues, states and statuses.
//!
//! What happens is counted here when it happens; what is so (jobs by state, nodes) is asked of the queue at each scrape.

mod render;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use ffrtmp_api::{AttemptKey, Engine, JobUuid, Stats};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::security::book::Refusal;
use crate::security::rate::Budget;

/// Most attempts whose engine is remembered.
const ENGINES_MAX: usize = 65_536;
/// Buckets of waiting and running jobs, seconds.
const JOB_BUCKETS: &[f64] = &[
    0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0,
];
/// Buckets of requests, seconds. Long polls have none of their own: they are not counted here.
const REQUEST_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// Routes that wait on purpose.
const LONG_POLLS: [&str; 2] = ["/claim", "/orders"];
/// Buckets of sizes, bytes: the predecessor's eight, from 100 B, times ten each.
const SIZE_BUCKETS: &[f64] = &[1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// One request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Traffic<'a> {
    /// Method.
    pub method: &'a str,
    /// Path as the route has it.
    pub endpoint: &'static str,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the body that came in, as announced.
    pub received: u64,
    /// Bytes of the body that went out; 0 for a stream.
    pub sent: u64,
    /// Time from head to answer.
    pub took: Duration,
}

/// What an answer to a claim was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// At least one job.
    Success,
    /// None in time.
    NoJobs,
    /// A problem.
    Error,
}

/// All figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    started: Instant,
    http: Http,
    refused_keys: IntCounterVec,
    rate_limited: IntCounterVec,
    schedule_attempts: IntCounterVec,
    wait: Histogram,
    duration: Histogram,
    jobs_by_engine: IntCounterVec,
    completed_by_engine: IntCounterVec,
    engines: Mutex<BTreeMap<AttemptKey, String>>,
}

/// Figures of requests.
#[derive(Debug)]
struct Http {
    requests: IntCounterVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    request_size: Histogram,
    response_size: Histogram,
    latency: HistogramVec,
}

/// What a scrape is told besides what was counted.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// The queue's figures; `None` when it did not answer.
    pub stats: Option<Stats>,
    /// Lines the audit log lost.
    pub audit_dropped: u64,
    /// When the server's certificate ends, seconds since 1970.
    pub certificate_ends: Option<i64>,
    /// Free space where the database is, bytes.
    pub disk_free: Option<u64>,
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

impl Http {
    fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let by_route = ["method", "endpoint"];
        let latency = HistogramVec::new(
            HistogramOpts::new(
                "scheduler_http_request_duration_seconds",
                "Time to answer, long polls left out",
            )
            .buckets(REQUEST_BUCKETS.to_vec()),
            &by_route,
        )?;
        r.register(Box::new(latency.clone()))?;
        Ok(Self {
            requests: counters(
                r,
                "scheduler_http_requests_total",
                "Requests answered",
                &["method", "endpoint", "status"],
            )?,
            request_bytes: counters(
                r,
                "scheduler_http_request_bytes_total",
                "Bytes of bodies that came in",
                &by_route,
            )?,
            response_bytes: counters(
                r,
                "scheduler_http_response_bytes_total",
                "Bytes of bodies that went out",
                &["method", "endpoint", "status"],
            )?,
            request_size: histogram(
                r,
                "scheduler_http_request_size_bytes",
                "Sizes of bodies that came in",
                SIZE_BUCKETS,
            )?,
            response_size: histogram(
                r,
                "scheduler_http_response_size_bytes",
                "Sizes of bodies that went out",
                SIZE_BUCKETS,
            )?,
            latency,
        })
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new();
        Ok(Self {
            http: Http::new(&r)?,
            refused_keys: counters(
                &r,
                "ffrtmp_auth_refused_total",
                "Credentials that were not taken",
                &["reason"],
            )?,
            rate_limited: counters(
                &r,
                "ffrtmp_rate_limited_total",
                "Requests over a budget",
                &["budget"],
            )?,
            schedule_attempts: counters(
                &r,
                "ffrtmp_schedule_attempts_total",
                "Claims of nodes by what they got",
                &["result"],
            )?,
            wait: histogram(
                &r,
                "ffrtmp_job_wait_time_seconds",
                "Submission to first grant",
                JOB_BUCKETS,
            )?,
            duration: histogram(
                &r,
                "ffrtmp_job_duration_seconds",
                "Running time of attempts that completed, without waiting",
                JOB_BUCKETS,
            )?,
            jobs_by_engine: counters(
                &r,
                "ffrtmp_jobs_by_engine",
                "Jobs submitted, by the engine asked for",
                &["engine"],
            )?,
            completed_by_engine: counters(
                &r,
                "ffrtmp_jobs_completed_by_engine",
                "Jobs completed, by the engine used",
                &["engine"],
            )?,
            engines: Mutex::default(),
            registry: r,
            started: Instant::now(),
        })
    }

    /// A request was answered.
    pub fn on_request(&self, traffic: &Traffic<'_>) {
        let status = traffic.status.to_string();
        let with_status = [traffic.method, traffic.endpoint, status.as_str()];
        let by_route = [traffic.method, traffic.endpoint];
        self.http.requests.with_label_values(&with_status).inc();
        self.http
            .request_bytes
            .with_label_values(&by_route)
            .inc_by(traffic.received);
        self.http
            .response_bytes
            .with_label_values(&with_status)
            .inc_by(traffic.sent);
        self.http.request_size.observe(traffic.received as f64);
        self.http.response_size.observe(traffic.sent as f64);
        if !LONG_POLLS.iter().any(|end| traffic.endpoint.ends_with(end)) {
            self.http
                .latency
                .with_label_values(&by_route)
                .observe(traffic.took.as_secs_f64());
        }
    }

    /// A credential was not taken.
    pub fn on_refused_key(&self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::Missing => "missing",
            Refusal::Unknown => "unknown",
            Refusal::Expired => "expired",
            Refusal::Revoked => "revoked",
            Refusal::Spent => "spent",
            Refusal::NoNode => "no_node",
        };
        self.refused_keys.with_label_values(&[reason]).inc();
    }

    /// A request was over a budget.
    pub fn on_rate_limited(&self, budget: Budget) {
        let budget = match budget {
            Budget::Address => "address",
            Budget::Caller => "key",
        };
        self.rate_limited.with_label_values(&[budget]).inc();
    }

    /// A job was taken in.
    pub fn on_submitted(&self, engine: Engine) {
        self.jobs_by_engine.with_label_values(&[engine.as_str()]).inc();
    }

    /// A node's claim was answered.
    pub fn on_claim(&self, claimed: Claimed) {
        let result = match claimed {
            Claimed::Success => "success",
            Claimed::NoJobs => "no_jobs",
            Claimed::Error => "error",
        };
        self.schedule_attempts.with_label_values(&[result]).inc();
    }

    /// A job was given to a node for the first time. Its name holds the time it was made.
    pub fn on_first_grant(&self, job: &JobUuid, now_ms: u64) {
        let bytes = job.as_bytes();
        let made_ms = bytes
            .iter()
            .take(6)
            .fold(0_u64, |ms, &byte| ms << 8 | u64::from(byte));
        self.wait.observe(now_ms.saturating_sub(made_ms) as f64 / 1000.0);
    }

    /// An attempt's process started.
    pub fn on_started(&self, key: AttemptKey, engine: &str) {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if engines.len() < ENGINES_MAX && engine.parse::<Engine>().is_ok() {
            engines.insert(key, engine.to_owned());
        }
    }

    /// An attempt is over; with `completed` its result was accepted, after so many seconds.
    pub fn on_finished(&self, key: &AttemptKey, completed: bool, seconds: Option<f64>) {
        let engine = self
            .engines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        if !completed {
            return;
        }
        self.completed_by_engine
            .with_label_values(&[engine.as_deref().unwrap_or("unknown")])
            .inc();
        if let Some(seconds) = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
            self.duration.observe(seconds);
        }
    }

    /// The text of a scrape.
    pub fn render(&self, moment: &Moment) -> Result<String, prometheus::Error> {
        render::render(&self.registry, moment, self.started.elapsed())
    }
}

#[cfg(test)]
mod tests;
