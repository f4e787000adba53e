//! Which files the rules mean, and when one of them is replaced: inotify on the directories they are looked for in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::wire::FileId;
use crate::core::gate::is_gated;
use crate::core::rule::Rule;

/// Where programs are looked for when the configuration does not say.
pub(super) const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// A file that a rule means.
#[derive(Debug)]
pub(super) struct Program {
    /// The path a rule means it by.
    pub(super) path: PathBuf,
    /// Which file that is now.
    pub(super) id: FileId,
    /// It, open for reading.
    pub(super) open: File,
}

/// Every path a rule with the gate may mean.
pub(super) fn paths(rules: &[Rule], directories: &[PathBuf]) -> BTreeSet<PathBuf> {
    let gated = || rules.iter().filter(|rule| is_gated(rule));
    let files = gated().flat_map(|rule| rule.files.iter().map(PathBuf::from));
    let commands = gated().flat_map(|rule| {
        let inside = |command| directories.iter().map(move |dir| dir.join(command));
        rule.commands.iter().flat_map(inside)
    });
    // A path that is not absolute depends on who executes it; the exec event finds it.
    files.chain(commands).filter(|path| path.is_absolute()).collect()
}

/// The programs there are, one for each file: a file with two names is meant by the first.
pub(super) fn programs(paths: &BTreeSet<PathBuf>) -> Vec<Program> {
    let mut found = BTreeMap::new();
    for path in paths {
        if let Ok(program) = open(path) {
            found.entry(program.id).or_insert(program);
        }
    }
    found.into_values().collect()
}

/// Opens a program. Never an exec, so no gate holds it.
pub(super) fn open(path: &Path) -> io::Result<Program> {
    // A pipe or a terminal in its place must not make us wait.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let open =
        std::os::unix::fs::OpenOptionsExt::custom_flags(File::options().read(true), flags).open(path)?;
    let found = open.metadata()?;
    if !found.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(Program {
        path: path.to_owned(),
        id: FileId {
            dev: found.dev(),
            inode: found.ino(),
        },
        open,
    })
}

/// Which file a path names.
pub(super) fn id_of(path: &Path) -> Option<FileId> {
    let found = std::fs::metadata(path).ok()?;
    Some(FileId {
        dev: found.dev(),
        inode: found.ino(),
    })
}

/// Tells when a name in one of the directories may stand for another file.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    directories: BTreeMap<PathBuf, WatchDescriptor>,
    names: BTreeSet<std::ffi::OsString>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            directories: BTreeMap::new(),
            names: BTreeSet::new(),
        })
    }

    /// Watches the directories of these paths, and those that links lead to, and no others.
    pub(super) fn follow(&mut self, paths: &BTreeSet<PathBuf>) {
        let ends = paths.iter().filter_map(|path| path.canonicalize().ok());
        let all: BTreeSet<PathBuf> = paths.iter().cloned().chain(ends).collect();
        self.names = all
            .iter()
            .filter_map(|path| path.file_name())
            .map(OsStr::to_owned)
            .collect();
        let wanted: BTreeSet<&Path> = all.iter().filter_map(|path| path.parent()).collect();
        for (_, unwanted) in self
            .directories
            .extract_if(.., |dir, _| !wanted.contains(dir.as_path()))
        {
            // It went with its directory, or goes now.
            let _gone = self.inotify.rm_watch(unwanted);
        }
        let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        for dir in wanted {
            // One that is not there has no programs; the exec event finds what is put there later.
            if let Ok(watch) = self.inotify.add_watch(dir, changes) {
                self.directories.insert(dir.to_owned(), watch);
            }
        }
    }

    /// True when one of the names was made or replaced since the last look.
    pub(super) fn take_changes(&self) -> bool {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    changed |= events
                        .iter()
                        .any(|event| event.name.as_ref().is_none_or(|name| self.names.contains(name)));
                }
                Err(Errno::EINTR) => {}
                Err(_) => return changed,
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rule::Admission;

    #[test]
    fn a_replaced_program_is_told_and_has_another_id() {
        let dir = tempfile::tempdir().unwrap();
        let rule = Rule {
            admission: Admission::Gate,
            ..Rule::for_command("a".to_owned(), "player".to_owned(), ffrtmp_api::Limits::default())
        };
        let paths = paths(&[rule], &[dir.path().to_owned()]);
        let mut watch = Watch::new().unwrap();
        watch.follow(&paths);
        assert!(programs(&paths).is_empty() && !watch.take_changes());
        std::fs::write(dir.path().join("other"), "").unwrap();
        assert!(!watch.take_changes());
        std::fs::write(dir.path().join("player"), "1").unwrap();
        assert!(watch.take_changes());
        let first = programs(&paths);
        std::fs::rename(dir.path().join("other"), dir.path().join("player")).unwrap();
        assert!(watch.take_changes());
        let second = programs(&paths);
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first[0].id, second[0].id);
    }
}
