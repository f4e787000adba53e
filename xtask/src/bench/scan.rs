//! The peer: what the tools before us do. It reads every /proc/*/comm at an interval and writes the pids it knows by name
//! into one group, made beforehand.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::machine;

/// When each pid was seen, and whether it could be moved by then.
type Sightings = HashMap<u32, Sighting>;

/// One process that a scan met.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    /// When the write of its pid returned.
    pub(super) at: Instant,
    /// False when it was gone by then.
    pub(super) moved: bool,
}

/// A scan that runs until it is dropped.
pub(super) struct Scan {
    group: PathBuf,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Sightings>>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// Starts looking for processes of this name.
    pub(super) fn start(name: &str, interval: Duration) -> Result<Self> {
        let group = machine::cpu_hierarchy()?.join(format!("ffrtmp-bench-{}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("making the group {}", group.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let thread = std::thread::spawn({
            let (name, group) = (name.to_owned(), group.clone());
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    sweep(&name, &group, &seen);
                    std::thread::sleep(interval);
                }
            }
        });
        Ok(Self {
            group,
            stop,
            seen,
            thread: Some(thread),
        })
    }

    /// What was seen of a pid so far.
    pub(super) fn sighting(&self, pid: u32) -> Option<Sighting> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&pid).copied()
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A scan that panicked has seen what it has seen.
            drop(thread.join());
        }
        if let Err(error) = fs::remove_dir(&self.group) {
            println!("left behind: {}: {error}", self.group.display());
        }
    }
}

fn sweep(name: &str, group: &Path, seen: &Mutex<Sightings>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
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
        let known = || seen.lock().unwrap_or_else(PoisonError::into_inner);
        if comm.trim_end() == name && !known().contains_key(&pid) {
            let moved = fs::write(group.join("cgroup.procs"), pid.to_string()).is_ok();
            let at = Instant::now();
            known().insert(pid, Sighting { at, moved });
        }
    }
}
