//! The control socket: HTTP and JSON on a Unix socket.
//!
//! [`types`] is what travels; [`server`] owns the socket; `routes` turns a request into one command to the engine or
//! one question to the ledger; [`peer`] decides who may; [`session`] is a `watch` whose rules live as long as its
//! connection. Nothing here decides about processes.

pub mod peer;
mod routes;
pub mod server;
pub mod session;
mod status;
pub mod types;

#[cfg(test)]
mod tests;
