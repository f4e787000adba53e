//! The peer that polls: what the tools before us do. It reads every /proc/PID/comm at an interval, prints the pids it
//! knows by name, each with the moment it saw it, and writes them into one group that was made beforehand.
//!
//! Arguments: the name, the interval in milliseconds, the group's directory. It runs until it is ended.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "what it prints is what it is asked for, and a peer that cannot run should die loudly"
)]

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, interval, group] = args.as_slice() else {
        println!("usage: ffrtmp-test-scan NAME INTERVAL_MS GROUP");
        return;
    };
    let interval = Duration::from_millis(interval.parse().expect("an interval in milliseconds"));
    let group = Path::new(group).join("cgroup.procs");
    let mut known = HashSet::new();
    loop {
        known = sweep(name, &group, &known);
        std::thread::sleep(interval);
    }
}

/// One look at every process; returns those of the name. One that has gone is forgotten, for its pid may come again.
fn sweep(name: &str, group: &Path, known: &HashSet<u32>) -> HashSet<u32> {
    let mut seen = HashSet::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|text| text.parse::<u32>().ok())
        else {
            continue;
        };
        // A process that ends between the listing and the read is one that a scan misses.
        let Ok(comm) = fs::read_to_string(entry.path().join("comm")) else {
            continue;
        };
        if comm.trim_end() == name {
            if !known.contains(&pid) {
                let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").into();
                // Whether it was in time is not for us to say.
                let _gone = fs::write(group, pid.to_string());
                println!("{pid} {}", now.as_nanos());
                std::io::stdout().flush().expect("standard output");
            }
            seen.insert(pid);
        }
    }
    seen
}
