//! A seeded simulation: the engine on a real SQLite file, under a virtual clock, with model nodes and a bad network.
//!
//! `FFRTMP_SIM_SEED=17 cargo test -p ffrtmp-scheduler --test simulator` replays one seed and prints each step;
//! `FFRTMP_TEST_LONG=1` runs 10,000 seeds instead of 1,000, and `FFRTMP_SIM_SEEDS=300` as many as it says.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a replayed seed tells its story"
)]

mod invariant;
mod model;
mod random;
mod tally;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Seeds of an ordinary run, as CI does it, and of a long one. A seed takes about 75 ms of CPU.
const SEEDS: (u64, u64) = (1_000, 10_000);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; the text of the broken invariant when one broke.
fn run(seed: u64, loud: bool) -> Result<tally::Tally, String> {
    let mut world = World::new(seed, loud);
    world.run().map(|()| world.tally())
}

#[test]
fn every_invariant_holds_through_every_seeded_history() {
    if let Some(seed) = number("FFRTMP_SIM_SEED") {
        let tally = run(seed, true).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        println!("seed {seed}: {tally:?}");
        return;
    }
    let long = std::env::var_os("FFRTMP_TEST_LONG").is_some();
    let seeds = number("FFRTMP_SIM_SEEDS").unwrap_or(if long { SEEDS.1 } else { SEEDS.0 });
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut tally = tally::Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seeds <= seed {
                return tally;
            }
            match run(seed, false) {
                Ok(one) => tally.add(&one),
                Err(broken) => panic!("seed {seed}: {broken}\nreplay: FFRTMP_SIM_SEED={seed}"),
            }
        }
    };
    let tally = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut sum = tally::Tally::default();
        for thread in running {
            match thread.join() {
                Ok(tally) => sum.add(&tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        sum
    });
    println!("{seeds} seeds: {tally:?}");
    // A simulation in which nothing bad happens shows nothing.
    if 100 <= seeds {
        tally.assert_eventful();
    }
}

#[test]
fn a_seed_replays_to_the_same_history() {
    assert_eq!(run(7, false), run(7, false));
}
