//! Making a job's group: directories, controllers, limits, each limit read back.
//!
//! A hierarchy that fails costs the limits it would have carried, each named in a warning; only when no hierarchy at all
//! lets us make a group is that an error.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ffrtmp_api::{LimitOutcome, Limits};

use super::super::file::{self, IoError, chain};
use super::ceiling::quota_below;
use super::layout::{Hierarchy, Layout, Sources, TreeOptions};
use super::levels::mkdir;
use super::{CgroupError, NameProblem};
use crate::core::plan::{Offer, Version, Write, not_enforced, plan};
use crate::core::readback::{holding, parse_cpus};

/// How many suffixes are tried before a name counts as taken.
const NAMES_MAX: u32 = 1_000;
/// `NAME_MAX` (255) less room for the suffix.
const NAME_LEN_MAX: usize = 240;

/// How often a group is made anew when the class above it goes away meanwhile.
const TRIES_MAX: u32 = 5;

/// Our tree on this machine. Shared freely: it holds no state but what was found at its opening.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(super) layout: Layout,
    pub(super) options: TreeOptions,
    pub(super) offers: Vec<Offer>,
    /// Hierarchies every job joins, because a ceiling above the jobs counts only those below it.
    pub(super) always: Vec<usize>,
}

/// A job's group: one directory in each hierarchy it joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub(super) dirs: Vec<GroupDir>,
    pub(super) id: Option<u64>,
}

/// One directory of a [`Group`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDir {
    /// Position of its hierarchy in the [`Layout`].
    pub hierarchy: usize,
    /// Absolute path.
    pub path: PathBuf,
}

/// What went wrong while a group was made, by hierarchy.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    off: BTreeMap<usize, String>,
    failed: Option<IoError>,
    /// A directory above went away meanwhile.
    vanished: bool,
}

impl Trouble {
    fn note(&mut self, hierarchy: usize, error: IoError) {
        self.vanished |= error.is_gone();
        self.off.insert(hierarchy, chain(&error));
        self.failed.get_or_insert(error);
    }
}

/// A group that is ready to be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The group.
    pub group: Group,
    /// Its name below the class; may carry a suffix.
    pub name: String,
    /// Limits the kernel shows as asked.
    pub applied: Vec<LimitOutcome>,
    /// Limits it does not, with the reason.
    pub warnings: Vec<String>,
}

impl Group {
    /// Absolute paths, v2 first.
    pub fn paths(&self) -> Vec<String> {
        self.dirs
            .iter()
            .map(|dir| dir.path.display().to_string())
            .collect()
    }

    /// One directory for each hierarchy.
    pub fn dirs(&self) -> &[GroupDir] {
        &self.dirs
    }

    /// Id of the v2 group, as the kernel's programs see it: the directory's inode number.
    pub fn id(&self) -> Option<u64> {
        self.id
    }

    /// Every process in any of the group's directories, ascending; those in groups below are not among them.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        for dir in &self.dirs {
            pids.extend(read_pids(&dir.path).map_err(CgroupError::Read)?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}

/// `cgroup.procs` of one directory. A pid that lies outside our pid namespace shows as 0 and is left out. A threaded
/// group lists threads only; theirs tell as well whether it is in use.
pub(super) fn read_pids(dir: &Path) -> Result<Vec<u32>, IoError> {
    let text = match file::read(&dir.join("cgroup.procs")) {
        Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => file::read(&dir.join("cgroup.threads"))?,
        other => other?,
    };
    Ok(text
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|&pid| pid != 0)
        .collect())
}

impl Tree {
    /// Looks at this machine. Makes nothing yet.
    pub fn open(options: TreeOptions) -> Result<Self, CgroupError> {
        Self::open_at(&Sources::host(), options)
    }

    /// Looks at the machine these sources describe.
    pub fn open_at(sources: &Sources, options: TreeOptions) -> Result<Self, CgroupError> {
        check_name(&options.slice)?;
        let layout = Layout::detect(sources, &options)?;
        let offers = layout.offers();
        Ok(Self {
            layout,
            options,
            offers,
            always: Vec::new(),
        })
    }

    /// What was found.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether v2 is mounted. Where it is not, groups of hierarchies without controllers may be all that tells services apart.
    pub fn has_v2(&self) -> bool {
        self.layout
            .hierarchies
            .iter()
            .any(|hierarchy| hierarchy.number == 0)
    }

    /// Where limits are written, a line for each hierarchy.
    pub fn describe(&self) -> Vec<String> {
        self.layout.hierarchies.iter().map(Hierarchy::describe).collect()
    }

    /// Makes a group `<base>/<slice>/<class>/<name>` in every hierarchy the limits need, writes them and reads them back.
    /// A name that is taken gets a suffix: `-2`, `-3` and so on.
    pub fn prepare(&self, class: &str, name: &str, limits: &Limits) -> Result<Prepared, CgroupError> {
        check_name(class)?;
        check_name(name)?;
        let mut plan = plan(limits, &self.offers, self.layout.sharing);
        plan.joins.extend(&self.always);
        plan.joins.sort_unstable();
        plan.joins.dedup();
        let mut tries = 0;
        let (group, name, absent, off) = loop {
            tries += 1;
            let mut trouble = Trouble::default();
            let mut parents = Vec::new();
            for &hierarchy in &plan.joins {
                match self.make_class(hierarchy, class) {
                    Ok(path) => parents.push(GroupDir { hierarchy, path }),
                    Err(error) => trouble.note(hierarchy, error),
                }
            }
            let absent = self.enable_all(&plan, class, &parents);
            let made = self.make_unique(&parents, name, &mut trouble);
            // Another engine that ended took the empty class away between its making and its use.
            if trouble.vanished && tries < TRIES_MAX {
                if let Ok((group, _)) = &made {
                    take_back(&group.dirs);
                }
                continue;
            }
            let (group, name) = made?;
            break (group, name, absent, trouble.off);
        };
        let mut prepared = Prepared {
            group,
            name,
            applied: Vec::new(),
            warnings: plan.warnings,
        };
        for write in &plan.writes {
            let why = off
                .get(&write.hierarchy)
                .or_else(|| absent.get(&(write.hierarchy, write.controller)));
            match why {
                Some(why) => prepared.warn(not_enforced(write.limit, why)),
                None => prepared.write(write),
            }
        }
        for (limit, caveat) in plan.caveats {
            if prepared.applied.iter().any(|outcome| outcome.limit == limit) {
                prepared.warn(caveat.to_owned());
            }
        }
        Ok(prepared)
    }

    /// Makes the group under the first name that is free in every hierarchy.
    pub(super) fn make_unique(
        &self,
        parents: &[GroupDir],
        name: &str,
        trouble: &mut Trouble,
    ) -> Result<(Group, String), CgroupError> {
        for number in 1..=NAMES_MAX {
            let tried = if number == 1 {
                name.to_owned()
            } else {
                format!("{name}-{number}")
            };
            let Some(dirs) = self.make_dirs(parents, &tried, trouble) else {
                continue;
            };
            if dirs.is_empty()
                && let Some(error) = trouble.failed.take()
            {
                return Err(CgroupError::Create(error));
            }
            let id = self.v2_id(&dirs);
            return Ok((Group { dirs, id }, tried));
        }
        Err(CgroupError::Taken {
            tried: NAMES_MAX,
            path: parents.first().map(|dir| dir.path.clone()).unwrap_or_default(),
        })
    }

    /// The directories of one name, or `None`, and none made, when it is taken somewhere.
    fn make_dirs(&self, parents: &[GroupDir], name: &str, trouble: &mut Trouble) -> Option<Vec<GroupDir>> {
        let mut dirs: Vec<GroupDir> = Vec::new();
        for parent in parents {
            let hierarchy = parent.hierarchy;
            if trouble.off.contains_key(&hierarchy) {
                continue;
            }
            let path = parent.path.join(name);
            let made = mkdir(&path).and_then(|fresh| {
                if fresh {
                    dirs.push(GroupDir {
                        hierarchy,
                        path: path.clone(),
                    });
                    self.seed_cpuset(hierarchy, &path)?;
                }
                Ok(fresh)
            });
            match made {
                Ok(true) => {}
                Ok(false) => {
                    take_back(&dirs);
                    return None;
                }
                Err(error) => {
                    let (spoilt, kept): (Vec<_>, Vec<_>) =
                        dirs.into_iter().partition(|dir| dir.hierarchy == hierarchy);
                    take_back(&spoilt);
                    dirs = kept;
                    trouble.note(hierarchy, error);
                }
            }
        }
        Some(dirs)
    }

    pub(super) fn v2_id(&self, dirs: &[GroupDir]) -> Option<u64> {
        let v2 = |dir: &&GroupDir| self.layout.hierarchies[dir.hierarchy].version == Version::V2;
        let dir = dirs.iter().find(v2)?;
        Some(std::fs::metadata(&dir.path).ok()?.ino())
    }
}

impl Prepared {
    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn write(&mut self, write: &Write) {
        let Some(dir) = self
            .group
            .dirs
            .iter()
            .find(|dir| dir.hierarchy == write.hierarchy)
        else {
            return;
        };
        let path = dir.path.join(write.file);
        let mut written = file::write(&path, &write.value);
        let mut value = write.value.clone();
        // v1 refuses a quota above that of a group above; what fits is better than none.
        if written.is_err()
            && write.file == "cpu.cfs_quota_us"
            && let Some(cut) = write
                .value
                .parse()
                .ok()
                .and_then(|asked| quota_below(&dir.path, asked))
        {
            value = cut.to_string();
            written = file::write(&path, &value);
            self.warnings.push(format!(
                "{} of {} is cut to {value} by a ceiling above it, the node's reserve or a lowered class",
                write.limit, write.value
            ));
        }
        match written.and_then(|()| file::read(&path)) {
            Err(error) if write.limit == "io_max" && error.errno() == Some(libc::ENODEV) => {
                let why = format!("{}; `lsblk` lists the disks there are", chain(&error));
                self.warn(not_enforced(write.limit, why));
            }
            Err(error) => self.warn(not_enforced(write.limit, chain(&error))),
            Ok(read) => match holding(write.file, &value, &read) {
                Some(_) if let Some(effective) = other_cpus(&path, write) => self.warn(format!(
                    "{} is not as asked: groups above allow CPUs `{effective}` where `{}` was asked for",
                    write.limit, write.value
                )),
                Some(value) => self.applied.push(LimitOutcome {
                    limit: write.limit.to_owned(),
                    target: path.display().to_string(),
                    value,
                }),
                None => self.warn(format!(
                    "{} is not as asked: {} was given `{}` and shows `{}`",
                    write.limit,
                    path.display(),
                    write.value,
                    read.trim()
                )),
            },
        }
    }
}

/// The CPUs a v2 group really has, where those are others than asked: `cpuset.cpus` shows what was written even when the
/// groups above leave nothing of it.
fn other_cpus(path: &Path, write: &Write) -> Option<String> {
    if write.file != "cpuset.cpus" {
        return None;
    }
    let effective = file::read(&path.with_file_name("cpuset.cpus.effective")).ok()?;
    (parse_cpus(&effective) != parse_cpus(&write.value)).then(|| effective.trim().to_owned())
}

/// Removes directories made a moment ago for a name that turned out to be taken. They are empty, so this cannot fail
/// but by somebody else's doing, and then they are found as leftovers.
fn take_back(dirs: &[GroupDir]) {
    for dir in dirs {
        if let Err(error) = std::fs::remove_dir(&dir.path) {
            tracing::warn!(path = %dir.path.display(), %error, "cannot take back an empty group");
        }
    }
}

/// A class or job name must be one directory, and must not look like one of the kernel's.
pub(super) fn check_name(name: &str) -> Result<(), CgroupError> {
    let problem = if name.is_empty() {
        NameProblem::Empty
    } else if name.len() > NAME_LEN_MAX {
        NameProblem::TooLong
    } else if name.starts_with('.') {
        NameProblem::LeadingDot
    } else if name.contains(|c: char| c == '/' || c.is_control()) {
        NameProblem::Character
    } else {
        return Ok(());
    };
    Err(CgroupError::Name {
        name: name.escape_debug().to_string(),
        problem,
    })
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
