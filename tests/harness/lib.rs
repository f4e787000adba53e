//! A private world for each test: a governor with a socket, a ledger and rules of its own, and workloads whose name
//! only its rules know. Everything a world starts or makes is gone when it is dropped.
//!
//! Programs are found beside the test binary, or in `FFRTMP_BIN_DIR` (a virtual machine has them elsewhere).
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness that cannot set the stage must fail the test"
)]

mod base;
mod disk;
pub mod fuzz;
pub mod hook;
pub mod machine;
mod nginx;
mod user;
mod wait;
mod workload;
mod world;

pub use base::{Base, hierarchies};
pub use disk::{LoopDisk, Rivals};
pub use nginx::{Nginx, Publisher};
pub use user::{Answer, as_user, ask_as};
pub use wait::eventually;
pub use workload::{Workload, unique_name, zeroed_rusage};
pub use world::{Options, World, bin, jobs_of, report_of};
