//! One moment's figures as Prometheus text. Pure.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Gauge, IntCounter, IntGauge, Opts, Registry, TextEncoder};

use super::gate;
use crate::control::types::Status;
use crate::ledger::{LedgerSnapshot, LedgerState};
use crate::webhook::WebhookSnapshot;

/// The engine's counter behind `ffrtmp_worker_discovered_processes_total`.
const DISCOVERED: &str = "discovered";
/// Figures of the engine that begin so are numbers of jobs in a state, which go down too.
const JOBS_IN: &str = "jobs_";
/// Most counters of the engine that are shown: a bound on the number of series, far above what the engine has.
const COUNTERS_MAX: usize = 128;
/// Values of label `exit_reason`: the words of `ExitReason`, and "none" for a job that was let go before its end.
const EXIT_REASONS: [&str; 10] = [
    "success",
    "error",
    "signal",
    "oom",
    "timeout",
    "canceled",
    "quota",
    "lost",
    "unobserved",
    "none",
];
/// Values of label `what` of the losses, and the engine's counters behind them.
const LOSSES: [(&str, &str); 4] = [
    ("ring", "kernel_dropped"),
    ("record", "kernel_refused"),
    ("child", "kernel_child_lost"),
    ("subscriber", "events_dropped"),
];
const TIERS: [&str; 3] = ["kernel", "connector", "scan"];

/// What a scrape shows.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The engine's answer; `None` when it did not give one.
    pub status: Option<Status>,
    /// The ledger's figures.
    pub ledger: LedgerSnapshot,
    /// Whether the daemon only observes because it crashed too often.
    pub observe_fallback: bool,
    /// The webhook's figures; `None` without one.
    pub webhook: Option<WebhookSnapshot>,
    /// Counters and histograms that last.
    pub lasting: Vec<MetricFamily>,
    /// Seconds since the daemon started.
    pub uptime_sec: f64,
}

/// The figures as text. A registry of its own for each scrape: absolute values of counters that are kept elsewhere
/// cannot be set in a lasting one.
pub fn render(figures: &Figures) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    gauge(
        &registry,
        "ffrtmp_governor_up",
        "1 when the engine answers",
        i64::from(figures.status.is_some()),
    )?;
    gauge(
        &registry,
        "ffrtmp_governor_observe_fallback",
        "1 while nothing is placed because the governor crashed three times within a minute; a reload ends it",
        i64::from(figures.observe_fallback),
    )?;
    let uptime = Gauge::new(
        "ffrtmp_governor_uptime_seconds",
        "Seconds since the daemon started",
    )?;
    uptime.set(figures.uptime_sec);
    registry.register(Box::new(uptime))?;
    if let Some(status) = &figures.status {
        engine(&registry, status)?;
        gate::render(&registry, status.gate.as_ref())?;
    }
    ledger(&registry, &figures.ledger)?;
    if let Some(snapshot) = &figures.webhook {
        webhook(&registry, snapshot)?;
    }
    let mut families = registry.gather();
    families.extend_from_slice(&figures.lasting);
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn engine(registry: &Registry, status: &Status) -> Result<(), prometheus::Error> {
    if let Some(discovered) = status.counters.get(DISCOVERED) {
        let opts = Opts::new(
            "ffrtmp_worker_discovered_processes_total",
            "Processes that a rule took since the governor started",
        );
        counter(registry, opts, *discovered)?;
    }
    gauge(
        registry,
        "ffrtmp_worker_active_attachments",
        "Live governed jobs",
        count(status.jobs),
    )?;
    gauge(
        registry,
        "ffrtmp_governor_rules",
        "Rules in force",
        count(status.rules),
    )?;
    gauge(
        registry,
        "ffrtmp_governor_features_off",
        "Features that are off; `ffrtmp doctor` says which and why",
        count(status.off.len()),
    )?;
    gauge(
        registry,
        "ffrtmp_governor_wide",
        "1 when a rule without a name makes the kernel tell of every exec",
        i64::from(status.wide),
    )?;
    labelled_gauge(
        registry,
        Opts::new("ffrtmp_governor_info", "Version of the governor").const_label("version", &status.version),
        1,
    )?;
    for tier in TIERS {
        let opts =
            Opts::new("ffrtmp_governor_tier", "1 for the source of facts in use").const_label("tier", tier);
        labelled_gauge(registry, opts, i64::from(status.tier == tier))?;
    }
    losses(registry, &status.counters)?;
    for (name, value) in names(&status.counters) {
        if let Some(state) = name.strip_prefix(JOBS_IN) {
            let opts = Opts::new("ffrtmp_governor_jobs", "Jobs by state").const_label("state", state);
            labelled_gauge(registry, opts, i64::try_from(value).unwrap_or(i64::MAX))?;
            continue;
        }
        let help = "Counter of the engine or its kernel programs";
        counter(
            registry,
            Opts::new(format!("ffrtmp_governor_engine_{name}_total"), help),
            value,
        )?;
    }
    Ok(())
}

/// What was not told, and how often the truth was read for it. The gate's own counter is absent where there is no gate,
/// which then has let nothing time out.
fn losses(registry: &Registry, counters: &BTreeMap<String, u64>) -> Result<(), prometheus::Error> {
    let value = |name: &str| counters.get(name).copied().unwrap_or(0);
    for (what, name) in LOSSES {
        let help =
            "Told to nobody: by the kernel's ring, its record map, its map of children, or to a subscriber";
        let opts = Opts::new("ffrtmp_governor_lost_total", help).const_label("what", what);
        counter(registry, opts, value(name))?;
    }
    let help = "Walks over the kernel's record map after a loss";
    counter(
        registry,
        Opts::new("ffrtmp_governor_resynced_total", help),
        value("resyncs"),
    )
}

fn webhook(registry: &Registry, webhook: &WebhookSnapshot) -> Result<(), prometheus::Error> {
    for (outcome, value) in [
        ("delivered", webhook.delivered),
        ("refused", webhook.refused),
        ("given_up", webhook.given_up),
        ("dropped", webhook.dropped),
    ] {
        let help = "Events for the webhook by what became of them";
        let opts = Opts::new("ffrtmp_governor_webhook_events_total", help).const_label("outcome", outcome);
        counter(registry, opts, value)?;
    }
    let help = "Deliveries that failed and were tried again";
    let opts = Opts::new("ffrtmp_governor_webhook_retries_total", help);
    counter(registry, opts, webhook.retried)?;
    gauge(
        registry,
        "ffrtmp_governor_webhook_queue",
        "Events that wait for the webhook",
        i64::try_from(webhook.queued).unwrap_or(i64::MAX),
    )
}

/// The engine's counters under names that Prometheus takes; a prefix of their own keeps them apart from all others. Two that would read the same are added up.
fn names(counters: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut named = BTreeMap::new();
    for (name, value) in counters.iter().take(COUNTERS_MAX) {
        let clean: String = name
            .chars()
            .map(|c| match c {
                'a'..='z' | '0'..='9' | '_' => c,
                'A'..='Z' => c.to_ascii_lowercase(),
                _ => '_',
            })
            .collect();
        *named
            .entry(clean.trim_end_matches("_total").to_owned())
            .or_insert(0) += value;
    }
    named
}

fn ledger(registry: &Registry, ledger: &LedgerSnapshot) -> Result<(), prometheus::Error> {
    gauge(
        registry,
        "ffrtmp_governor_ledger_degraded",
        "1 while records cannot be written to disk",
        i64::from(ledger.state != LedgerState::Ok),
    )?;
    let lag = Gauge::new(
        "ffrtmp_governor_ledger_lag_seconds",
        "Age of the oldest record that waits to be written, 0 while none does",
    )?;
    lag.set(ledger.lag.as_secs_f64());
    registry.register(Box::new(lag))?;
    gauge(
        registry,
        "ffrtmp_governor_ledger_backlog",
        "Records that wait to be written",
        i64::try_from(ledger.backlog).unwrap_or(i64::MAX),
    )?;
    let failures = Opts::new(
        "ffrtmp_governor_ledger_write_failures_total",
        "Attempts to write that failed",
    );
    counter(registry, failures, ledger.failures)?;
    let known = |reason: &str| EXIT_REASONS.contains(&reason);
    for reason in EXIT_REASONS {
        let value = ledger.closed.get(reason).copied().unwrap_or(0);
        counter(registry, closed_opts(reason), value)?;
    }
    let other: u64 = ledger
        .closed
        .iter()
        .filter(|(reason, _)| !known(reason))
        .map(|(_, value)| value)
        .sum();
    if other > 0 {
        counter(registry, closed_opts("other"), other)?;
    }
    Ok(())
}

fn closed_opts(reason: &str) -> Opts {
    Opts::new(
        "ffrtmp_governor_jobs_closed_total",
        "Jobs whose record is on disk, by exit reason",
    )
    .const_label("exit_reason", reason)
}

pub(super) fn counter(registry: &Registry, opts: Opts, value: u64) -> Result<(), prometheus::Error> {
    let counter = IntCounter::with_opts(opts)?;
    counter.inc_by(value);
    registry.register(Box::new(counter))
}

pub(super) fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), prometheus::Error> {
    labelled_gauge(registry, Opts::new(name, help), value)
}

fn labelled_gauge(registry: &Registry, opts: Opts, value: i64) -> Result<(), prometheus::Error> {
    let gauge = IntGauge::with_opts(opts)?;
    gauge.set(value);
    registry.register(Box::new(gauge))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(counters: &[(&str, u64)]) -> Status {
        Status {
            pid: 1,
            version: "1.2.3".to_owned(),
            tier: "scan".to_owned(),
            tier_reason: None,
            names: Vec::new(),
            wide: true,
            rules: 2,
            jobs: 3,
            hierarchies: Vec::new(),
            off: vec!["net: no v2".to_owned()],
            counters: counters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
            policy: crate::control::types::PolicyStatus::default(),
            fast_placement: None,
            ledger: None,
            gate: None,
        }
    }

    fn text(status: Option<Status>, ledger: LedgerSnapshot) -> String {
        let figures = Figures {
            status,
            ledger,
            observe_fallback: true,
            webhook: Some(WebhookSnapshot {
                dropped: 5,
                queued: 2,
                ..WebhookSnapshot::default()
            }),
            lasting: Vec::new(),
            uptime_sec: 1.5,
        };
        render(&figures).unwrap()
    }

    #[test]
    fn every_figure_is_shown_under_its_name() {
        let ledger = LedgerSnapshot {
            state: LedgerState::Degraded {
                since: jiff::Timestamp::UNIX_EPOCH,
                error: "full".to_owned(),
            },
            backlog: 4,
            lag: std::time::Duration::from_millis(2_500),
            failures: 2,
            closed: BTreeMap::from([("oom".to_owned(), 6), ("made up".to_owned(), 1)]),
        };
        let counters = [
            ("discovered", 7),
            ("kernel seen", 11),
            ("kernel_dropped", 3),
            ("resyncs", 1),
            ("Odd/Name_total", 1),
            ("jobs_governed", 3),
        ];
        let text = text(Some(status(&counters)), ledger);
        for line in [
            "ffrtmp_worker_discovered_processes_total 7",
            "ffrtmp_worker_active_attachments 3",
            "ffrtmp_governor_up 1",
            "ffrtmp_governor_observe_fallback 1",
            "ffrtmp_governor_info{version=\"1.2.3\"} 1",
            "ffrtmp_governor_tier{tier=\"scan\"} 1",
            "ffrtmp_governor_tier{tier=\"kernel\"} 0",
            "ffrtmp_governor_engine_kernel_seen_total 11",
            "ffrtmp_governor_engine_odd_name_total 1",
            "ffrtmp_governor_jobs{state=\"governed\"} 3",
            "# TYPE ffrtmp_governor_jobs gauge",
            "ffrtmp_governor_features_off 1",
            "ffrtmp_governor_ledger_degraded 1",
            "ffrtmp_governor_ledger_backlog 4",
            "ffrtmp_governor_ledger_lag_seconds 2.5",
            "ffrtmp_governor_lost_total{what=\"ring\"} 3",
            "ffrtmp_governor_lost_total{what=\"record\"} 0",
            "ffrtmp_governor_resynced_total 1",
            "ffrtmp_gate_timeouts_total 0",
            "ffrtmp_governor_webhook_events_total{outcome=\"dropped\"} 5",
            "ffrtmp_governor_webhook_queue 2",
            "ffrtmp_governor_ledger_write_failures_total 2",
            "ffrtmp_governor_jobs_closed_total{exit_reason=\"oom\"} 6",
            "ffrtmp_governor_jobs_closed_total{exit_reason=\"success\"} 0",
            "ffrtmp_governor_jobs_closed_total{exit_reason=\"other\"} 1",
            "# TYPE ffrtmp_governor_jobs_closed_total counter",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in:\n{text}"
            );
        }
    }

    #[test]
    fn an_engine_that_does_not_answer_has_no_figures_rather_than_zeros() {
        let text = text(None, LedgerSnapshot::default());
        assert!(text.contains("ffrtmp_governor_up 0"));
        assert!(!text.contains("ffrtmp_worker_active_attachments"), "{text}");
    }

    #[test]
    fn names_that_clash_after_cleaning_are_added_up_and_their_number_is_bounded() {
        let counters = [("a b", 1), ("a_b", 2), ("a_b_total", 3)];
        assert!(
            text(Some(status(&counters)), LedgerSnapshot::default())
                .contains("ffrtmp_governor_engine_a_b_total 6")
        );
        let many: BTreeMap<String, u64> = (0..10_000).map(|n| (format!("c{n}"), n)).collect();
        assert_eq!(names(&many).len(), COUNTERS_MAX);
    }

    #[test]
    fn a_counter_with_the_name_of_a_metric_does_not_end_the_scrape() {
        let clashes = [("ledger_write_failures", 1), ("jobs_closed", 1)];
        let figures = Figures {
            status: Some(status(&clashes)),
            ledger: LedgerSnapshot::default(),
            observe_fallback: false,
            webhook: None,
            lasting: Vec::new(),
            uptime_sec: 0.0,
        };
        assert!(render(&figures).is_ok());
    }
}
