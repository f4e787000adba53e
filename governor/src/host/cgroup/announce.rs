//! The kernel's own word that a job ran into a limit, instead of counters read on a timer.
//!
//! Owns the descriptor that the kernel signals. It decides nothing, and tells of no limit that the kernel does not announce:
//! those are read from the group's counters when the job ends ([`Tree::usage`]).
//!
//! | limit | cgroup v2 | cgroup v1 |
//! | --- | --- | --- |
//! | memory | `memory.events`, `POLLPRI` | an eventfd on `memory.oom_control`: at a kill; the limit itself is not announced |
//! | tasks | `pids.events`, `POLLPRI` | not announced (`pids.events` is there and never changes for poll; seen on 6.18) |
//! | CPU | not announced | not announced |

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use ffrtmp_api::{LimitBreach, Limits};
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::group::{Group, Tree};
use super::stats::{keyed, number, value_of};
use crate::core::plan::{Controller, Version};

/// A descriptor that reports when a limit is reached.
#[derive(Debug)]
pub struct Announcer {
    limit: &'static str,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A file of `KEY VALUE` lines, and the key of the kills among them.
    Events { file: File, kills: Option<&'static str> },
    /// Signalled at an out-of-memory event of this group's directory.
    Oom { signal: EventFd, dir: PathBuf },
}

impl Tree {
    /// What announces the limits that were asked for, as far as the job's group has them. The second figure counts those
    /// that could not be opened.
    pub fn announcers(&self, group: &Group, asked: &Limits) -> (Vec<Announcer>, u64) {
        let mut opened = Vec::new();
        let mut failed = 0;
        let mut take = |announcer: io::Result<Announcer>| match announcer {
            Ok(announcer) => opened.push(announcer),
            Err(error) => {
                tracing::debug!(%error, "a limit is not announced; its counters tell at the end");
                failed += 1;
            }
        };
        if asked.memory_max.is_some() {
            match self.dir_with(group, Controller::Memory) {
                Ok((dir, Version::V2)) => {
                    take(Announcer::events(
                        "memory_max",
                        &dir.join("memory.events"),
                        Some("oom_kill"),
                    ));
                }
                Ok((dir, Version::V1)) => take(Announcer::oom(dir)),
                Err(_no_group) => {}
            }
        }
        if asked.pids_max.is_some()
            && let Ok((dir, Version::V2)) = self.dir_with(group, Controller::Pids)
        {
            take(Announcer::events("pids_max", &dir.join("pids.events"), None));
        }
        (opened, failed)
    }
}

impl Announcer {
    fn events(limit: &'static str, path: &Path, kills: Option<&'static str>) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            limit,
            source: Source::Events { file, kills },
        })
    }

    /// The descriptor of `memory.oom_control` may be closed once the kernel has taken the order.
    fn oom(dir: &Path) -> io::Result<Self> {
        let signal = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let control = File::open(dir.join("memory.oom_control"))?;
        let order = format!("{} {}", signal.as_fd().as_raw_fd(), control.as_raw_fd());
        File::options()
            .write(true)
            .open(dir.join("cgroup.event_control"))?
            .write_all(order.as_bytes())?;
        let source = Source::Oom {
            signal,
            dir: dir.to_path_buf(),
        };
        Ok(Self {
            limit: "memory_max",
            source,
        })
    }

    /// What to wait for.
    pub fn interest(&self) -> EpollFlags {
        match &self.source {
            Source::Events { .. } => EpollFlags::EPOLLPRI,
            Source::Oom { .. } => EpollFlags::EPOLLIN,
        }
    }

    /// What the counters say now, or `None` while the limit was not reached. Reading also arms the next announcement.
    pub fn read(&mut self) -> io::Result<Option<LimitBreach>> {
        let (times, killed) = match &mut self.source {
            Source::Events { file, kills } => {
                let mut text = String::new();
                file.rewind()?;
                file.read_to_string(&mut text)?;
                let killed = kills.and_then(|key| value_of(&text, key));
                (value_of(&text, "max").unwrap_or(0), killed)
            }
            Source::Oom { signal, dir } => {
                // Nothing to read is no failure: then it was not signalled. The signal comes before the kill is counted,
                // and from a group above too, whose limit is not ours: our own failures tell them apart.
                let signalled = nix::unistd::read(&*signal, &mut [0; 8]).is_ok();
                let kills = keyed(&dir.join("memory.oom_control"), "oom_kill").map_err(io::Error::other)?;
                let failures = number(&dir.join("memory.failcnt"), "").map_err(io::Error::other)?;
                // Reclaim that helped is no word of the eventfd's.
                (if signalled || kills > 0 { failures } else { 0 }, Some(kills))
            }
        };
        let reached = times > 0 || killed.is_some_and(|killed| killed > 0);
        Ok(reached.then(|| LimitBreach {
            limit: self.limit.to_owned(),
            times,
            killed,
        }))
    }
}

impl AsFd for Announcer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Events { file, .. } => file.as_fd(),
            Source::Oom { signal, .. } => signal.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_breach_when_they_rise_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.events");
        for (text, breach) in [
            ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n", None),
            ("low 0\nhigh 3\nmax 2\noom 0\noom_kill 0\n", Some((2, Some(0)))),
            ("max 9\noom 1\noom_kill 1\n", Some((9, Some(1)))),
            ("nothing of the kind\n", None),
        ] {
            std::fs::write(&path, text).unwrap();
            let mut announcer = Announcer::events("memory_max", &path, Some("oom_kill")).unwrap();
            let read = announcer.read().unwrap();
            assert_eq!(read.map(|found| (found.times, found.killed)), breach, "{text}");
            // The same descriptor is read from its beginning each time.
            let again = announcer.read().unwrap();
            assert_eq!(again.map(|found| (found.times, found.killed)), breach, "{text}");
        }
    }

    #[test]
    fn a_signal_of_v1_counts_before_its_kill_is_counted_and_not_for_a_group_above() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
        );
        write("cgroup.event_control", "");
        for (signalled, failures, kills, breach) in [
            (false, 0, 0, None),
            (false, 7, 0, None),
            (true, 7, 0, Some((7, Some(0)))),
            (true, 0, 0, None),
            (false, 7, 1, Some((7, Some(1)))),
        ] {
            let mut announcer = Announcer::oom(dir.path()).unwrap();
            write("memory.failcnt", &format!("{failures}\n"));
            write("memory.oom_control", &format!("under_oom 1\noom_kill {kills}\n"));
            if signalled {
                nix::unistd::write(&announcer, &1_u64.to_ne_bytes()).unwrap();
            }
            let read = announcer.read().unwrap();
            let case = (signalled, failures, kills);
            assert_eq!(read.map(|found| (found.times, found.killed)), breach, "{case:?}");
        }
    }

    #[test]
    fn a_group_without_the_files_is_an_error_and_not_a_limit_that_holds() {
        assert!(Announcer::events("pids_max", Path::new("/nowhere/pids.events"), None).is_err());
        assert!(Announcer::oom(Path::new("/nowhere")).is_err());
    }
}
