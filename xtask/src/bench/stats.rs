//! Percentiles and medians of a handful of figures. Nothing is interpolated: a percentile is one of the figures.

use serde::Serialize;

/// A distribution in a line. `None` where there were no figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Number of figures.
    pub(super) count: usize,
    /// The smallest.
    pub(super) min: Option<f64>,
    /// Half are at or below it.
    pub(super) p50: Option<f64>,
    /// Nine of ten are.
    pub(super) p90: Option<f64>,
    /// 99 of 100 are; with fewer than 100 figures it is the largest.
    pub(super) p99: Option<f64>,
    /// The largest.
    pub(super) max: Option<f64>,
}

impl Summary {
    /// Sums up figures in any order.
    pub(super) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self {
            count: figures.len(),
            min: figures.first().copied(),
            p50: percentile(&figures, 50),
            p90: percentile(&figures, 90),
            p99: percentile(&figures, 99),
            max: figures.last().copied(),
        }
    }
}

/// Nearest rank in sorted figures.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// The middle figure, the lower one of two.
pub(super) fn median(figures: Vec<f64>) -> Option<f64> {
    Summary::of(figures).p50
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_of_the_set() {
        let summary = Summary::of((1..=100).rev().map(f64::from).collect());
        assert_eq!(
            (summary.p50, summary.p90, summary.p99, summary.max),
            (Some(50.0), Some(90.0), Some(99.0), Some(100.0))
        );
    }

    #[test]
    fn few_figures_give_the_largest_as_their_last_percentile() {
        let summary = Summary::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((summary.p50, summary.p99), (Some(2.0), Some(3.0)));
    }

    #[test]
    fn no_figures_give_no_percentile() {
        let summary = Summary::of(Vec::new());
        assert_eq!((summary.count, summary.p50, summary.max), (0, None, None));
        assert_eq!(median(vec![4.0, 2.0]), Some(2.0));
    }
}
