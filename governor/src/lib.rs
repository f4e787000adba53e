//! The node governor: learns of media processes from the kernel at their exec, puts them under limits, follows them
//! to their exit, and never owns them.
//!
//! Reading order: [`core`] decides and does no IO; [`host`] is everything that can fail because of the machine;
//! [`engine`] is the thread that ties both together; [`ledger`] remembers; [`control`] is the socket; [`config`] the
//! file. The daemon is `main.rs`; the command line uses [`client`] to talk to a daemon, or runs an [`engine`] itself.

pub mod client;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod engine;
pub mod host;
pub mod ledger;
pub mod lock;
pub mod metrics;
pub mod tls;
pub mod webhook;

#[cfg(test)]
mod testing;
