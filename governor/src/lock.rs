//! Keeps a second governor out: one lock file beside the control socket.
//!
//! The kernel holds the lock (`flock`) for as long as the descriptor lives, so a governor that was killed leaves none
//! behind. The file itself stays: removing it could let two processes hold locks on two files of the same name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held while a governor runs. Dropping it lets the next one start.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another governor holds it.
    #[error("{}; stop it, or use it: `ffrtmp ps`, `ffrtmp attach` and `ffrtmp watch` talk to it by its socket", holder_text(*holder))]
    Held {
        /// Its pid, when the file tells.
        holder: Option<u32>,
    },
    /// The file could not be used.
    #[error("{operation} {}; run as root, or name a directory of your own with --socket", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    match holder {
        Some(pid) => format!("another governor runs as pid {pid}"),
        None => "another governor runs".to_owned(),
    }
}

impl LockError {
    /// Pid of the governor that runs, where that is why.
    pub fn holder(&self) -> Option<u32> {
        match self {
            Self::Held { holder } => *holder,
            Self::Io { .. } => None,
        }
    }
}

impl Lock {
    /// Takes the lock of the governor whose socket is `governor.sock` in this directory.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        Self::beside(&directory.join("governor.sock"))
    }

    /// Takes the lock that belongs to this socket (`X.lock` beside `X.sock`), making the directory (0755) when it is
    /// missing, and writes our pid into it.
    pub fn beside(socket: &Path) -> Result<Self, LockError> {
        let path = socket.with_extension("lock");
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |operation, path: &Path| {
            let path = path.to_path_buf();
            move |source| LockError::Io {
                operation,
                path,
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed("create directory", directory))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(failed("open lock file", &path))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                return Err(LockError::Held {
                    holder: read_pid(&mut file),
                });
            }
            Err((_, errno)) => return Err(failed("lock", &path)(errno.into())),
        };
        write_pid(&mut file).map_err(failed("write our pid to", &path))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A pid in the file of a lock nobody holds would only mislead a reader; failing to empty it harms nobody.
        let _emptied = self.file.set_len(0).is_ok();
    }
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The pid in the file; `None` when its holder has not written it yet.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_governor_is_told_who_runs() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::acquire(directory.path()).unwrap();
        let error = Lock::acquire(directory.path()).unwrap_err();
        assert_eq!(error.holder(), Some(std::process::id()));
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("another governor runs as pid {}", std::process::id())),
            "{text}"
        );
        drop(first);
        Lock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Lock::acquire(&file.join("run")).unwrap_err();
        assert!(error.holder().is_none());
        assert!(error.to_string().contains("create directory"), "{error}");
    }
}
