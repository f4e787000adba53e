//! The engine: one thread that owns all state, and the handle by which everybody else talks to it.
//!
//! The thread waits in one epoll for the kernel's ring, process descriptors, a timer and the command eventfd. It never
//! blocks on disk or network: the ledger and every server run elsewhere and exchange messages with it.

pub mod handle;

pub use handle::{Command, EngineHandle};
