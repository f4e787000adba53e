//! One moment of the queue as Prometheus text, behind what was counted. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use ffrtmp_api::{JobState, Priority, Queue, Stats};
use prometheus::{
    Encoder, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Moment;

/// Most totals of the queue that are shown: a bound on the number of series.
const TOTALS_MAX: usize = 64;

/// A registry of its own for each scrape: absolute values that are kept elsewhere cannot be set in a lasting counter.
pub(super) fn render(
    lasting: &Registry,
    moment: &Moment,
    uptime: Duration,
) -> Result<String, prometheus::Error> {
    let now = Registry::new();
    gauge(
        &now,
        "ffrtmp_master_up",
        "1 when the queue answers",
        i64::from(moment.stats.is_some()),
    )?;
    let up = Gauge::new(
        "ffrtmp_master_uptime_seconds",
        "Seconds since the scheduler started",
    )?;
    up.set(uptime.as_secs_f64());
    now.register(Box::new(up))?;
    let dropped = IntCounter::new("ffrtmp_audit_dropped_total", "Lines the audit log lost")?;
    dropped.inc_by(moment.audit_dropped);
    now.register(Box::new(dropped))?;
    if let Some(ends) = moment.certificate_ends {
        gauge(
            &now,
            "ffrtmp_master_certificate_expiry_timestamp_seconds",
            "When the server's certificate ends",
            ends,
        )?;
    }
    if let Some(free) = moment.disk_free {
        gauge(
            &now,
            "ffrtmp_master_disk_free_bytes",
            "Free space where the database is",
            signed(free),
        )?;
    }
    if let Some(stats) = &moment.stats {
        queue(&now, stats)?;
        nodes(&now, stats)?;
    }
    let mut families = now.gather();
    families.extend(lasting.gather());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn queue(now: &Registry, stats: &Stats) -> Result<(), prometheus::Error> {
    let of = |state: JobState| stats.jobs_by_state.get(&state).copied().unwrap_or_default();
    let by_state = JobState::ALL.iter().map(|state| (state.as_str(), of(*state)));
    labelled(now, "ffrtmp_jobs_total", "Jobs now, by state", "state", by_state)?;
    let active = of(JobState::Assigned) + of(JobState::Running);
    gauge(now, "ffrtmp_active_jobs", "Jobs that a node has", signed(active))?;
    let waiting: u64 = stats.waiting.iter().map(|band| band.jobs).sum();
    gauge(now, "ffrtmp_queue_length", "Jobs that wait", signed(waiting))?;
    gauge(
        now,
        "ffrtmp_queue_held",
        "Jobs that wait until somebody resumes them",
        signed(stats.held),
    )?;
    let of_priority = |word: Priority| {
        stats
            .waiting
            .iter()
            .filter(|band| band.priority == word)
            .map(|band| band.jobs)
            .sum()
    };
    let by_priority = Priority::ALL
        .iter()
        .map(|word| (word.as_str(), of_priority(*word)));
    labelled(
        now,
        "ffrtmp_queue_by_priority",
        "Jobs that wait, by priority",
        "priority",
        by_priority,
    )?;
    let of_queue = |word: Queue| {
        stats
            .waiting
            .iter()
            .filter(|band| band.queue == word)
            .map(|band| band.jobs)
            .sum()
    };
    let by_queue = Queue::ALL.iter().map(|word| (word.as_str(), of_queue(*word)));
    labelled(
        now,
        "ffrtmp_queue_by_type",
        "Jobs that wait, by queue",
        "type",
        by_queue,
    )?;
    let totals = IntCounterVec::new(
        Opts::new("ffrtmp_scheduler_events_total", "What happened since the start"),
        &["event"],
    )?;
    for (name, value) in stats.totals.iter().take(TOTALS_MAX) {
        totals.with_label_values(&[name.as_str()]).inc_by(*value);
    }
    now.register(Box::new(totals))
}

fn nodes(now: &Registry, stats: &Stats) -> Result<(), prometheus::Error> {
    let by_status: &BTreeMap<String, u64> = &stats.nodes_by_status;
    gauge(
        now,
        "ffrtmp_nodes_total",
        "Nodes that registered",
        signed(by_status.values().sum()),
    )?;
    let rows = by_status.iter().map(|(status, count)| (status.as_str(), *count));
    labelled(now, "ffrtmp_nodes_by_status", "Nodes, by status", "status", rows)?;
    gauge(
        now,
        "ffrtmp_slots",
        "Slots of nodes that are heard of",
        signed(stats.slots),
    )?;
    gauge(
        now,
        "ffrtmp_slots_used",
        "Of these, taken",
        signed(stats.slots_used),
    )?;
    gauge(
        now,
        "ffrtmp_waiting_claims",
        "Nodes' calls that wait for work",
        signed(stats.waiting_claims),
    )
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn gauge(registry: &Registry, name: &str, help: &str, value: i64) -> Result<(), prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(value);
    registry.register(Box::new(gauge))
}

fn labelled<'a>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    rows: impl Iterator<Item = (&'a str, u64)>,
) -> Result<(), prometheus::Error> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    for (word, value) in rows {
        gauges.with_label_values(&[word]).set(signed(value));
    }
    registry.register(Box::new(gauges))
}
