//! The part of the tree that was handed to the user we run as: a group above our own whose directory, process list and
//! controllers are ours to write.
//!
//! Looks and, in one case, moves this very process into a leaf of its own group; touches no other process.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::super::file;
use super::group::read_pids;
use crate::core::plan::Version;

/// What a delegated group must let us write.
const V2_FILES: [&str; 3] = ["", "cgroup.procs", "cgroup.subtree_control"];
const V1_FILES: [&str; 2] = ["", "cgroup.procs"];

/// The nearest group, from our own upwards, that was handed to us and can carry jobs. `None` when there is none.
///
/// Only groups above our own will do: the kernel lets the unprivileged move a process only below a group that both
/// sides have in common and that is theirs. On v2 it must hold no process itself, or no controller can be passed on.
/// `end` and what is above it are not looked at.
pub(super) fn base(own: &Path, end: &Path, version: Version) -> Option<PathBuf> {
    let above = own.ancestors().take_while(|dir| *dir != end);
    above
        .filter(|dir| is_ours(dir, version))
        .find(|dir| version == Version::V1 || make_room(dir))
        .map(Path::to_owned)
}

fn is_ours(dir: &Path, version: Version) -> bool {
    let files: &[&str] = match version {
        Version::V1 => &V1_FILES,
        Version::V2 => &V2_FILES,
    };
    files
        .iter()
        .all(|name| access(&dir.join(name), AccessFlags::W_OK).is_ok())
}

/// True for a group without processes. One that holds nobody but this process (a scope made for it) is emptied into a
/// leaf.
fn make_room(dir: &Path) -> bool {
    let Ok(pids) = read_pids(dir) else { return false };
    let me = std::process::id();
    if pids.iter().any(|pid| *pid != me) {
        return false;
    }
    if pids.is_empty() {
        remove_leaves(dir);
        return true;
    }
    let leaf = dir.join(format!("ffrtmp-{me}"));
    let moved = std::fs::create_dir(&leaf).is_ok()
        && file::write(&leaf.join("cgroup.procs"), &me.to_string()).is_ok();
    if !moved {
        // It is empty, so nothing is lost when it stays.
        let _stays = std::fs::remove_dir(&leaf);
    }
    moved
}

/// Leaves of wrappers that ended; the kernel keeps those that hold a process.
fn remove_leaves(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("ffrtmp-"));
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok()) {
            let _in_use = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(dir: &Path, pids: &str) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("cgroup.procs"), pids).unwrap();
        std::fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
    }

    #[test]
    fn the_nearest_group_without_processes_is_taken_and_the_root_never() {
        let mount = tempfile::tempdir().unwrap();
        let (user, app) = (mount.path().join("user"), mount.path().join("user/app"));
        let own = app.join("scope");
        group(mount.path(), "");
        group(&user, "");
        group(&app, "1\n");
        group(&own, "1\n");
        assert_eq!(base(&own, mount.path(), Version::V2), Some(user.clone()));
        assert_eq!(base(&own, mount.path(), Version::V1), Some(own.clone()));
        std::fs::write(user.join("cgroup.procs"), "1\n").unwrap();
        assert_eq!(base(&own, mount.path(), Version::V2), None);
    }

    #[test]
    fn a_group_that_lacks_one_of_its_files_was_not_handed_over() {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("own");
        group(&own, "");
        std::fs::remove_file(own.join("cgroup.subtree_control")).unwrap();
        assert_eq!(base(&own, mount.path(), Version::V2), None);
    }
}
