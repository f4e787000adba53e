//! What the groups a process sits in allow it, so that a move into our tree never gives it more.
//!
//! Reads the groups above a process and changes nothing. Groups that stand above our own tree as well bind a process
//! there too and are not counted.

use std::path::Path;

use super::super::file;
use super::super::process::Pinned;
use super::super::procfs::read_cgroups;
use super::CgroupError;
use super::group::Tree;
use crate::core::plan::Version;
use crate::core::readback::parse_cpus;

/// Far above any machine's memory: v1 shows "no limit" as the largest page count.
const NO_MEMORY_LIMIT: u64 = 1 << 62;

/// A file, and whether its first line is a limit.
type Test = (&'static str, fn(&str, &Path) -> bool);

/// What a process would leave behind by moving.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The first limit that cannot be carried along, with its file.
    pub limit: Option<String>,
    /// The fewest tasks a group above allows; systemd sets this for every user.
    pub pids_max: Option<u64>,
}

impl Tree {
    /// Looks at every group above the process that is not above our tree.
    pub fn confinement(&self, process: &Pinned) -> Result<Confinement, CgroupError> {
        let listed = read_cgroups(process.pid())?;
        process.check()?;
        let mut found = Confinement::default();
        for (number, hierarchy) in self.layout.hierarchies.iter().enumerate() {
            let own = listed.0.iter().find(|one| one.hierarchy == hierarchy.number);
            let Some(dir) = own.and_then(|one| hierarchy.dir_of(&one.pathname)) else {
                continue;
            };
            let slice = self.slice_dir(number);
            // In our tree already: its limits are those of its job.
            if dir.starts_with(&slice) {
                continue;
            }
            for group in dir.ancestors().take_while(|group| !slice.starts_with(group)) {
                found.look(group, hierarchy.version);
            }
        }
        Ok(found)
    }
}

impl Confinement {
    fn look(&mut self, group: &Path, version: Version) {
        let files: &[Test] = match version {
            Version::V2 => &[
                ("cpu.max", |text, _| !text.starts_with("max")),
                ("cpu.weight", |text, _| below(text, 100)),
                ("memory.max", |text, _| text != "max"),
                ("memory.high", |text, _| text != "max"),
                ("io.max", |text, _| !text.is_empty()),
                ("io.weight", |text, _| {
                    below(text.trim_start_matches("default "), 100)
                }),
                ("cpuset.cpus", |text, _| !text.is_empty()),
            ],
            Version::V1 => &[
                ("cpu.cfs_quota_us", |text, _| text.parse::<u64>().is_ok()),
                ("cpu.shares", |text, _| below(text, 1024)),
                ("memory.limit_in_bytes", |text, _| below(text, NO_MEMORY_LIMIT)),
                ("blkio.throttle.read_bps_device", |text, _| !text.is_empty()),
                ("blkio.throttle.write_bps_device", |text, _| !text.is_empty()),
                ("cpuset.cpus", fewer_than_above),
            ],
        };
        for (name, limits) in files {
            let path = group.join(name);
            let Ok(text) = file::read(&path) else { continue };
            let text = text.lines().next().unwrap_or_default().trim();
            if self.limit.is_none() && limits(text, &path) {
                self.limit = Some(format!("{} is {text}", path.display()));
            }
        }
        let tasks = file::read(&group.join("pids.max")).ok();
        let tasks = tasks.and_then(|text| text.trim().parse::<u64>().ok());
        self.pids_max = match (self.pids_max, tasks) {
            (Some(one), Some(other)) => Some(other.min(one)),
            (one, other) => one.or(other),
        };
    }
}

fn below(text: &str, usual: u64) -> bool {
    text.split(' ')
        .next()
        .and_then(|word| word.parse::<u64>().ok())
        .is_some_and(|value| value < usual)
}

/// v1 groups hold all CPUs of the group above unless somebody took some away.
fn fewer_than_above(text: &str, path: &Path) -> bool {
    let above = path
        .parent()
        .and_then(Path::parent)
        .map(|dir| dir.join("cpuset.cpus"));
    let above = above.and_then(|path| file::read(&path).ok());
    match (
        parse_cpus(text),
        above.as_deref().and_then(|text| parse_cpus(text.trim())),
    ) {
        (Some(own), Some(above)) => own != above,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_with_a_limit_is_named_and_one_without_is_not() {
        for (version, file, text, limits) in [
            (Version::V2, "cpu.max", "max 100000\n", false),
            (Version::V2, "cpu.max", "50000 100000\n", true),
            (Version::V2, "memory.high", "1048576\n", true),
            (Version::V2, "cpu.weight", "100\n", false),
            (Version::V2, "cpu.weight", "20\n", true),
            (Version::V2, "io.weight", "default 10\n", true),
            (Version::V2, "io.max", "\n", false),
            (Version::V1, "cpu.cfs_quota_us", "-1\n", false),
            (Version::V1, "cpu.cfs_quota_us", "50000\n", true),
            (
                Version::V1,
                "memory.limit_in_bytes",
                "9223372036854771712\n",
                false,
            ),
            (Version::V1, "memory.limit_in_bytes", "1048576\n", true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(file), text).unwrap();
            let mut found = Confinement::default();
            found.look(dir.path(), version);
            assert_eq!(found.limit.is_some(), limits, "{file} {text}");
        }
    }

    #[test]
    fn the_fewest_tasks_and_missing_cpus_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let user = dir.path().join("user");
        std::fs::create_dir(&user).unwrap();
        std::fs::write(dir.path().join("pids.max"), "max\n").unwrap();
        std::fs::write(user.join("pids.max"), "33\n").unwrap();
        std::fs::write(dir.path().join("cpuset.cpus"), "0-3\n").unwrap();
        std::fs::write(user.join("cpuset.cpus"), "0-1\n").unwrap();
        let mut found = Confinement::default();
        found.look(&user, Version::V1);
        found.look(dir.path(), Version::V1);
        assert_eq!(found.pids_max, Some(33));
        assert!(found.limit.unwrap().ends_with("cpuset.cpus is 0-1"));
    }
}
