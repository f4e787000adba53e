//! The real program over real TLS: started, asked, killed, started again.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measured"
)]

mod audit;
mod bad;
mod crash;
mod disk;
mod drive;
mod farm;
mod power;
mod server;
mod upkeep;
