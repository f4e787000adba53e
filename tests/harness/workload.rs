//! Workloads: copies of the scripted target under a name of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::world::bin;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A basename that no other test and no other run uses; longer than the 15 characters of a kernel name when asked.
pub fn unique_name(prefix: &str) -> String {
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A program that rules can name.
#[derive(Debug, Clone)]
pub struct Workload {
    path: PathBuf,
}

impl Workload {
    /// A copy of the scripted target in `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        std::fs::copy(bin("ffrtmp-test-target"), &path).expect("copy the target");
        Self { path }
    }

    /// The real ffmpeg under a name that rules know, in a directory below `dir`.
    pub fn ffmpeg(dir: &Path, name: &str) -> Self {
        let path = std::env::var_os("PATH").expect("a PATH");
        let real = std::env::split_paths(&path)
            .map(|dir| dir.join("ffmpeg"))
            .find(|file| file.exists())
            .expect("an installed ffmpeg");
        let path = dir.join("bin").join(name);
        if !path.exists() {
            std::fs::create_dir_all(dir.join("bin")).expect("make a directory");
            std::os::unix::fs::symlink(real, &path).expect("link to ffmpeg");
        }
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs these steps.
    pub fn command(&self, steps: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(steps)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Starts it.
    pub fn spawn(&self, steps: &[&str]) -> Child {
        self.command(steps).spawn().expect("start the target")
    }
}

/// Room for what `wait4` writes.
pub fn zeroed_rusage() -> libc::rusage {
    // SAFETY: plain integers, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}
