//! Where a process was before we touched it, and putting it back there.

use std::path::{Path, PathBuf};

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;
use procfs::ProcessCGroups;

use super::super::file::{self, chain};
use super::super::priority;
use super::super::process::Pinned;
use super::super::procfs::read_cgroups;
use super::group::{GroupDir, Tree};
use crate::core::origin::{Attributes, Origin};
use crate::core::plan::Version;

/// What a release did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undone {
    /// A line for each thing put back.
    pub undone: Vec<String>,
    /// A line for each thing that could not be.
    pub warnings: Vec<String>,
}

impl Tree {
    /// Notes where a process is in every hierarchy we may move it in; `listed` is its list of groups.
    pub fn origin(&self, listed: &ProcessCGroups, attributes: Attributes) -> Origin {
        let hierarchies = self.layout.hierarchies.iter().enumerate();
        let groups = hierarchies
            .filter_map(|(number, hierarchy)| {
                let group = listed.0.iter().find(|one| one.hierarchy == hierarchy.number)?;
                let ours = hierarchy
                    .dir_of(&group.pathname)
                    .is_some_and(|dir| dir.starts_with(self.slice_dir(number)));
                // Left in our tree by a governor whose records are lost: it goes beside the tree one day.
                let from = if ours {
                    hierarchy.listed(&hierarchy.base)?
                } else {
                    group.pathname.clone()
                };
                Some((hierarchy.name.clone(), from))
            })
            .collect();
        Origin { groups, attributes }
    }

    /// Our tree as /proc/PID/cgroup lists it: number of the hierarchy, group.
    pub fn listed_slices(&self) -> Vec<(u32, String)> {
        let hierarchies = self.layout.hierarchies.iter().enumerate();
        hierarchies
            .filter_map(|(at, hierarchy)| Some((hierarchy.number, hierarchy.listed(&self.slice_dir(at))?)))
            .collect()
    }

    /// Moves a process that the gate took in on suspicion out of our tree.
    pub fn undo(&self, process: &Pinned, origin: &Origin) -> Undone {
        self.put_back(process, &[], origin)
    }

    /// The v2 group of this list, when that is frozen. Leaving it would thaw the process.
    pub fn frozen(&self, listed: &ProcessCGroups) -> Option<PathBuf> {
        let hierarchies = &self.layout.hierarchies;
        let v2 = hierarchies.iter().find(|one| one.version == Version::V2)?;
        let group = listed.0.iter().find(|one| one.hierarchy == v2.number)?;
        let dir = v2.dir_of(&group.pathname)?;
        // The root has no such file and is never frozen.
        let events = file::read(&dir.join("cgroup.events")).ok()?;
        events.lines().any(|line| line == "frozen 1").then_some(dir)
    }

    /// An origin for processes that came from nobody knows where: the groups our tree stands in.
    pub fn beside(&self) -> Origin {
        let groups = self.layout.hierarchies.iter().filter_map(|hierarchy| {
            let listed = hierarchy.listed(&hierarchy.base)?;
            Some((hierarchy.name.clone(), listed))
        });
        Origin {
            groups: groups.collect(),
            attributes: Attributes::default(),
        }
    }

    /// Puts processes back to where their job's first process was. Those that ended are passed over; those that somebody
    /// else has moved out of our tree since are left where they are, and so are attributes that are no longer as `asked`.
    pub fn release(&self, processes: &[ProcessKey], origin: &Origin, asked: &Limits) -> Undone {
        self.release_from(processes, &[], origin, asked)
    }

    /// As [`Self::release`]; `from` is a group outside our tree that is ours all the same: a scope's, or one inside a
    /// unit.
    pub fn release_from(
        &self,
        processes: &[ProcessKey],
        from: &[GroupDir],
        origin: &Origin,
        asked: &Limits,
    ) -> Undone {
        let mut all = Undone::default();
        for &key in processes {
            let Ok(process) = Pinned::open(key) else { continue };
            let groups = self.put_back(&process, from, origin);
            let (undone, warnings) = priority::restore(&process, &origin.attributes, asked);
            all.undone.extend(groups.undone.into_iter().chain(undone));
            all.warnings.extend(groups.warnings.into_iter().chain(warnings));
        }
        all
    }

    /// Moves one process out of our tree in each hierarchy where it is in it.
    pub(super) fn put_back(&self, process: &Pinned, from: &[GroupDir], origin: &Origin) -> Undone {
        let mut done = Undone::default();
        let pid = process.pid();
        let Ok(now) = read_cgroups(pid) else { return done };
        for (number, hierarchy) in self.layout.hierarchies.iter().enumerate() {
            let listed = now.0.iter().find(|one| one.hierarchy == hierarchy.number);
            let Some(dir) = listed.and_then(|one| hierarchy.dir_of(&one.pathname)) else {
                continue;
            };
            let ours =
                dir.starts_with(self.slice_dir(number)) || from.iter().any(|one| dir.starts_with(&one.path));
            if !ours {
                continue;
            }
            let Some((_, before)) = origin.groups.iter().find(|(name, _)| *name == hierarchy.name) else {
                done.warnings.push(format!(
                    "process {pid} stays in {}: where it came from was not noted",
                    dir.display()
                ));
                continue;
            };
            let Some(target) = hierarchy.dir_of(before).and_then(|dir| nearest(&dir)) else {
                done.warnings.push(format!(
                    "process {pid} stays in {}: {before} is not visible here",
                    dir.display()
                ));
                continue;
            };
            if !process.is_alive() {
                return done;
            }
            match file::write(&target.join("cgroup.procs"), &pid.to_string()) {
                Ok(()) => done.undone.push(format!(
                    "process {pid}: {} group back to {before}",
                    hierarchy.name
                )),
                Err(error) if error.errno() == Some(libc::ESRCH) => return done,
                Err(error) => done.warnings.push(format!(
                    "process {pid} stays in {}: {}",
                    dir.display(),
                    chain(&error)
                )),
            }
            if hierarchy.dir_of(before).as_ref() != Some(&target) {
                done.warnings.push(format!(
                    "process {pid}: {before} is gone, so it went to {}",
                    target.display()
                ));
            }
        }
        done
    }
}

/// The directory, or the first one above it that still exists.
fn nearest(dir: &Path) -> Option<PathBuf> {
    dir.ancestors()
        .find(|dir| dir.join("cgroup.procs").exists())
        .map(PathBuf::from)
}
