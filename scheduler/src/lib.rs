//! The scheduler: a durable queue of transcoding jobs, and the nodes that run them.

pub mod config;
pub mod daemon;
pub mod http;
pub mod metrics;
pub mod security;
pub mod telemetry;
