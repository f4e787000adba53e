//! Suites that need systemd as the first process: they run in the guest of `cargo xtask vm systemd` and nowhere else.
//!
//! The machine is theirs alone: they start, stop and reload its units, and the governor under test is the one that
//! `deploy/systemd` installs.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod containers;
mod deploy;
mod gate;
mod restart;
mod run;
mod scope;
mod session;
mod stage;
