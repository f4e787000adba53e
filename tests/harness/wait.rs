//! Waiting for something that an event will bring.

use std::time::{Duration, Instant};

/// Asks until the answer is there; fails the test after 3 minutes (emulated machines on a busy host are slow) with what was waited for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_mins(3);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited 3 minutes for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
