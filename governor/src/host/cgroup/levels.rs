//! The groups above a job's: made when missing, v1 CPU sets seeded, v2 controllers passed down level by level.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::file::{self, IoError, chain};
use super::group::{GroupDir, Tree, read_pids};
use super::layout::{CgroupBase, has_delegate_mark};
use crate::core::plan::{Controller, Plan, Version};

/// Where the processes of a delegated group go that stand in the way; systemd's own name for it (`DelegateSubgroup=`).
const SUPERVISOR: &str = "supervisor";

impl Tree {
    pub(super) fn slice_dir(&self, hierarchy: usize) -> PathBuf {
        self.layout.hierarchies[hierarchy].base.join(&self.options.slice)
    }

    /// The class's directory, made with everything above it up to the base.
    pub(super) fn make_class(&self, hierarchy: usize, class: &str) -> Result<PathBuf, IoError> {
        let slice = self.slice_dir(hierarchy);
        let dir = slice.join(class);
        let fresh = match mkdir(&dir) {
            Ok(fresh) => fresh,
            // The first job of all, or the first since a clean-up.
            Err(error) if error.is_gone() => {
                self.make_slice(hierarchy)?;
                mkdir(&dir)?
            }
            Err(error) => return Err(error),
        };
        if fresh {
            for level in self.levels(hierarchy, class) {
                self.seed_cpuset(hierarchy, &level)?;
            }
        }
        Ok(dir)
    }

    /// The slice, made with everything above it up to the base.
    pub(super) fn make_slice(&self, hierarchy: usize) -> Result<PathBuf, IoError> {
        let base = &self.layout.hierarchies[hierarchy].base;
        if matches!(self.options.base, CgroupBase::Below(_)) {
            std::fs::create_dir_all(base).map_err(|error| IoError::new("mkdir", base, error))?;
        }
        let slice = self.slice_dir(hierarchy);
        mkdir(&slice)?;
        Ok(slice)
    }

    /// Groups from the highest one that is ours to change down to the class: what must pass controllers on.
    pub(super) fn levels(&self, hierarchy: usize, class: &str) -> Vec<PathBuf> {
        let found = &self.layout.hierarchies[hierarchy];
        let mut levels = Vec::new();
        if matches!(self.options.base, CgroupBase::Below(_)) {
            let above = found.base.ancestors().skip(1);
            levels.extend(
                above
                    .take_while(|dir| dir.starts_with(&found.mount))
                    .map(Path::to_owned),
            );
            levels.reverse();
        }
        levels.push(found.base.clone());
        levels.push(self.slice_dir(hierarchy));
        levels.push(self.slice_dir(hierarchy).join(class));
        levels
    }

    /// A v1 cpuset group takes no process until it has CPUs and memory nodes, and it is born with neither.
    pub(super) fn seed_cpuset(&self, hierarchy: usize, dir: &Path) -> Result<(), IoError> {
        let found = &self.layout.hierarchies[hierarchy];
        if found.version != Version::V1
            || !found.controllers.contains(&Controller::Cpuset)
            || dir == found.mount
        {
            return Ok(());
        }
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let own = dir.join(name);
            if !file::read(&own)?.trim().is_empty() {
                continue;
            }
            if let Some(parent) = dir.parent() {
                file::write(&own, file::read(&parent.join(name))?.trim())?;
            }
        }
        Ok(())
    }

    /// Passes the plan's v2 controllers down to the class. Gives those that could not be, with the reason.
    pub(super) fn enable_all(
        &self,
        plan: &Plan,
        class: &str,
        made: &[GroupDir],
    ) -> BTreeMap<(usize, Controller), String> {
        let mut absent = BTreeMap::new();
        for &(hierarchy, controller) in &plan.controllers {
            let v2 = self.layout.hierarchies[hierarchy].version == Version::V2;
            if !v2 || !made.iter().any(|dir| dir.hierarchy == hierarchy) {
                continue;
            }
            for level in self.levels(hierarchy, class) {
                if let Err(why) = enable_delegated(&level, controller, |_pid| true) {
                    absent.insert((hierarchy, controller), why);
                    break;
                }
            }
        }
        absent
    }
}

/// True when the directory is new, false when there was one.
pub(super) fn mkdir(path: &Path) -> Result<bool, IoError> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(IoError::new("mkdir", path, error)),
    }
}

/// As [`enable`]. A group that systemd handed over, and that holds processes itself, is cleared first: `may` says
/// which of them we may move, and all of them must be.
pub(super) fn enable_delegated(
    level: &Path,
    controller: Controller,
    may: impl Fn(u32) -> bool,
) -> Result<(), String> {
    match enable(level, controller) {
        Err(error) if error.errno() == Some(libc::EBUSY) && has_delegate_mark(level) => {
            clear(level, may)?;
            enable(level, controller)
        }
        done => done,
    }
    .map_err(|error| advised(&error))
}

/// Moves the processes of a delegated group into a child of it, because cgroup v2 gives limits to a group's children
/// only while the group itself is empty. They stay in the unit.
fn clear(level: &Path, may: impl Fn(u32) -> bool) -> Result<(), String> {
    let pids = read_pids(level).map_err(|error| chain(&error))?;
    if let Some(stranger) = pids.iter().find(|&&pid| !may(pid)) {
        return Err(format!(
            "{} holds process {stranger}, which is not ours to move",
            level.display()
        ));
    }
    let beside = level.join(SUPERVISOR);
    mkdir(&beside).map_err(|error| chain(&error))?;
    for pid in pids {
        match file::write(&beside.join("cgroup.procs"), &pid.to_string()) {
            Err(error) if error.errno() != Some(libc::ESRCH) => return Err(chain(&error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Passes one controller on to the groups below `level`.
pub(super) fn enable(level: &Path, controller: Controller) -> Result<(), IoError> {
    let path = level.join("cgroup.subtree_control");
    let name = controller.name(Version::V2);
    if file::read(&path)?.split_whitespace().any(|word| word == name) {
        return Ok(());
    }
    file::write(&path, &format!("+{name}"))
}

/// The error, with what to do about it.
pub(super) fn advised(error: &IoError) -> String {
    let advice = match error.errno() {
        Some(libc::EBUSY) => {
            "; that group holds processes itself, which cgroup v2 allows only without limits below it: \
                 set DelegateSubgroup=supervisor in the unit (systemd 254), or name another cgroup base"
        }
        Some(libc::ENOENT) if error.op == "write" => "; the group above does not pass this controller on",
        _ => "",
    };
    format!("{}{advice}", chain(error))
}
