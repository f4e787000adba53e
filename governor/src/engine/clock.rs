//! The one clock of the engine: nanoseconds since boot, suspended time included, as the kernel programs stamp it.

use nix::time::{ClockId, clock_gettime};

/// Now, ns since boot. A clock that cannot be read reads 0, which no supported kernel does.
pub fn boot_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME).unwrap_or(0)
}

/// Wall time when this clock stood at zero. Taken once at start: a wall clock that is set later does not move the times of
/// jobs that already ran.
pub fn boot_time() -> jiff::Timestamp {
    let since_boot = jiff::SignedDuration::from_nanos(boot_ns().cast_signed());
    jiff::Timestamp::now()
        .checked_sub(since_boot)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn read(clock: ClockId) -> Option<u64> {
    let now = clock_gettime(clock).ok()?;
    Some(now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}
