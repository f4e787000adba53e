//! The governor on a real kernel, as root: natively on the host, and in virtual machines by `cargo xtask vm`.
//!
//! Every test has a governor, a rule and workloads of its own, so they pass in any order and side by side.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests stand outside #[test], and fail the test the same way"
)]

mod adoption;
mod attach;
mod bad_input;
mod closure;
mod containers;
mod crash;
mod disk;
mod edge;
mod events;
mod examples;
mod exits;
mod foreign;
mod gate;
mod jobs;
mod leave;
mod limits;
mod near;
mod placement;
mod policy;
mod run;
mod spares;
mod storm;
mod survival;
mod tiers;
mod tree;
mod unprivileged;
mod watch;
