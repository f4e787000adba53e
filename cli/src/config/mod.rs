//! `ffrtmp config`: what to set on this machine ([`recommend`]), and whether a file can be meant ([`check`]). The only verbs of
//! this family that ask no scheduler, unless `check` is told to.

pub mod check;
pub mod hardware;
pub mod recommend;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::client::args::{NoGovernor, Remote};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

/// `config` and its verbs.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ConfigVerb,
    /// Of no use here.
    #[command(flatten)]
    pub governor: NoGovernor,
}

impl ConfigArgs {
    /// True for `recommend`, which writes in more forms than the others.
    pub fn recommends(&self) -> bool {
        matches!(self.verb, ConfigVerb::Recommend(_))
    }
}

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Recommend settings for a node on this machine; --output text, json, yaml or bash
    Recommend(RecommendArgs),
    /// Check a file of settings; the file of contexts and the scheduler it names when no file is given
    Check(CheckArgs),
}

/// Flags of `config recommend`.
#[derive(Debug, Args)]
pub struct RecommendArgs {
    /// What the node is for: development takes half as many jobs
    #[arg(short, long, value_enum, default_value_t)]
    pub environment: Environment,
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Environment {
    /// Somebody's own machine, used for other things too
    #[default]
    Development,
    /// As production, for trials
    Staging,
    /// Nothing but jobs
    Production,
}

/// Flags of `config check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Whose file it is [default: scheduler if its name says so, contexts if it looks so, else governor]
    #[arg(long, value_enum, value_name = "KIND", requires = "file")]
    pub kind: Option<Kind>,
    /// Which scheduler, which context.
    #[command(flatten)]
    pub remote: Remote,
}

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The file of contexts of this command
    Contexts,
    /// ffrtmp-governor's, or a watch-config.yaml
    Governor,
    /// ffrtmp-scheduler's
    Scheduler,
}

/// Does what was typed.
pub async fn config(args: ConfigArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    match args.verb {
        ConfigVerb::Recommend(args) => recommend::recommend(args.environment, output),
        ConfigVerb::Check(args) => check::check(&args, output).await,
    }
}
