//! Small kernel files: read whole, written in one call, with errors that say operation, path and value.
//!
//! Owns nothing but the error; creates and truncates no file, because the kernel's files exist or do not.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// An operation on a file of the kernel that failed.
#[derive(Debug, thiserror::Error)]
pub struct IoError {
    /// What was tried: `read`, `write`, `mkdir`, `rmdir`, `open`, `list`.
    pub op: &'static str,
    /// On what.
    pub path: PathBuf,
    /// With which value.
    pub value: Option<String>,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} `{value}` to {}", self.op, self.path.display()),
            None => write!(f, "{} {}", self.op, self.path.display()),
        }
    }
}

impl IoError {
    pub(crate) fn new(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            op,
            path: path.to_owned(),
            value: None,
            source,
        }
    }

    /// The error number, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// True when more rights (or a writable mount) would have helped.
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
    }

    /// True when the file, or the process behind it, does not exist.
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
    }
}

/// The error and all its causes in one line, for warnings that are stored as text.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The whole file as text; bytes that are not UTF-8 are replaced.
pub fn read(path: &Path) -> Result<String, IoError> {
    let mut bytes = Vec::with_capacity(1024);
    File::open(path)
        .map_err(|error| IoError::new("open", path, error))?
        // Whatever the limit: a plain file's read asks for its size first, which the kernel's files do not know.
        .take(u64::MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| IoError::new("read", path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes in one call: the kernel takes one write as one order.
pub fn write(path: &Path, value: &str) -> Result<(), IoError> {
    let opened = File::options().write(true).open(path);
    let file = opened.map_err(|error| not_written(path, value, error))?;
    write_to(&file, path, value)
}

/// The same through a file that is open; `path` is for the error.
pub fn write_to(mut file: &File, path: &Path, value: &str) -> Result<(), IoError> {
    file.write_all(value.as_bytes())
        .map_err(|error| not_written(path, value, error))
}

fn not_written(path: &Path, value: &str, source: std::io::Error) -> IoError {
    IoError {
        op: "write",
        path: path.to_owned(),
        value: Some(value.to_owned()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_operation_value_path_and_cause_once_each() {
        let error = write(Path::new("/nowhere/cpu.max"), "1 2").unwrap_err();
        assert_eq!(
            chain(&error),
            "write `1 2` to /nowhere/cpu.max: No such file or directory (os error 2)"
        );
        assert!(error.is_gone() && !error.is_permission());
        assert_eq!(
            read(Path::new("/nowhere")).unwrap_err().to_string(),
            "open /nowhere"
        );
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(write(&path, "1").is_err());
        assert!(!path.exists());
    }
}
