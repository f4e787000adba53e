//! Flags of the operator's verbs.

use clap::{Args, Subcommand};
use ffrtmp_api::Scope;

use crate::client::args::Remote;

/// `tokens` and its verbs.
#[derive(Debug, Args)]
pub struct TokensArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: TokensVerb,
    /// Which scheduler.
    #[command(flatten)]
    pub remote: Remote,
}

/// Verbs of `tokens`.
#[derive(Debug, Subcommand)]
pub enum TokensVerb {
    /// Make a token; it is shown once
    Create {
        /// Nodes that may join with it
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
        /// How long it is valid
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = life)]
        expires: u64,
    },
    /// List tokens, without their secrets
    List,
    /// End a token at once
    Revoke {
        /// Public id of the token
        id: String,
    },
}

/// `keys` and its verbs.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: KeysVerb,
    /// Which scheduler.
    #[command(flatten)]
    pub remote: Remote,
}

/// Verbs of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Make a key; it is shown once
    Create {
        /// What it is for
        name: String,
        /// What it may do: submit, read, operate, admin
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
        scope: Vec<Scope>,
        /// How long it is valid [default: for ever]
        #[arg(long, value_name = "DURATION", value_parser = life)]
        expires: Option<u64>,
        /// Requests a second it may make; 0 is no limit [default: the scheduler's]
        #[arg(long, value_name = "N")]
        per_second: Option<u32>,
    },
    /// List keys, without their secrets
    List,
    /// Make a key like this one, which ends
    Rotate {
        /// Public id of the key
        id: String,
        /// How long the old one stays valid
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = life)]
        overlap: u64,
    },
    /// End a key at once
    Revoke {
        /// Public id of the key
        id: String,
    },
}

/// `tenants` and its verbs.
#[derive(Debug, Args)]
pub struct TenantsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: TenantsVerb,
    /// Which scheduler.
    #[command(flatten)]
    pub remote: Remote,
}

/// Verbs of `tenants`.
#[derive(Debug, Subcommand)]
pub enum TenantsVerb {
    /// List tenants with their caps
    List,
    /// Set how many jobs a tenant may run at once
    Set {
        /// The tenant
        name: String,
        /// Jobs at once
        #[arg(long, value_name = "N", required_unless_present = "no_cap")]
        max_running: Option<u32>,
        /// As many as there are nodes for
        #[arg(long, conflicts_with = "max_running")]
        no_cap: bool,
    },
}

/// Flags of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Name of the file in the scheduler's directory of backups [default: the time]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Which scheduler.
    #[command(flatten)]
    pub remote: Remote,
}

/// Seconds out of a number with its unit; a bare number is refused, for nobody knows of what.
fn life(text: &str) -> Result<u64, String> {
    humantime::parse_duration(text)
        .map(|span| span.as_secs())
        .map_err(|_| "write a number with its unit, such as 30m, 12h or 90d".to_owned())
}
