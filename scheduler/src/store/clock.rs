//! Where the store learns the time. The core is told; nothing else asks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::core::Moment;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now, on both clocks.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The boot clock goes on through a suspend; the usual monotonic one would stand still and trust dead leases.
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map(std::time::Duration::from)
            .unwrap_or_default();
        Moment {
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            boot_ms: u64::try_from(boot.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A clock that moves when it is told to, for tests.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    boot_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at this moment.
    pub fn at(now: Moment) -> Self {
        Self {
            wall_ms: AtomicI64::new(now.wall_ms),
            boot_ms: AtomicU64::new(now.boot_ms),
        }
    }

    /// Lets time pass.
    pub fn pass(&self, ms: u64) {
        self.boot_ms.fetch_add(ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(ms as i64, Ordering::SeqCst);
    }

    /// Sets the wall clock forth, or back; no time passes.
    pub fn set_wall(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment {
            wall_ms: self.wall_ms.load(Ordering::SeqCst),
            boot_ms: self.boot_ms.load(Ordering::SeqCst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_of_the_machine_are_read() {
        let now = SystemClock.now();
        assert!(now.wall_ms > 1_600_000_000_000);
        assert!(now.boot_ms > 0);
        assert!(SystemClock.now().boot_ms >= now.boot_ms);
    }
}
