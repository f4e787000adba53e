//! How targets are started: one by one, or as many at a time as asked for. The same starts for every contender.

use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::target::Target;

/// Longest of the short lives, microseconds.
const SHORT_US: u64 = 5_000;

/// One way of starting them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starts {
    /// How many.
    pub(super) count: usize,
    /// How long each sleeps.
    pub(super) life: Life,
    /// When the next one starts.
    pub(super) pace: Pace,
}

/// How long a target sleeps before it ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Life {
    /// As long as this.
    Of(Duration),
    /// 0 to 5 ms; every other one does not sleep at all.
    Short,
}

/// When the next target starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So long after the last one, whether that has ended or not.
    Every(Duration),
    /// As soon as fewer than this many live.
    AtOnce(usize),
}

impl Life {
    fn micros(self, id: usize) -> u64 {
        match self {
            Self::Of(life) => life.as_micros() as u64,
            Self::Short if id.is_multiple_of(2) => 0,
            Self::Short => (id as u64 * 37) % SHORT_US,
        }
    }
}

impl Starts {
    /// Starts them all and waits for their ends; returns starts a second. `from` is the number of the first.
    pub(super) fn run(self, target: &Target, from: usize) -> Result<f64> {
        let began = Instant::now();
        match self.pace {
            Pace::Every(gap) => self.paced(target, from, gap)?,
            Pace::AtOnce(width) => self.storm(target, from, width)?,
        }
        Ok(self.count as f64 / began.elapsed().as_secs_f64())
    }

    fn paced(self, target: &Target, from: usize, gap: Duration) -> Result<()> {
        let mut children = Vec::new();
        for id in from..from + self.count {
            children.push(target.start(id, self.life.micros(id))?);
            std::thread::sleep(gap);
        }
        children.into_iter().try_for_each(waited)
    }

    /// A few threads keep so many alive; each waits for its own, oldest first.
    fn storm(self, target: &Target, from: usize, width: usize) -> Result<()> {
        let next = AtomicUsize::new(from);
        let threads = width.min(4);
        let one = || -> Result<()> {
            let mut children = std::collections::VecDeque::new();
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id >= from + self.count {
                    return children.into_iter().try_for_each(waited);
                }
                children.push_back(target.start(id, self.life.micros(id))?);
                if children.len() >= width / threads
                    && let Some(oldest) = children.pop_front()
                {
                    waited(oldest)?;
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    }
}

fn waited(mut child: Child) -> Result<()> {
    child.wait().context("waiting for a target")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lives_are_0_to_5_ms() {
        assert!((0..10_000).all(|id| Life::Short.micros(id) < SHORT_US));
        assert!((0..10_000).any(|id| Life::Short.micros(id) > SHORT_US / 2));
        assert_eq!(Life::Of(Duration::from_millis(3)).micros(1), 3_000);
    }
}
