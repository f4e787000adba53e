//! What every store must do, written against the interface alone.
//!
//! A second implementation adds one line to `farms`. Time is a clock that the tests move.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking; stories are closures"
)]

mod clocks;
mod farm;
mod fences;
mod lists;
mod queue;
mod recovery;

use farm::Farm;

/// Runs a story on every implementation.
fn on_every_store(story: impl AsyncFn(&Farm)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for farm in farm::farms() {
        runtime.block_on(story(&farm));
    }
}
