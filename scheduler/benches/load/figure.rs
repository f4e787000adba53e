//! One measured figure, its gate, and percentiles.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

/// A figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Goal of the reference it belongs to, such as `G1`; empty for context.
    pub(crate) goal: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// What came of it, with its unit.
    pub(crate) measured: String,
    /// What is promised; empty where nothing is.
    pub(crate) gate: String,
    /// Whether it is kept; `None` where nothing is promised.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// For which nothing is promised.
    pub(crate) fn plain(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self {
            goal: "",
            what: what.into(),
            measured: measured.into(),
            gate: String::new(),
            met: None,
        }
    }

    /// With its promise.
    pub(crate) fn judged(
        goal: &'static str,
        what: impl Into<String>,
        measured: impl Into<String>,
        gate: impl Into<String>,
        met: bool,
    ) -> Self {
        Self {
            goal,
            what: what.into(),
            measured: measured.into(),
            gate: gate.into(),
            met: Some(met),
        }
    }
}

/// Times in order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// Nearest rank; zero without any.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// `p50 1.20 ms, p99 3.40 ms of 500`.
    pub(crate) fn line(&self) -> String {
        format!(
            "p50 {}, p99 {} of {}",
            ms(self.percentile(50)),
            ms(self.percentile(99)),
            self.0.len()
        )
    }
}

/// Milliseconds for people.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// How long this disk takes to make 4 KiB durable: every other figure hangs on it.
pub(crate) fn fsync(directory: &Path) -> Figure {
    let mut file = tempfile::tempfile_in(directory).unwrap();
    let block = vec![7; 4096];
    let times = (0..500)
        .map(|_| {
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&block).unwrap();
            let began = Instant::now();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    Figure::plain("fdatasync of 4 KiB on this disk", Times::of(times).line())
}
