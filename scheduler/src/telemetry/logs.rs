//! The log file: `/var/log/ffrtmp/master/scheduler.log`, or `./logs/master/scheduler.log` where that may not be written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::LogDirectory;

/// The documented place, `DIRECTORY/COMPONENT/SUBCOMPONENT.log`.
const SYSTEM: &str = "/var/log/ffrtmp";
/// Where it goes without privilege.
const FALLBACK: &str = "./logs";
const NAME: &str = "master/scheduler.log";

/// A log file that can be opened anew.
#[derive(Debug, Clone)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<RwLock<File>>,
}

impl LogFile {
    /// Opens the file, in the place that was asked for or the next best. The text says why it is not the first.
    pub fn open(directory: &LogDirectory) -> (Option<Self>, Option<String>) {
        let places: Vec<&Path> = match directory {
            LogDirectory::None => return (None, None),
            LogDirectory::Auto => vec![Path::new(SYSTEM), Path::new(FALLBACK)],
            LogDirectory::Named(path) => vec![path, Path::new(FALLBACK)],
        };
        let mut said: Vec<String> = Vec::new();
        for place in places {
            let path = place.join(NAME);
            match append(&path) {
                Ok(file) => {
                    let file = Arc::new(RwLock::new(file));
                    return (
                        Some(Self { path, file }),
                        (!said.is_empty()).then(|| said.join("; ")),
                    );
                }
                Err(error) => said.push(format!("cannot log to {}: {error}", path.display())),
            }
        }
        (None, Some(said.join("; ")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it anew, after it was moved away. Where that fails the old one goes on.
    pub fn reopen(&self) {
        match append(&self.path) {
            Ok(file) => *self.file.write().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => tracing::warn!(%error, "the log file was not opened anew"),
        }
    }

    /// What a log layer writes with.
    pub(super) fn writer(&self) -> impl Fn() -> Handle + Send + Sync + 'static {
        let file = Arc::clone(&self.file);
        move || Handle(Arc::clone(&file))
    }
}

fn append(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

/// One line's writer.
#[derive(Debug)]
pub(super) struct Handle(Arc<RwLock<File>>);

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0.read().unwrap_or_else(PoisonError::into_inner)).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_below_its_component_and_survives_a_rotation() {
        let place = tempfile::tempdir().unwrap();
        let (file, said) = LogFile::open(&LogDirectory::Named(place.path().to_owned()));
        let file = file.unwrap();
        assert_eq!(said, None);
        assert_eq!(file.path(), place.path().join("master/scheduler.log"));
        let writer = file.writer();
        writer().write_all(b"one\n").unwrap();
        let moved = place.path().join("old.log");
        std::fs::rename(file.path(), &moved).unwrap();
        file.reopen();
        writer().write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "two\n");
    }

    #[test]
    fn no_directory_is_no_file() {
        let (file, said) = LogFile::open(&LogDirectory::None);
        assert!(file.is_none() && said.is_none());
    }
}
