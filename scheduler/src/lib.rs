//! The central queue: jobs, attempts, nodes, and who gets what next.
//!
//! [`core`] decides and does nothing; [`store`] is the only place that knows SQL. Whoever serves requests (HTTP, a
//! test, a simulator) talks to [`store::Store`], an interface of whole commands: each is one decision and one commit.

pub mod core;
pub mod store;
