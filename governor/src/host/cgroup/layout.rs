//! Which hierarchies this machine has, and where our tree begins in each.
//!
//! Reads /proc/self/mountinfo and /proc/self/cgroup (paths given, so that tests can pretend) and changes nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use procfs::process::{MountInfo, MountInfos};
use procfs::{FromRead, ProcessCGroup, ProcessCGroups};

use super::super::file;
use super::CgroupError;
use crate::core::plan::{Controller, DiskSharing, Offer, Version};

/// Top of our tree below the base of each hierarchy.
pub const DEFAULT_SLICE: &str = "ffrtmp.slice";

/// Group of the unit that does nothing but hold jobs (`deploy/systemd/ffrtmp-jobs.service`).
const JOBS_UNIT: &str = "ffrtmp.slice/ffrtmp-jobs.service";

/// Where our tree begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CgroupBase {
    /// v1: the governor's own group. v2: the delegated group of its own unit, else the root.
    #[default]
    Auto,
    /// The nearest group above ours that was handed to the user we are; hierarchies without one are left out.
    Own,
    /// This group, counted from the root of every hierarchy; made when it does not exist.
    Below(PathBuf),
}

/// How to lay out the tree.
#[derive(Debug, Clone)]
pub struct TreeOptions {
    /// Where it begins.
    pub base: CgroupBase,
    /// Name of its top directory.
    pub slice: String,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            base: CgroupBase::Auto,
            slice: DEFAULT_SLICE.to_owned(),
        }
    }
}

/// Where the facts are read.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `/proc/self/mountinfo`.
    pub mountinfo: PathBuf,
    /// `/proc/self/cgroup`.
    pub own_groups: PathBuf,
    /// `/sys/block`.
    pub block: PathBuf,
    /// Whether systemd marked a group as delegated.
    pub delegated: fn(&Path) -> bool,
}

impl Sources {
    /// This machine.
    pub fn host() -> Self {
        Self {
            mountinfo: "/proc/self/mountinfo".into(),
            own_groups: "/proc/self/cgroup".into(),
            block: "/sys/block".into(),
            delegated: has_delegate_mark,
        }
    }
}

/// One hierarchy we can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Interface.
    pub version: Version,
    /// Its number in /proc/PID/cgroup; 0 for v2. Differs from boot to boot.
    pub number: u32,
    /// `v2`, or the v1 controllers it is mounted with, such as `cpu,cpuacct`. Stable over boots.
    pub name: String,
    /// What it offers below our tree.
    pub controllers: Vec<Controller>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which of its groups is mounted there; `/` outside containers.
    pub mount_root: String,
    /// The group our slice is made in.
    pub base: PathBuf,
    /// Why it is that one.
    pub why: &'static str,
}

/// Which kind of machine this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// v2 alone.
    V2,
    /// v1 alone.
    V1,
    /// v1 for controllers, v2 beside it.
    Hybrid,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// v2 first, then v1 in order of mounting.
    pub hierarchies: Vec<Hierarchy>,
    /// Who shares disks by weight.
    pub sharing: DiskSharing,
}

impl Layout {
    /// Finds out. Fails when no hierarchy is mounted that we can use.
    pub fn detect(sources: &Sources, options: &TreeOptions) -> Result<Self, CgroupError> {
        let mounts = parse::<MountInfos>(&sources.mountinfo)?;
        let own = parse::<ProcessCGroups>(&sources.own_groups)?;
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in &mounts.0 {
            let Some(group) = own.0.iter().find(|group| is_mount_of(mount, group)) else {
                continue;
            };
            // A hierarchy mounted twice is one hierarchy.
            if hierarchies.iter().any(|known| known.number == group.hierarchy) {
                continue;
            }
            hierarchies.extend(hierarchy(mount, group, sources, options)?);
        }
        if hierarchies.is_empty() {
            return Err(CgroupError::NoHierarchy);
        }
        hierarchies.sort_by_key(|hierarchy| hierarchy.version != Version::V2);
        let sharing = disk_sharing(&hierarchies, &sources.block);
        Ok(Self { hierarchies, sharing })
    }

    /// Which kind this is.
    pub fn kind(&self) -> Kind {
        let has = |version| self.hierarchies.iter().any(|one| one.version == version);
        match (has(Version::V2), has(Version::V1)) {
            (true, true) => Kind::Hybrid,
            (false, true) => Kind::V1,
            (_, false) => Kind::V2,
        }
    }

    /// For the planner.
    pub fn offers(&self) -> Vec<Offer> {
        self.hierarchies
            .iter()
            .map(|hierarchy| Offer {
                version: hierarchy.version,
                controllers: hierarchy.controllers.clone(),
            })
            .collect()
    }
}

impl Hierarchy {
    /// The directory of a group as /proc/PID/cgroup lists it. `None` when it lies outside what is mounted.
    pub fn dir_of(&self, listed: &str) -> Option<PathBuf> {
        let below = Path::new(listed).strip_prefix(&self.mount_root).ok()?;
        below
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
            .then(|| join(&self.mount, below))
    }

    /// The group of a directory as /proc/PID/cgroup lists it.
    pub fn listed(&self, dir: &Path) -> Option<String> {
        let below = dir.strip_prefix(&self.mount).ok()?;
        Some(join(Path::new(&self.mount_root), below).display().to_string())
    }

    /// One line for `status` and `doctor`.
    pub fn describe(&self) -> String {
        let names: Vec<_> = self
            .controllers
            .iter()
            .map(|one| one.name(self.version))
            .collect();
        let offers = if names.is_empty() {
            "no controller".to_owned()
        } else {
            names.join(", ")
        };
        format!(
            "{}: {} ({}); offers {offers}",
            self.name,
            self.base.display(),
            self.why
        )
    }
}

/// `Path::join` that adds no trailing slash for an empty rest.
fn join(base: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() {
        base.to_owned()
    } else {
        base.join(below)
    }
}

fn parse<T: FromRead>(path: &Path) -> Result<T, CgroupError> {
    let text = file::read(path).map_err(CgroupError::Read)?;
    T::from_read(text.as_bytes()).map_err(|_| CgroupError::Parse {
        path: path.to_owned(),
    })
}

fn is_mount_of(mount: &MountInfo, group: &ProcessCGroup) -> bool {
    match mount.fs_type.as_str() {
        "cgroup2" => group.hierarchy == 0,
        "cgroup" => {
            group.hierarchy != 0
                && !group.controllers.is_empty()
                && group
                    .controllers
                    .iter()
                    .all(|name| mount.super_options.contains_key(name))
        }
        _ => false,
    }
}

/// One hierarchy, or `None` when it has nothing for us.
fn hierarchy(
    mount: &MountInfo,
    group: &ProcessCGroup,
    sources: &Sources,
    options: &TreeOptions,
) -> Result<Option<Hierarchy>, CgroupError> {
    let v2 = group.hierarchy == 0;
    let mut found = Hierarchy {
        version: if v2 { Version::V2 } else { Version::V1 },
        number: group.hierarchy,
        name: if v2 {
            "v2".to_owned()
        } else {
            group.controllers.join(",")
        },
        controllers: Vec::new(),
        mount: mount.mount_point.clone(),
        mount_root: mount.root.clone(),
        base: mount.mount_point.clone(),
        why: "root of the hierarchy",
    };
    if options.base == CgroupBase::Own {
        let own = found.dir_of(&group.pathname).filter(|dir| dir.is_dir());
        // Below systemd the groups that a user may write are its service manager's all the same; only a unit with
        // `Delegate=` is handed on.
        let systemd = super::super::systemd::absent().is_none();
        let base = own
            .filter(|own| !systemd || (sources.delegated)(own))
            .and_then(|own| {
                let end = own.parent().filter(|_| systemd).unwrap_or(&found.mount);
                super::own::base(&own, end, found.version)
            });
        let Some(base) = base else {
            return Ok(None);
        };
        (found.base, found.why) = (base, "delegated to this user");
    } else {
        (found.base, found.why) = base(&found, &group.pathname, sources, options)?;
    }
    found.controllers = if v2 {
        offered_v2(&found, options)
    } else {
        Controller::ALL
            .into_iter()
            .filter(|one| group.controllers.iter().any(|name| name == one.name(Version::V1)))
            .collect()
    };
    Ok((v2 || !found.controllers.is_empty()).then_some(found))
}

fn base(
    hierarchy: &Hierarchy,
    own: &str,
    sources: &Sources,
    options: &TreeOptions,
) -> Result<(PathBuf, &'static str), CgroupError> {
    let root = hierarchy.mount.clone();
    if let CgroupBase::Below(path) = &options.base {
        let below = path.strip_prefix("/").unwrap_or(path);
        if !below
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(CgroupError::Base { path: path.clone() });
        }
        return Ok((join(&root, below), "as configured"));
    }
    // A group outside the mount, or removed since we were put into it, is as good as none.
    let Some(own) = hierarchy.dir_of(own).filter(|dir| dir.is_dir() && *dir != root) else {
        return Ok((root, "root of the hierarchy"));
    };
    if hierarchy.version == Version::V1 {
        return Ok((own, "the governor's own group"));
    }
    // Groups below our own unit would keep systemd before 254 from starting that unit again while they hold jobs: it
    // puts the new process into the unit's own group, which then passes controllers on and takes none.
    let jobs = root.join(JOBS_UNIT);
    if (sources.delegated)(&jobs) && writable(&jobs) {
        return Ok((jobs, "delegated to ffrtmp-jobs.service"));
    }
    // systemd marks what it hands over. With DelegateSubgroup= the mark is on our parent, and we do not stand in the way.
    if (sources.delegated)(&own) {
        return Ok((own, "delegated to the governor"));
    }
    if let Some(parent) = own
        .parent()
        .filter(|dir| *dir != root && (sources.delegated)(dir))
    {
        return Ok((parent.to_owned(), "delegated to the governor's unit"));
    }
    if !writable(&root) && writable(&own) {
        return Ok((own, "the governor's own group, the only writable one"));
    }
    Ok((root, "root of the hierarchy"))
}

/// Controllers that can be switched on below the base. A base that is still to be made has those of the root.
fn offered_v2(hierarchy: &Hierarchy, options: &TreeOptions) -> Vec<Controller> {
    let from = match options.base {
        CgroupBase::Auto | CgroupBase::Own => &hierarchy.base,
        CgroupBase::Below(_) => &hierarchy.mount,
    };
    let text = file::read(&from.join("cgroup.controllers")).unwrap_or_default();
    Controller::ALL
        .into_iter()
        .filter(|one| text.split_whitespace().any(|name| name == one.name(Version::V2)))
        .collect()
}

pub(super) fn writable(dir: &Path) -> bool {
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// systemd sets `trusted.delegate`, and since 251 `user.delegate`, to 1 on groups it hands over.
pub(super) fn has_delegate_mark(dir: &Path) -> bool {
    let Ok(path) = CString::new(dir.as_os_str().as_bytes()) else {
        return false;
    };
    [c"trusted.delegate", c"user.delegate"].into_iter().any(|name| {
        let mut value = [0u8; 4];
        // SAFETY: both strings end in NUL, and the kernel writes at most `value.len()` bytes into `value`.
        let length = unsafe {
            libc::getxattr(
                path.as_ptr(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        length == 1 && value[0] == b'1'
    })
}

/// Asked once: a machine that changes its disk scheduler wants a restart of the governor.
fn disk_sharing(hierarchies: &[Hierarchy], block: &Path) -> DiskSharing {
    let v2_io = hierarchies
        .iter()
        .find(|one| one.version == Version::V2 && one.controllers.contains(&Controller::Io));
    let iocost = v2_io
        .and_then(|one| file::read(&one.mount.join("io.cost.qos")).ok())
        .is_some_and(|text| text.split_whitespace().any(|word| word == "enable=1"));
    if iocost {
        return DiskSharing::Iocost;
    }
    let scheduler = |name: &str| {
        std::fs::read_dir(block)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|disk| file::read(&disk.path().join("queue/scheduler")).ok())
            .any(|text| text.split_whitespace().any(|word| word == name))
    };
    if scheduler("[bfq]") {
        DiskSharing::Bfq
    } else if scheduler("[cfq]") {
        DiskSharing::Cfq
    } else {
        DiskSharing::Nobody
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
