//! Moving processes into a group, until all of a job's processes are in it.
//!
//! Every move starts from a pinned process and ends with the proof that it was still the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ffrtmp_abi::ProcessKey;
use procfs::ProcessCGroups;

use super::super::file::{self, IoError, chain};
use super::super::process::{Pinned, ProcessError, is_running, read_stat, same_start, tick_ns};
use super::super::procfs::{listed_of, read_cgroups};
use super::CgroupError;
use super::error::advice;
use super::group::{Group, GroupDir, Prepared, Tree};
use crate::core::origin::Attributes;
use crate::core::plan::{Version, not_enforced};

/// Rounds over the children before a job that forks faster than we move counts as not wholly placed.
const ROUNDS_MAX: usize = 32;
/// Moves of one child before we believe that somebody else moves it back.
const MOVES_MAX: u32 = 3;

/// What a placement did.
#[derive(Debug, Default)]
pub struct Moved {
    /// Every process that is in the group now by our doing, the first one first.
    pub pids: Vec<u32>,
    /// Directories that did not take the first process in, with the reason.
    pub refused: Vec<(PathBuf, String)>,
    /// What else went wrong.
    pub warnings: Vec<String>,
    /// How many looks at the children it took.
    pub rounds: usize,
}

/// Descriptors for a child that joins before its exec, opened beforehand because a forked child may not allocate.
#[derive(Debug)]
pub struct SpawnInto {
    /// The v2 directory, for `clone3` with `CLONE_INTO_CGROUP`.
    pub v2: Option<OwnedFd>,
    /// `cgroup.procs` of each v1 directory: the child writes `0` to join by itself.
    pub v1: Vec<File>,
}

impl Tree {
    /// Moves one process, through `doors` (the group's `cgroup.procs`, open) where there are any. Gives the directories that
    /// refused; an error only when all did, or the process is gone.
    pub fn join(
        &self,
        group: &Group,
        doors: &[File],
        process: &Pinned,
    ) -> Result<Vec<(PathBuf, String)>, CgroupError> {
        process.check()?;
        let pid = process.pid().to_string();
        let mut refused: Vec<(PathBuf, IoError)> = Vec::new();
        for (at, dir) in group.dirs.iter().enumerate() {
            let path = dir.path.join("cgroup.procs");
            let written = match doors.get(at) {
                Some(door) => file::write_to(door, &path, &pid),
                None => file::write(&path, &pid),
            };
            match written {
                Ok(()) => {}
                Err(error) if error.errno() == Some(libc::ESRCH) => {
                    return Err(ProcessError::Gone { pid: process.pid() }.into());
                }
                Err(error) => refused.push((dir.path.clone(), error)),
            }
        }
        if !process.is_alive() {
            return Err(self.after_death(group, process));
        }
        if refused.len() == group.dirs.len()
            && let Some((_, source)) = refused.pop()
        {
            return Err(CgroupError::Join {
                pid: process.pid(),
                source,
            });
        }
        Ok(refused
            .into_iter()
            .map(|(path, error)| (path, format!("{}{}", chain(&error), advice(&error))))
            .collect())
    }

    /// Moves the first process, then its descendants, until a whole look at them finds none outside.
    ///
    /// `doors` as for [`Self::join`]. `children` lists the job's other processes, from the kernel's map where there is one.
    /// A child born during a move is outside or inside depending on the instant; the next look decides.
    pub fn place(
        &self,
        group: &Group,
        doors: &[File],
        process: &Pinned,
        mut children: impl FnMut() -> Vec<ProcessKey>,
    ) -> Result<Moved, CgroupError> {
        let refused = self.join(group, doors, process)?;
        let joined: Vec<&GroupDir> = group
            .dirs
            .iter()
            .filter(|dir| refused.iter().all(|(path, _)| *path != dir.path))
            .collect();
        let mut moved = Moved {
            refused,
            pids: vec![process.pid()],
            ..Moved::default()
        };
        let mut settled = BTreeSet::from([process.key()]);
        let mut tries: BTreeMap<ProcessKey, u32> = BTreeMap::new();
        while moved.rounds < ROUNDS_MAX {
            moved.rounds += 1;
            let mut outside = false;
            for key in children() {
                if settled.contains(&key) {
                    continue;
                }
                let tried = tries.entry(key).or_default();
                *tried += 1;
                if self.settle(group, &joined, key, *tried, &mut moved) {
                    settled.insert(key);
                } else {
                    outside = true;
                }
            }
            if !outside {
                return Ok(moved);
            }
        }
        moved.warnings.push(format!(
            "after {ROUNDS_MAX} looks some children are still outside the group; they are not limited"
        ));
        Ok(moved)
    }

    /// True when this child needs no further look: it reports the group, it ended, or it cannot be brought in.
    /// False after a move, which the next look confirms.
    fn settle(
        &self,
        group: &Group,
        joined: &[&GroupDir],
        key: ProcessKey,
        tried: u32,
        moved: &mut Moved,
    ) -> bool {
        // One that ended, or whose pid is another's now, is none of ours.
        let Ok(child) = Pinned::open(key) else { return true };
        if self.is_in(joined.iter().copied(), &child) {
            return true;
        }
        match self.join(group, &[], &child) {
            Ok(_) if tried < MOVES_MAX => {
                if tried == 1 {
                    moved.pids.push(key.pid);
                }
                false
            }
            // The kernel leaves those where they are that are about to end.
            Ok(_) if !is_running(key.pid) => true,
            Ok(_) => {
                let pid = key.pid;
                moved.warnings.push(format!(
                    "process {pid} was moved {MOVES_MAX} times and is not in the group; somebody else moves it too"
                ));
                true
            }
            Err(error) if error.is_gone() => true,
            Err(error) => {
                moved.warnings.push(chain(&error));
                true
            }
        }
    }

    /// True when the live process is in the group, or below it, in every hierarchy the group has.
    pub fn contains(&self, group: &Group, process: &Pinned) -> bool {
        self.is_in(group.dirs.iter(), process)
    }

    /// True when the process is in none of the group's directories, nor below one.
    pub fn outside_all(&self, group: &Group, process: &Pinned) -> bool {
        self.outside(group, process).len() == group.dirs.len()
    }

    /// The group's directories that the process is neither in nor below; none for one that has ended. A group that the
    /// workload made inside its own is under the same limits.
    pub fn outside(&self, group: &Group, process: &Pinned) -> Vec<PathBuf> {
        let Ok(groups) = read_cgroups(process.pid()) else {
            return Vec::new();
        };
        let outside = group.dirs.iter().filter(|dir| !self.holds(dir, &groups));
        let paths = outside.map(|dir| dir.path.clone()).collect();
        if process.is_alive() { paths } else { Vec::new() }
    }

    fn is_in<'a>(&self, mut dirs: impl Iterator<Item = &'a GroupDir>, process: &Pinned) -> bool {
        let Ok(groups) = read_cgroups(process.pid()) else {
            return false;
        };
        process.is_alive() && dirs.all(|dir| self.holds(dir, &groups))
    }

    /// True when `groups` (a process's own list) name the directory or one below it.
    fn holds(&self, dir: &GroupDir, groups: &ProcessCGroups) -> bool {
        let hierarchy = &self.layout.hierarchies[dir.hierarchy];
        let listed = groups.0.iter().find(|one| one.hierarchy == hierarchy.number);
        match (listed, hierarchy.listed(&dir.path)) {
            (Some(listed), Some(ours)) => Path::new(&listed.pathname).starts_with(ours),
            _ => false,
        }
    }

    /// The process died during the move. If its pid passed on meanwhile and we moved a stranger, that one goes back to
    /// where its parent sits, which is where it was born.
    fn after_death(&self, group: &Group, process: &Pinned) -> CgroupError {
        let pid = process.pid();
        let gone = CgroupError::Process(ProcessError::Gone { pid });
        let Ok(stranger) = Pinned::of_pid(pid) else {
            return gone;
        };
        if same_start(process.key(), stranger.key().start / tick_ns()) || !self.contains(group, &stranger) {
            return gone;
        }
        let parent = read_stat(pid).and_then(|stat| Pinned::of_pid(stat.ppid.cast_unsigned()));
        let listed = parent.and_then(|parent| listed_of(&parent));
        match listed {
            Ok(listed) => {
                let origin = self.origin(&listed, Attributes::default());
                let undone = self.put_back(&stranger, group.dirs(), &origin);
                tracing::warn!(pid, ?undone, "a pid passed on in the middle of a move");
                CgroupError::Stranger { pid }
            }
            Err(error) => error.into(),
        }
    }

    /// Sends a signal to every process of the group, again for those that were born meanwhile.
    /// Gives how many were reached.
    pub fn signal_all(&self, group: &Group, signal: i32) -> Result<usize, CgroupError> {
        let mut reached = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let mut fresh = false;
            for pid in group.pids()? {
                let Ok(process) = Pinned::of_pid(pid) else {
                    continue;
                };
                // Membership is asked after pinning, so that no stranger with a reused pid is hit.
                if reached.contains(&process.key()) || !self.contains(group, &process) {
                    continue;
                }
                match process.signal(signal) {
                    Ok(()) => {
                        reached.insert(process.key());
                        fresh = true;
                    }
                    Err(error) if error.is_gone() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !fresh {
                break;
            }
        }
        Ok(reached.len())
    }

    /// Opens what a child needs to start inside the group.
    pub fn spawn_into(&self, group: &Group) -> Result<SpawnInto, CgroupError> {
        let mut into = SpawnInto {
            v2: None,
            v1: Vec::new(),
        };
        for dir in &group.dirs {
            let v2 = self.layout.hierarchies[dir.hierarchy].version == Version::V2;
            let path = if v2 {
                dir.path.clone()
            } else {
                dir.path.join("cgroup.procs")
            };
            let file = std::fs::OpenOptions::new()
                .read(v2)
                .write(!v2)
                .open(&path)
                .map_err(|error| CgroupError::Create(IoError::new("open", &path, error)))?;
            if v2 {
                into.v2 = Some(file.into());
            } else {
                into.v1.push(file);
            }
        }
        Ok(into)
    }
}

impl Group {
    /// `cgroup.procs` of each directory, open for writing: how somebody else puts a process in.
    pub fn open_procs(&self) -> Result<Vec<File>, IoError> {
        let open = |dir: &GroupDir| {
            let path = dir.path.join("cgroup.procs");
            let file = File::options().write(true).open(&path);
            file.map_err(|error| IoError::new("open", &path, error))
        };
        self.dirs.iter().map(open).collect()
    }
}

impl Prepared {
    /// Takes limits off the list whose directory did not take the process in, and says so.
    pub fn settle(&mut self, moved: &Moved) {
        for (path, why) in &moved.refused {
            let (lost, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.applied)
                .into_iter()
                .partition(|outcome| PathBuf::from(&outcome.target).starts_with(path));
            self.applied = kept;
            for outcome in lost {
                self.warnings.push(not_enforced(&outcome.limit, why));
            }
        }
        self.warnings.extend(moved.warnings.iter().cloned());
    }
}
