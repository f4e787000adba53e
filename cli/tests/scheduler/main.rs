//! The command line against a real `ffrtmp-scheduler` over real TLS, each test with one of its own in a directory of its own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail their test"
)]

mod access;
mod batches;
mod jobs;
mod nodes;
mod retries;
mod seeds;
mod waiting;
mod world;
