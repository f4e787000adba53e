//! What the engine counts as it happens, by class: steps of jobs, and how long a decision and a placement took.
//!
//! Owns the bound on labels: a class of the configuration file has its own series, every other (one that a `watch` brought)
//! is `other`, and so is each beyond the first `CLASSES_MAX` that files have named since the start. Counting costs a
//! lock and an addition; nothing is done for it while nothing happens.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::control::types::Happened;

/// Classes with series of their own. With 19 buckets and 10 kinds of steps each costs about 50 lines of a scrape.
const CLASSES_MAX: usize = 32;
/// Every class beyond them.
const OTHER: &str = "other";
/// Class of requests that name none; it is in no file.
const DEFAULT_CLASS: &str = "default";

/// Bounds of the buckets, seconds: from 5 µs, below which nothing can be decided, to 1 s.
const BUCKETS: [f64; 17] = [
    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1.5e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1,
    2.5e-1, 1.0,
];

/// Counters and histograms of one engine.
#[derive(Debug)]
pub struct Instruments {
    registry: Registry,
    decision: HistogramVec,
    placement: HistogramVec,
    steps: Vec<(Happened, IntCounterVec)>,
    classes: Mutex<BTreeSet<String>>,
}

impl Instruments {
    /// All at zero. Fails only when two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            let made = HistogramVec::new(opts, &["class"])?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let decision = histogram(
            "ffrtmp_governor_exec_to_decision_seconds",
            "From the exec of a process that a rule took to the rule's decision",
        )?;
        let placement = histogram(
            "ffrtmp_governor_exec_to_placed_seconds",
            "From the exec of a process that a rule took to its last move into its group",
        )?;
        let mut steps = Vec::new();
        for what in Happened::ALL {
            let (name, help) = named(what);
            let counter = IntCounterVec::new(Opts::new(name, help), &["class"])?;
            registry.register(Box::new(counter.clone()))?;
            steps.push((what, counter));
        }
        let made = Self {
            registry,
            decision,
            placement,
            steps,
            classes: Mutex::new(BTreeSet::new()),
        };
        made.allow([DEFAULT_CLASS]);
        Ok(made)
    }

    /// Gives these classes series of their own, as far as there is room. What is counted is shown from its start, at 0.
    pub fn allow<'a>(&self, classes: impl IntoIterator<Item = &'a str>) {
        let mut known = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        for class in classes {
            if known.len() >= CLASSES_MAX || known.contains(class) {
                continue;
            }
            known.insert(class.to_owned());
            self.decision.with_label_values(&[class]);
            self.placement.with_label_values(&[class]);
            for (_, counter) in &self.steps {
                counter.with_label_values(&[class]);
            }
        }
    }

    /// A job did this.
    pub fn count(&self, what: Happened, class: &str) {
        if let Some((_, counter)) = self.steps.iter().find(|(step, _)| *step == what) {
            self.labelled(class, |class| counter.with_label_values(&[class]).inc());
        }
    }

    /// A rule decided so long after the exec, ns.
    pub fn decided(&self, class: &str, after_ns: u64) {
        self.labelled(class, |class| {
            self.decision
                .with_label_values(&[class])
                .observe(seconds(after_ns));
        });
    }

    /// A job sat in its group so long after its exec, ns.
    pub fn placed(&self, class: &str, after_ns: u64) {
        self.labelled(class, |class| {
            self.placement
                .with_label_values(&[class])
                .observe(seconds(after_ns));
        });
    }

    fn labelled(&self, class: &str, act: impl FnOnce(&str)) {
        let known = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        act(if known.contains(class) { class } else { OTHER });
    }

    /// Everything, for a scrape.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Name and meaning of the counter of a step.
fn named(what: Happened) -> (&'static str, &'static str) {
    match what {
        Happened::Discovered => ("ffrtmp_governor_found_total", "Processes that a rule took"),
        Happened::Placed => (
            "ffrtmp_governor_placed_total",
            "Jobs that came under their limits",
        ),
        Happened::NotPlaced => (
            "ffrtmp_governor_not_placed_total",
            "Placements that failed; each try counts",
        ),
        Happened::Moved => ("ffrtmp_governor_moved_total", "Jobs that somebody else moved"),
        Happened::LimitBreached => (
            "ffrtmp_governor_limits_breached_total",
            "Limits that jobs ran into, each once for each job",
        ),
        Happened::Exited => ("ffrtmp_governor_exited_total", "Jobs whose first process ended"),
        Happened::Oom => (
            "ffrtmp_governor_oom_total",
            "Jobs that the out-of-memory killer ended",
        ),
        Happened::SlaMissed => (
            "ffrtmp_governor_sla_missed_total",
            "Jobs that count towards the SLA and that the platform failed",
        ),
        Happened::Closed => ("ffrtmp_governor_closed_total", "Jobs whose last process ended"),
        Happened::Released => ("ffrtmp_governor_released_total", "Jobs that were let go"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder, TextEncoder};

    fn text(instruments: &Instruments) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&instruments.gather(), &mut text)
            .unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn latencies_fall_into_the_buckets_of_their_class() {
        let instruments = Instruments::new().unwrap();
        instruments.allow(["live"]);
        instruments.decided("live", 20_000);
        instruments.placed("live", 140_000);
        instruments.placed("live", 3_000_000_000);
        let text = text(&instruments);
        for line in [
            "ffrtmp_governor_exec_to_decision_seconds_bucket{class=\"live\",le=\"0.00001\"} 0",
            "ffrtmp_governor_exec_to_decision_seconds_bucket{class=\"live\",le=\"0.000025\"} 1",
            "ffrtmp_governor_exec_to_placed_seconds_bucket{class=\"live\",le=\"0.00015\"} 1",
            "ffrtmp_governor_exec_to_placed_seconds_bucket{class=\"live\",le=\"1\"} 1",
            "ffrtmp_governor_exec_to_placed_seconds_bucket{class=\"live\",le=\"+Inf\"} 2",
            "ffrtmp_governor_exec_to_placed_seconds_count{class=\"default\"} 0",
            "# TYPE ffrtmp_governor_exec_to_decision_seconds histogram",
            "ffrtmp_governor_sla_missed_total{class=\"live\"} 0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in:\n{text}"
            );
        }
    }

    #[test]
    fn classes_that_no_file_named_and_those_beyond_the_bound_share_one_series() {
        let instruments = Instruments::new().unwrap();
        let many: Vec<String> = (0..1_000).map(|n| format!("c{n:04}")).collect();
        instruments.allow(many.iter().map(String::as_str));
        for class in &many {
            instruments.count(Happened::Discovered, class);
        }
        instruments.count(Happened::Discovered, "from a watch");
        let text = text(&instruments);
        let series = text
            .lines()
            .filter(|line| line.starts_with("ffrtmp_governor_found_total{"))
            .count();
        assert_eq!(series, CLASSES_MAX + 1);
        assert!(text.contains("ffrtmp_governor_found_total{class=\"c0000\"} 1\n"));
        assert!(
            text.contains("ffrtmp_governor_found_total{class=\"other\"} 970\n"),
            "{text}"
        );
    }

    #[test]
    fn every_step_has_a_counter_of_its_own() {
        let names: BTreeSet<_> = Happened::ALL.map(|what| named(what).0).into();
        assert_eq!(names.len(), Happened::ALL.len());
    }
}
