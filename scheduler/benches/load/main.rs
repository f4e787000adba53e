//! The load that `cargo xtask bench scheduler` puts on a scheduler, and what it measured as JSON on stdout.
//!
//! It drives the real program over real sockets (plain and TLS) with `synchronous = FULL`, the store itself where a
//! figure is the store's, and in the same run a naive design for the ratio. It shares the machine with what it measures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot be made ends the run"
)]

mod client;
mod depth;
mod figure;
mod fleet;
mod naive;
mod server;
mod submit;

use std::path::PathBuf;

use clap::Parser;

use figure::Figure;

/// What is asked for.
#[derive(Parser)]
struct Args {
    /// The scheduler's program
    #[arg(long)]
    server: PathBuf,
    /// A directory on the disk that is measured
    #[arg(long)]
    directory: PathBuf,
    /// Less of everything: for a first look, not for the record
    #[arg(long)]
    quick: bool,
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Seconds of each flood.
    flood_sec: u64,
    /// Jobs of the deep queue.
    deep: u32,
    /// Nodes that wait at once.
    waiters: usize,
    /// Nodes of the fleet that beats and reconnects.
    fleet: usize,
    /// Seconds it beats.
    beats_sec: u64,
    /// Single dispatches.
    dispatches: usize,
}

const FULL: Size = Size {
    flood_sec: 5,
    deep: 1_000_000,
    waiters: 5_000,
    fleet: 2_000,
    // Three leases: a node that is taken for lost shows.
    beats_sec: 100,
    dispatches: 300,
};

const QUICK: Size = Size {
    flood_sec: 2,
    deep: 200_000,
    waiters: 500,
    fleet: 300,
    beats_sec: 35,
    dispatches: 100,
};

fn main() {
    let args = Args::parse();
    let size = if args.quick { QUICK } else { FULL };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut all: Vec<Figure> = vec![figure::fsync(&args.directory)];
    let naive = naive::measure(&args.directory, size);
    all.extend(naive.figures());
    runtime.block_on(async {
        for tls in [false, true] {
            eprintln!("== submissions, {}", server::scheme(tls));
            all.extend(submit::measure(&args, size, tls, &naive).await);
        }
        eprintln!("== a deep queue");
        all.extend(depth::measure(&args, size, &naive).await);
        eprintln!("== a fleet");
        all.extend(fleet::measure(&args, size, &naive).await);
    });
    println!("{}", serde_json::to_string(&all).unwrap());
}
