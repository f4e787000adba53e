//! The control socket: HTTP and JSON on a Unix socket.

pub mod types;
