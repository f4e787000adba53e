//! The end of groups: removing one job's, finding those a dead governor left, removing empty classes.
//!
//! Only `rmdir` is used, and the kernel refuses it for a group that holds a process, so nothing here can harm a workload.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::super::file::IoError;
use super::CgroupError;
use super::group::{Group, GroupDir, Tree, read_pids};

/// A group stays busy for a moment after its last process was reaped; together this waits 5 ms at most.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_micros(500);

/// What became of a group's directories.
#[derive(Debug, Default)]
pub struct Retired {
    /// Removed, or gone already.
    pub removed: Vec<PathBuf>,
    /// Still there, with the reason.
    pub left: Vec<IoError>,
}

/// A group below our tree, found rather than made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Class.
    pub class: String,
    /// Name below the class.
    pub name: String,
    /// The group.
    pub group: Group,
    /// Processes in it, groups below it included, ascending.
    pub pids: Vec<u32>,
}

impl Tree {
    /// Removes a job's directories, with empty groups the workload made inside them. A populated one stays and is reported.
    pub fn retire(&self, group: &Group) -> Retired {
        let mut done = Retired::default();
        for dir in &group.dirs {
            match remove(&dir.path) {
                Ok(()) => done.removed.push(dir.path.clone()),
                Err(error) => done.left.push(error),
            }
        }
        done
    }

    /// The group a record names by its paths. `None` unless every path is a job's directory below our tree, so that no
    /// record, however old, can make us touch anything else.
    pub fn reopen(&self, paths: &[String]) -> Option<Group> {
        let mut dirs = Vec::new();
        for path in paths.iter().map(Path::new) {
            let hierarchy = (0..self.layout.hierarchies.len()).find(|&one| {
                let below = path.strip_prefix(self.slice_dir(one)).map(Path::components);
                below.is_ok_and(|mut parts| {
                    let normal = |part: Component| matches!(part, Component::Normal(_));
                    parts.clone().count() == 2 && parts.all(normal)
                })
            })?;
            dirs.push(GroupDir {
                hierarchy,
                path: path.to_owned(),
            });
        }
        let id = self.v2_id(&dirs);
        (!dirs.is_empty()).then_some(Group { dirs, id })
    }

    /// Every job group below our tree, whoever made it.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, CgroupError> {
        let mut found: BTreeMap<(String, String), (Vec<GroupDir>, Vec<u32>)> = BTreeMap::new();
        for hierarchy in 0..self.layout.hierarchies.len() {
            for class in subdirs(&self.slice_dir(hierarchy))? {
                for path in subdirs(&class)? {
                    let entry = found.entry((last(&class), last(&path))).or_default();
                    entry.1.extend(pids_below(&path)?);
                    entry.0.push(GroupDir { hierarchy, path });
                }
            }
        }
        Ok(found
            .into_iter()
            .map(|((class, name), (dirs, mut pids))| {
                pids.sort_unstable();
                pids.dedup();
                let id = self.v2_id(&dirs);
                Leftover {
                    class,
                    name,
                    group: Group { dirs, id },
                    pids,
                }
            })
            .collect())
    }

    /// True when a process sits in the group or below it, or when that cannot be seen.
    pub fn in_use(&self, group: &Group) -> bool {
        let empty = |dir: &GroupDir| pids_below(&dir.path).is_ok_and(|pids| pids.is_empty());
        !group.dirs.iter().all(empty)
    }

    /// Removes empty job groups of a dead governor. Gives the groups that still hold processes, and what could not go.
    pub fn adopt_leftovers(&self) -> Result<(Vec<Leftover>, Vec<IoError>), CgroupError> {
        let (live, empty): (Vec<_>, Vec<_>) = self
            .leftovers()?
            .into_iter()
            .partition(|one| !one.pids.is_empty());
        let left = empty
            .iter()
            .flat_map(|one| self.retire(&one.group).left)
            .collect();
        Ok((live, left))
    }

    /// Removes class directories and the slice where they are empty. Groups that hold jobs stay, without complaint.
    ///
    /// Controllers passed on by the base stay passed on: others may rely on them by now.
    pub fn cleanup(&self) -> Retired {
        let mut done = Retired::default();
        for hierarchy in 0..self.layout.hierarchies.len() {
            let slice = self.slice_dir(hierarchy);
            let classes = subdirs(&slice).unwrap_or_default();
            for dir in classes.into_iter().chain([slice]) {
                match std::fs::remove_dir(&dir) {
                    Ok(()) => done.removed.push(dir),
                    Err(error) if busy(&error) || error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => done.left.push(IoError::new("rmdir", &dir, error)),
                }
            }
        }
        done
    }
}

fn busy(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}

/// Removes a group and the groups below it, deepest first, unless one of them holds a process.
fn remove(dir: &Path) -> Result<(), IoError> {
    for attempt in 1.. {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            Err(error) if busy(&error) && attempt < TRIES => {
                let populated = pids_below(dir).is_ok_and(|pids| !pids.is_empty());
                if !populated {
                    for below in subdirs(dir).unwrap_or_default() {
                        remove(&below)?;
                    }
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(IoError::new("rmdir", dir, error)),
        }
    }
    Ok(())
}

fn pids_below(dir: &Path) -> Result<Vec<u32>, CgroupError> {
    let mut pids = match read_pids(dir) {
        Ok(pids) => pids,
        // It was removed a moment ago.
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        Err(error) => return Err(CgroupError::Read(error)),
    };
    for below in subdirs(dir)? {
        pids.extend(pids_below(&below)?);
    }
    Ok(pids)
}

pub(super) fn subdirs(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CgroupError::Read(IoError::new("list", dir, error))),
    };
    let mut dirs: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    dirs.sort();
    Ok(dirs)
}

fn last(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
