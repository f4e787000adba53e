//! Where the benchmark plays: a mount namespace of its own, so that nothing it mounts is seen by the host and all of it
//! is gone with the last process; and the machine's mode, which decides what a lone move between groups costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::super::machine;

/// Where the kernel keeps its tracepoints.
const TRACING: &str = "/sys/kernel/tracing";

/// Between two moves of a probe; after this the lock over all groups has gone cold.
const QUIET: Duration = Duration::from_millis(60);

/// Moves of a probe; the middle one counts.
const PROBES: usize = 7;

/// A lone move below this did not wait for a grace period of the kernel's.
const FAST: Duration = Duration::from_millis(1);

/// Enters a mount namespace of our own and mounts the tracepoints in it. To be called before any thread is started.
pub(super) fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making the mounts of our namespace private")?;
    if !Path::new(TRACING).join("events").exists() {
        mount(Some("tracefs"), TRACING, Some("tracefs"), MsFlags::empty(), none)
            .with_context(|| format!("mounting tracefs at {TRACING}"))?;
    }
    Ok(())
}

/// What a lone move between groups takes: ourselves into the group we are in, which takes the same lock.
pub(super) fn lone_move() -> Result<Duration> {
    let path = own_group()?.join("cgroup.procs");
    let mut took = Vec::new();
    for _ in 0..PROBES {
        std::thread::sleep(QUIET);
        let began = Instant::now();
        fs::write(&path, "0").with_context(|| format!("writing 0 to {}", path.display()))?;
        took.push(began.elapsed());
    }
    took.sort();
    took.get(PROBES / 2).copied().context("no probe was made")
}

/// Whether a lone move of this length waited for nothing.
pub(super) fn is_fast(lone: Duration) -> bool {
    lone < FAST
}

/// The number by which the kernel's tracepoints call the hierarchy that holds CPU limits; version 2's is 0.
pub(super) fn cpu_hierarchy_number() -> Result<u32> {
    let text = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    Ok(hierarchy_number(&text).unwrap_or(0))
}

/// The number of version 1's cpu hierarchy.
fn hierarchy_number(cgroup: &str) -> Option<u32> {
    let line = cgroup.lines().find(|line| {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        controllers.split(',').any(|word| word == "cpu")
    })?;
    line.split(':').next()?.parse().ok()
}

/// Our own group in the hierarchy that holds CPU limits.
fn own_group() -> Result<PathBuf> {
    let hierarchy = machine::cpu_hierarchy()?;
    let text = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let group = cpu_group(&text).context("this process is in no group")?;
    Ok(hierarchy.join(group.trim_start_matches('/')))
}

/// The path in version 1's cpu hierarchy, else in version 2's.
fn cpu_group(cgroup: &str) -> Option<&str> {
    let line = |wanted: &dyn Fn(&str) -> bool| {
        cgroup.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            wanted(controllers).then_some(path)
        })
    };
    line(&|controllers| controllers.split(',').any(|word| word == "cpu")).or_else(|| line(&str::is_empty))
}

/// A hierarchy without controllers that makes lone moves cheap as long as it lives.
pub(super) struct Fast(tempfile::TempDir);

impl Fast {
    /// Mounts it in our namespace. The lock it acts on is the whole machine's.
    pub(super) fn on() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("ffrtmp-bench-fast-")
            .tempdir()
            .context("making a directory")?;
        mount(
            Some("none"),
            directory.path(),
            Some("cgroup"),
            MsFlags::empty(),
            Some("none,name=ffrtmp-bench,favordynmods"),
        )
        .context("mounting a hierarchy with favordynmods")?;
        Ok(Self(directory))
    }
}

impl Drop for Fast {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::UMOUNT_NOFOLLOW) {
            println!("left behind: {} is mounted: {error}", self.0.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_hierarchys_number_is_that_of_its_line() {
        assert_eq!(hierarchy_number("3:cpuset:/\n2:cpu,cpuacct:/a\n0::/c\n"), Some(2));
        assert_eq!(hierarchy_number("3:cpuset:/\n0::/c\n"), None);
    }

    #[test]
    fn the_cpu_hierarchys_path_goes_before_version_2s() {
        assert_eq!(
            cpu_group("2:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n"),
            Some("/a")
        );
        assert_eq!(cpu_group("1:name=systemd:/b\n0::/c\n"), Some("/c"));
        assert_eq!(cpu_group("2:cpuset:/a\n"), None);
    }
}
