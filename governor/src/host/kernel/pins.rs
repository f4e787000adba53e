//! Where the kernel's side outlives us: maps, ring and links pinned on bpffs, in a directory named by what they are.
//!
//! While no governor runs, the programs go on: records fill, exits are noted, the ring keeps argv. The next governor of
//! the same generation opens the same maps and attaches nothing. Another generation (other programs, other sizes) never
//! shares a map with this one, because a map that is reused is not compared with what the object expects.
//!
//! It owns paths, the mount and the lock; what is in the maps is [`super::maps`]'s.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ffrtmp_abi::{ABI_VERSION, map, program};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{KernelOptions, iterators};

/// Where bpffs is on nearly every host.
const HOST_BPFFS: &str = "/sys/fs/bpf";

/// Source of our own mount in mountinfo: only what carries it is ever unmounted.
const OUR_MOUNT: &str = "ffrtmp-bpf";

/// Maps that hold state. The programs' read-only globals are made anew at each load.
pub(super) const MAPS: [&str; 8] = [
    map::RECORDS,
    map::MEMBERS,
    map::NEAR,
    map::COMMS,
    map::NAMES,
    map::RING,
    map::COUNTERS,
    map::CONFIG,
];

/// Links of every generation, beside one of [`EXITS`].
const LINKS: [&str; 4] = [program::FORK, program::SIGNAL, program::MOVE, program::EXEC];
/// Which of them depends on the kernel.
const EXITS: [&str; 2] = [program::EXIT_GROUP, program::EXIT_PLAIN];

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// Another process uses the pins.
    #[error(
        "the pins below {} are in use by another governor; stop it, or give this one a `pins` path of its own",
        path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// An operation failed.
    #[error("{operation} {}; `pins: off` does without, and what happens while no governor runs is then not recorded", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed<'a, E: Into<io::Error>>(operation: &'static str, path: &'a Path) -> impl Fn(E) -> PinsError + 'a {
    move |source| PinsError::Io {
        operation,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// One generation's pins, locked for as long as this lives.
#[derive(Debug)]
pub struct Pins {
    directory: PathBuf,
    _lock: Flock<File>,
}

/// The directory for pins when none is named: on the host's bpffs where there is one, else on one of our own beside
/// the socket.
pub fn default_base(socket: &Path) -> PathBuf {
    if on_bpffs(Path::new(HOST_BPFFS)) {
        return Path::new(HOST_BPFFS).join("ffrtmp");
    }
    own_base(socket)
}

/// The directory for a bpffs of our own.
pub fn own_base(socket: &Path) -> PathBuf {
    socket.parent().unwrap_or(Path::new("/run/ffrtmp")).join("bpf")
}

fn on_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

/// Name of what an object with these sizes pins: equal names share maps. A file name on bpffs may not hold a dot.
pub(super) fn generation(object: &[u8], options: &KernelOptions) -> String {
    use std::hash::Hasher;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(object);
    hasher.write_u32(options.records);
    hasher.write_u32(options.ring_bytes);
    format!("v{ABI_VERSION}-{:016x}", hasher.finish())
}

impl Pins {
    /// Opens the directory of one generation below `base`, mounting a bpffs of our own at `base` when it is on none.
    pub(super) fn open(base: &Path, generation: &str) -> Result<Self, PinsError> {
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(base).map_err(failed("make the directory", base))?;
        if !on_bpffs(base) {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            nix::mount::mount(Some(OUR_MOUNT), base, Some("bpf"), flags, Some("mode=0700"))
                .map_err(failed("mount bpffs at", base))?;
        }
        let opened = File::open(base).map_err(failed("open", base))?;
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            if error == nix::errno::Errno::EWOULDBLOCK {
                return PinsError::Held {
                    path: base.to_owned(),
                };
            }
            failed("lock", base)(error)
        })?;
        let directory = base.join(generation);
        private
            .create(&directory)
            .map_err(failed("make the directory", &directory))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// Path of a map or a link.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// True when everything of this generation is there, so that it runs already.
    pub(super) fn complete(&self) -> bool {
        let there = |names: &[&str]| names.iter().filter(|name| self.path(name).exists()).count();
        there(&MAPS) == MAPS.len()
            && there(&LINKS) == LINKS.len()
            && there(&iterators::NAMES) == iterators::NAMES.len()
            && there(&EXITS) > 0
    }

    /// Removes what a start that was cut short left, so that its maps are not taken for whole ones.
    pub(super) fn clear(&self) -> Result<(), PinsError> {
        remove_entries(&self.directory)
    }

    /// Directories of every other generation.
    pub(super) fn others(&self) -> Result<Vec<PathBuf>, PinsError> {
        let base = self.directory.parent().unwrap_or(&self.directory);
        let mut others = entries(base)?;
        others.retain(|path| *path != self.directory && path.is_dir());
        Ok(others)
    }
}

/// Removes one generation's pins, which ends its programs.
pub(super) fn remove(directory: &Path) -> Result<(), PinsError> {
    remove_entries(directory)?;
    std::fs::remove_dir(directory).map_err(failed("remove", directory))
}

/// Removes every pin below `base`, and the bpffs there if it is our own. Refused while a governor uses them. True when
/// there was something to remove.
pub fn remove_all(base: &Path) -> Result<bool, PinsError> {
    if !base.exists() {
        return Ok(false);
    }
    if on_bpffs(base) {
        // The name of no generation: all of them go.
        let pins = Pins::open(base, "removal")?;
        for other in pins.others()? {
            remove(&other)?;
        }
        std::fs::remove_dir(&pins.directory).map_err(failed("remove", &pins.directory))?;
        drop(pins);
        if is_ours(base)? {
            nix::mount::umount2(base, MntFlags::UMOUNT_NOFOLLOW).map_err(failed("unmount", base))?;
        }
    }
    // What is not empty now is somebody's mount or directory.
    match std::fs::remove_dir(base) {
        Ok(()) => Ok(true),
        Err(_) if !on_bpffs(base) || is_mount(base)? => Ok(false),
        Err(source) => Err(failed("remove", base)(source)),
    }
}

fn mounts() -> Result<Vec<procfs::process::MountInfo>, PinsError> {
    let path = Path::new("/proc/self/mountinfo");
    let read = procfs::process::Process::myself().and_then(|process| process.mountinfo());
    let mounts = read.map_err(|error| failed("read", path)(io::Error::other(error)))?;
    Ok(mounts.into_iter().collect())
}

fn is_mount(path: &Path) -> Result<bool, PinsError> {
    Ok(mounts()?.iter().any(|mount| mount.mount_point == path))
}

fn is_ours(path: &Path) -> Result<bool, PinsError> {
    let ours = |mount: &procfs::process::MountInfo| {
        mount.mount_point == path && mount.mount_source.as_deref() == Some(OUR_MOUNT)
    };
    Ok(mounts()?.iter().any(ours))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, PinsError> {
    let listed = std::fs::read_dir(directory).map_err(failed("list", directory))?;
    Ok(listed.filter_map(Result::ok).map(|entry| entry.path()).collect())
}

fn remove_entries(directory: &Path) -> Result<(), PinsError> {
    for path in entries(directory)? {
        std::fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_programs_and_other_sizes_are_other_generations() {
        let options = KernelOptions::default();
        let name = generation(b"object", &options);
        assert_eq!(name, generation(b"object", &options));
        assert_ne!(name, generation(b"other", &options));
        let larger = KernelOptions {
            records: options.records * 2,
            ..options
        };
        assert_ne!(name, generation(b"object", &larger));
        assert!(!name.contains('.'), "{name}");
    }
}
