//! Fast placement: a lone move between groups without the wait for an RCU grace period.
//!
//! Since Linux 6.0 whoever writes `cgroup.procs` after a quiet spell waits milliseconds for the lock over all groups,
//! unless some hierarchy is mounted with `favordynmods`; the lock is one for all. So a hierarchy of our own, without
//! controllers, speeds up every other one and leaves the host's mounts alone. The effect is host-wide (forks and exits
//! take the lock's slow side), hence the switch; it ends with our mount, on Linux 6.18 and later with the boot.
//! Figures: `docs/decisions/0011-fast-placement.md`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::file::{self, chain};
use super::procfs::read_cgroups;

/// A lone move below this did not wait for a grace period, which takes at least a tick (1 to 10 ms).
const FAST: Duration = Duration::from_millis(1);
/// Between two moves of the probe: after this the lock has gone cold (measured: 50 ms apart cost as much as 300 ms).
const QUIET: Duration = Duration::from_millis(60);
/// Moves of the probe; the middle one counts, because somebody else's move may warm the lock for one of ours.
const PROBES: usize = 5;
/// Name of the hierarchy.
const OPTIONS: &str = "none,name=ffrtmp,favordynmods";

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Moves are fast without us.
    Already {
        /// A lone move.
        lone: Duration,
    },
    /// Our hierarchy makes them so.
    Mounted {
        /// A lone move before.
        before: Duration,
        /// A lone move since.
        after: Duration,
    },
    /// They stay slow.
    Impossible(String),
}

impl Outcome {
    /// True when lone moves are fast.
    pub fn is_fast(&self) -> bool {
        match self {
            Self::Already { .. } => true,
            Self::Mounted { after, .. } => *after < FAST,
            Self::Impossible(_) => false,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Already { lone } => {
                write!(f, "a lone move takes {} µs without our doing", lone.as_micros())
            }
            Self::Mounted { before, after } => write!(
                f,
                "a hierarchy of our own with favordynmods; a lone move takes {} µs, {} µs without it",
                after.as_micros(),
                before.as_micros()
            ),
            Self::Impossible(why) => write!(f, "{why}; a lone placement waits some milliseconds longer"),
        }
    }
}

/// Where the hierarchy of a governor with this socket is mounted.
pub fn mount_beside(socket: &Path) -> PathBuf {
    socket.with_extension("fast")
}

/// The ladder, climbed once on a thread of its own; unmounts when it is dropped.
#[derive(Debug)]
pub struct FastPlacement {
    dir: PathBuf,
    outcome: Arc<OnceLock<Outcome>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FastPlacement {
    /// Begins; `outcome` is filled some hundred milliseconds later.
    pub fn start(dir: PathBuf, outcome: Arc<OnceLock<Outcome>>) -> std::io::Result<Self> {
        let (to, place) = (Arc::clone(&outcome), dir.clone());
        let thread = std::thread::Builder::new()
            .name("fast".to_owned())
            .spawn(move || {
                let found = climb(&place);
                if found.is_fast() {
                    tracing::info!("fast placement: {found}");
                } else {
                    tracing::warn!("no fast placement: {found}");
                }
                // Nobody else fills it.
                let _first = to.set(found);
            })?;
        Ok(Self {
            dir,
            outcome,
            thread: Some(thread),
        })
    }
}

impl Drop for FastPlacement {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It ends by itself in less than a second, and reports by the outcome alone.
            let _ended = thread.join();
        }
        if matches!(self.outcome.get(), Some(Outcome::Mounted { .. }))
            && let Err(error) = end(&self.dir)
        {
            tracing::warn!("{error}; `ffrtmp-governor --cleanup` tries again");
        }
    }
}

/// Removes the hierarchy, if it is there.
pub fn end(dir: &Path) -> Result<(), String> {
    if !dir.exists() {
        return Ok(());
    }
    match umount2(dir, MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: the directory is there, and nothing is mounted on it.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(error) => return Err(format!("unmount {}: {}", dir.display(), error.desc())),
    }
    std::fs::remove_dir(dir).map_err(|error| format!("remove {}: {error}", dir.display()))
}

fn climb(dir: &Path) -> Outcome {
    // One that a killed governor left would make moves fast "without our doing", and nobody would end it.
    if let Err(why) = end(dir) {
        return Outcome::Impossible(why);
    }
    let before = match lone_move() {
        Ok(before) => before,
        Err(why) => return Outcome::Impossible(why),
    };
    if before < FAST {
        return Outcome::Already { lone: before };
    }
    if let Err(why) = establish(dir) {
        return Outcome::Impossible(why);
    }
    match lone_move() {
        Ok(after) => Outcome::Mounted { before, after },
        Err(why) => Outcome::Impossible(why),
    }
}

/// Mounts the hierarchy.
fn establish(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), dir, Some("cgroup"), flags, Some(OPTIONS)).map_err(|error| {
        // Nothing is mounted on it.
        let _stays = std::fs::remove_dir(dir);
        let advice = match error {
            nix::errno::Errno::EPERM | nix::errno::Errno::EACCES => {
                "; grant CAP_SYS_ADMIN and mount(2): deploy/systemd/fast-placement.conf"
            }
            nix::errno::Errno::EINVAL | nix::errno::Errno::ENODEV => {
                "; this kernel takes no named hierarchy (cgroup_no_v1=named, or built without v1)"
            }
            _ => "",
        };
        format!(
            "mount a cgroup hierarchy on {}: {}{advice}",
            dir.display(),
            error.desc()
        )
    })
}

/// How long a move takes when nobody has moved anything for a while: this process into the group it is in, which
/// changes nothing and takes the lock all the same.
fn lone_move() -> Result<Duration, String> {
    let group = own_group()?;
    let me = std::process::id().to_string();
    let mut taken = Vec::new();
    for _ in 0..PROBES {
        std::thread::sleep(QUIET);
        let began = Instant::now();
        file::write(&group, &me).map_err(|error| chain(&error))?;
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    Ok(taken[PROBES / 2])
}

/// `cgroup.procs` of the group we are in, in any hierarchy that shows it.
fn own_group() -> Result<PathBuf, String> {
    let groups = read_cgroups(std::process::id()).map_err(|error| chain(&error))?;
    let mounts = procfs::process::Process::myself().and_then(|me| me.mountinfo());
    let mounts = mounts.map_err(|error| format!("read the mounts: {error}"))?;
    let of = |group: &procfs::ProcessCGroup| {
        let mount = mounts.0.iter().find(|mount| match group.hierarchy {
            0 => mount.fs_type == "cgroup2",
            _ => {
                mount.fs_type == "cgroup"
                    && group
                        .controllers
                        .iter()
                        .all(|one| mount.super_options.contains_key(one))
            }
        })?;
        let below = Path::new(&group.pathname).strip_prefix(&mount.root).ok()?;
        let procs = mount.mount_point.join(below).join("cgroup.procs");
        procs.is_file().then_some(procs)
    };
    let found = groups.0.iter().find_map(of);
    found.ok_or_else(|| "no hierarchy shows the group we are in".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_what_a_lone_move_takes() {
        let us = Duration::from_micros;
        let mounted = Outcome::Mounted {
            before: us(7_800),
            after: us(80),
        };
        assert!(mounted.is_fast() && Outcome::Already { lone: us(40) }.is_fast());
        assert!(!Outcome::Impossible("mount: no".to_owned()).is_fast());
        let slow = Outcome::Mounted {
            before: us(7_800),
            after: us(7_000),
        };
        assert!(!slow.is_fast());
        assert!(
            mounted.to_string().ends_with("takes 80 µs, 7800 µs without it"),
            "{mounted}"
        );
    }

    #[test]
    fn the_end_of_what_never_was_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        end(&dir.path().join("absent")).unwrap();
    }
}
