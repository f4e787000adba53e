//! `cargo xtask bench`: measures what docs/promises.md promises, on real processes, with the release build.
//!
//! It says what machine and settings the figures are from, prints no figure it did not measure in this run, and judges
//! nothing but the promises it knows. Peers run in the same run, one after the other, never beside the governor.

mod discovery;
mod machine;
mod scheduler;
mod stats;

use anyhow::Result;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// From an exec to its placement, what is missed, and what it costs everybody else; the peers beside it
    Discovery(discovery::Discovery),
    /// The scheduler under load: submissions, claims, dispatch, restarts, thousands of nodes; a naive design beside it
    Scheduler(scheduler::Scheduler),
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Discovery(args) => discovery::run(args),
        What::Scheduler(args) => scheduler::run(args),
    }
}
