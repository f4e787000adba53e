//! The program that is looked for: a copy of the scripted test target under a name nobody else uses.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A program in a directory of its own.
pub(super) struct Target {
    path: PathBuf,
    name: String,
    _directory: tempfile::TempDir,
}

impl Target {
    /// Copies it. The name is short enough to be a kernel name, which is all that a scan of /proc can compare.
    pub(super) fn new(binaries: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("ffrtmp-bench-")
            .tempdir()
            .context("making a directory")?;
        let name = format!("ffb-{}", std::process::id());
        let path = directory.path().join(&name);
        std::fs::copy(binaries.join("ffrtmp-test-target"), &path).context("copying the target")?;
        Ok(Self {
            path,
            name,
            _directory: directory,
        })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Rules that hold its exec until it is placed.
    pub(super) fn gated_rules(&self) -> String {
        format!(
            "rules:\n  - name: bench\n    files: [{}]\n    admission: gate\n    class: bench\n    limits: {{cpu_quota: 100}}\n",
            self.path.display()
        )
    }

    /// Rules that know it.
    pub(super) fn rules(&self) -> String {
        format!(
            "rules:\n  - name: bench\n    commands: [{}]\n    class: bench\n    limits: {{cpu_quota: 100}}\n",
            self.name
        )
    }

    /// Starts it for a life of so many microseconds; `id` becomes an argument that its record shows.
    pub(super) fn start(&self, id: usize, life_us: u64) -> Result<Child> {
        Command::new(&self.path)
            .args(["--id", &id.to_string(), "sleep-us", &life_us.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the target")
    }
}
