//! The repository's own commands, one file a verb. It owns how this tree is built, checked, tested and shown.
//!
//! It depends on none of our crates, so that it still runs when they do not compile, and it is never installed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool: what it does is what it prints"
)]

mod bench;
mod demo;
mod ebpf;
mod left_out;
mod lint;
mod package;
mod session;
mod test;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The repository's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the governor and real encodes beside it, and show what it saw
    Demo(demo::Args),
    /// Install what is missing and run every suite
    Test(test::Args),
    /// Measure what docs/promises.md promises, side by side with peers
    Bench(bench::Args),
    /// fmt, clippy, tidy and cargo-deny
    Lint,
    /// Check the laws of this repository that no compiler knows
    Tidy,
    /// Build the kernel programs, or check that the committed object is what their source gives
    Ebpf(ebpf::Args),
    /// Run the kernel suites on Debian's kernels in QEMU
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Lint => lint::run(),
        Verb::Tidy => tidy::run(),
        Verb::Ebpf(args) => ebpf::run(&args),
        Verb::Vm(args) => vm::run_verb(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
