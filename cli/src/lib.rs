//! The `ffrtmp` command line. `main.rs` is the binary; the modules are a library so that tests may read what a command
//! line means and hand the commands a scripted governor.
//!
//! Reading order: [`args`] is what can be typed, [`limits`] what it means, [`command`] one file a verb, [`backend`] who
//! does the work on this machine, [`client`] how a scheduler is reached, [`jobs`], [`nodes`], [`admin`] and [`config`] what it is asked, [`output`] the only place that prints, [`exit`] what the shell gets.

pub mod admin;
pub mod args;
pub mod backend;
pub mod client;
pub mod command;
pub mod config;
pub mod ending;
pub mod exit;
pub mod failure;
pub mod jobs;
pub mod limits;
pub mod local;
pub mod nodes;
pub mod output;
pub mod plain;
