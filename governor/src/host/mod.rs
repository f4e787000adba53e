//! The machine: everything that can fail because of it.

pub mod cgroup;
pub mod file;
pub mod kernel;
pub mod priority;
pub mod process;
pub mod procfs;
