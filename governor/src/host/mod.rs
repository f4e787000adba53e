//! The machine: everything that can fail because of it.

pub mod cgroup;
pub mod spawn;
