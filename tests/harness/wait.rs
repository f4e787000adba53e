//! Waiting for something that an event will bring.

use std::time::{Duration, Instant};

/// Asks until the answer is there; fails the test after 20 s, in emulated machines 60 s, with what was waited for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let patience = Duration::from_secs(if crate::machine::emulated() { 60 } else { 20 });
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {patience:?} for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
