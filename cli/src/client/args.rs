//! The verbs that talk to a scheduler, and the flags that say to which one.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::contexts::ContextArgs;
use super::login::LoginArgs;
use crate::admin::args::{BackupArgs, KeysArgs, TenantsArgs, TokensArgs};
use crate::config::ConfigArgs;
use crate::jobs::args::JobsArgs;
use crate::nodes::NodesArgs;

/// The global flags that say which governor is meant. No verb of a scheduler asks one, so they are taken (scripts set
/// them for every verb) and not shown: these replace the global ones below such a verb.
#[derive(Debug, Clone, Default, Args)]
pub struct NoGovernor {
    #[arg(long, global = true, hide = true, env = "FFRTMP_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    #[arg(long, global = true, hide = true)]
    no_daemon: bool,
}

/// Flags that say which scheduler is meant, and who asks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Scheduler options")]
pub struct Remote {
    /// Address of the scheduler.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "Address of the scheduler [default: MASTER_URL, else the context's, else https://localhost:8080]"
    )]
    pub master: Option<String>,
    /// Key to show.
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        help = "Key to show [default: MASTER_API_KEY, else FFMPEG_RTMP_API_KEY, else the context's]. A flag shows in `ps`"
    )]
    pub api_key: Option<String>,
    /// Authority to trust, a file in PEM [default: the context's, else the system's]
    #[arg(long, global = true, value_name = "PATH")]
    pub ca: Option<PathBuf>,
    /// Context to use [default: the current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// File of contexts [default: ~/.ffrtmp/config.yaml]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Of no use here.
    #[command(flatten)]
    pub governor: NoGovernor,
}

/// Flags of a verb that has none of its own.
#[derive(Debug, Args)]
pub struct PlainArgs {
    /// Which scheduler.
    #[command(flatten)]
    pub remote: Remote,
}

/// What to ask of a scheduler.
#[derive(Debug, Subcommand)]
pub enum SchedulerVerb {
    /// Submit jobs to a scheduler, look at them, act on them
    Jobs(JobsArgs),
    /// Look at the nodes of a scheduler, act on them
    Nodes(NodesArgs),
    /// Show how full a scheduler's queues are
    Queues(PlainArgs),
    /// Make and end the tokens that nodes join with
    Tokens(TokensArgs),
    /// Make, rotate and end API keys
    Keys(KeysArgs),
    /// Say how many jobs a tenant may run at once
    Tenants(TenantsArgs),
    /// Copy a scheduler's database to its own disk
    Backup(BackupArgs),
    /// Recommend and check settings
    Config(ConfigArgs),
    /// Trust a scheduler and remember it with its key
    Login(LoginArgs),
    /// Choose among the schedulers that are remembered
    Context(ContextArgs),
    /// Say which scheduler is meant, which key is used, and whether it is taken
    Whoami(PlainArgs),
}
