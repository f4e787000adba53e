//! cgrulesengd with one rule for the target. Its configuration stands at fixed places below /etc, so it runs in a mount
//! namespace of its own in which /etc is a directory of ours.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::super::target::Target;
use super::Group;

/// Files of the real /etc that any program reads.
const KEPT: [&str; 4] = ["passwd", "group", "nsswitch.conf", "ld.so.cache"];

/// Binds the directory over /etc and becomes the daemon.
const START: &str = "mount --bind \"$0\" /etc && exec cgrulesengd -n -q -f \"$1\"";

/// The running daemon.
pub(in super::super) struct RulesDaemon {
    daemon: Child,
    group: Group,
    _directory: tempfile::TempDir,
}

impl RulesDaemon {
    /// Starts it.
    pub(super) fn start(target: &Target, group: Group) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("ffrtmp-bench-rules-")
            .tempdir()
            .context("making a directory")?;
        let etc = directory.path().join("etc");
        write(&etc, target, &group).context("writing the configuration of cgrulesengd")?;
        let daemon = Command::new("unshare")
            .args(["--mount", "sh", "-c", START])
            .arg(&etc)
            .arg(directory.path().join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting cgrulesengd")?;
        Ok(Self {
            daemon,
            group,
            _directory: directory,
        })
    }

    /// Its pid: each program on the way to it has become the next.
    pub(super) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Where it puts the targets.
    pub(super) fn group(&self) -> &Group {
        &self.group
    }
}

fn write(etc: &Path, target: &Target, group: &Group) -> Result<()> {
    fs::create_dir(etc)?;
    for name in KEPT {
        let from = Path::new("/etc").join(name);
        if from.exists() {
            fs::copy(from, etc.join(name))?;
        }
    }
    let rule = format!("*:{} cpu {}/\n", target.path().display(), group.name());
    fs::write(etc.join("cgrules.conf"), rule)?;
    fs::write(etc.join("cgconfig.conf"), "")?;
    // It ends at once without these.
    fs::create_dir(etc.join("cgrules.d"))?;
    fs::create_dir(etc.join("cgconfig.d"))?;
    Ok(())
}

impl Drop for RulesDaemon {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
