//! The central queue: jobs, attempts, nodes, and who gets what next.
//!
//! [`core`] decides and does nothing; [`store`] is the only place that knows SQL. Whoever serves requests (HTTP, a
//! test, a simulator) talks to [`store::Store`], an interface of whole commands: each is one decision and one commit.
//! [`daemon`] puts the store behind [`http`], with who may use it decided by [`security`].

pub mod config;
pub mod core;
pub mod daemon;
mod directory;
pub mod http;
pub mod metrics;
pub mod security;
pub mod store;
pub mod telemetry;

#[cfg(test)]
mod testing;
