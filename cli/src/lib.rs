//! The `ffrtmp` command line. `main.rs` is the binary; the modules are a library so that tests may read what a command
//! line means and hand the commands a scripted governor.
//!
//! Reading order: [`args`] is what can be typed, [`limits`] what it means, [`command`] one file a verb, [`backend`] who
//! does the work, [`output`] the only place that prints, [`exit`] what the shell gets.

pub mod args;
pub mod backend;
pub mod command;
pub mod ending;
pub mod exit;
pub mod failure;
pub mod limits;
pub mod local;
pub mod output;
pub mod plain;
