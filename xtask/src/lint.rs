//! `cargo xtask lint`: formatting, clippy with warnings as errors, the repository's own laws, and the dependencies'
//! licences and sources.
//!
//! Advisories are not checked here: their database cannot be fetched on the build machine (see `xtask/left-out.toml`).

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::package;
use crate::test::Counts;
use crate::{tidy, workspace};

/// Version of cargo-deny: the newest that this compiler builds.
const DENY_VERSION: &str = "0.20.2";

/// One part of the lint.
type Check = (&'static str, fn() -> Result<()>);

const CHECKS: &[Check] = &[
    ("fmt", fmt),
    ("tidy", tidy::run),
    ("clippy", clippy),
    ("deny", deny),
];

/// The verb.
pub(crate) fn run() -> Result<()> {
    let counts = checks();
    println!("{counts}");
    if counts.failed > 0 {
        bail!("lint failed");
    }
    Ok(())
}

/// Runs every check and counts; one that fails does not keep the next from running.
pub(crate) fn checks() -> Counts {
    let mut counts = Counts::default();
    for (name, check) in CHECKS {
        println!("-- {name}");
        let result = check();
        if let Err(error) = &result {
            println!("{name} failed: {error:#}");
        }
        counts += Counts::one(result.is_ok());
    }
    counts
}

fn fmt() -> Result<()> {
    let shell = workspace::shell()?;
    cmd!(shell, "cargo fmt --all --check")
        .run()
        .context("run `cargo fmt`")
}

fn clippy() -> Result<()> {
    let shell = workspace::shell()?;
    for which in [
        "--workspace --all-targets",
        "-p ffrtmp-tests --test guest --test systemd",
    ] {
        // Suites for guests alone are no part of what cargo tests by default.
        let which = which.split(' ');
        cmd!(shell, "cargo clippy {which...} --locked -- -D warnings")
            .run()
            .context("cargo clippy")?;
    }
    Ok(())
}

fn deny() -> Result<()> {
    // Unoptimised, it builds in one minute instead of four and still answers in a second.
    package::ensure_crate("cargo-deny", DENY_VERSION, &["--debug"], &[])?;
    let shell = workspace::shell()?;
    cmd!(
        shell,
        "cargo deny --locked --log-level warn --config .deny.toml check licenses bans sources"
    )
    .run()
    .context("cargo deny")
}
