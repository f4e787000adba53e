//! Prometheus metrics, `/healthz` and `/readyz`, on a TCP port of the loopback interface.
//!
//! Each scrape asks the engine once and reads the figures that ledger and webhook keep themselves, so that there is one
//! truth and an idle daemon does nothing for it; only latencies and steps by class are counted here ([`Instruments`]).
//! Labels are closed lists. No command line, path or user appears, so
//! the port may be read by anybody on the machine.

mod gate;
mod http;
mod instruments;
mod render;

pub use http::{MetricsSource, serve};
pub use instruments::Instruments;
pub use render::{Figures, render};

/// Where the port is unless configured.
pub const DEFAULT_ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9091));
