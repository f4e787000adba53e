//! The file that names the running gate, so that `ffrtmp-governor --cleanup` finds one that outlived its governor.

use std::io;
use std::path::{Path, PathBuf};

use ffrtmp_abi::ProcessKey;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;

use crate::host::process::Pinned;

/// How long a killed gate may take to end, ms.
const PATIENCE_MS: u16 = 2_000;

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    pid: u32,
    start: u64,
    group: Option<PathBuf>,
}

impl Note {
    /// The file of a governor with this control socket.
    pub fn beside(socket: &Path) -> PathBuf {
        socket.with_extension("gate")
    }

    pub(super) fn write(path: &Path, pid: u32, group: Option<&Path>) -> io::Result<()> {
        let gate = Pinned::of_pid(pid).map_err(io::Error::other)?;
        let note = Self {
            pid,
            start: gate.key().start,
            group: group.map(Path::to_owned),
        };
        std::fs::write(path, serde_json::to_vec(&note)?)
    }

    pub(super) fn forget(path: &Path) {
        // It was never written where the directory is read-only.
        let _absent = std::fs::remove_file(path);
    }

    /// Ends the gate that the file names, if it still lives, and removes its group. Gives what was done.
    pub fn end(path: &Path) -> Result<Vec<String>, String> {
        let Ok(text) = std::fs::read(path) else {
            return Ok(Vec::new());
        };
        let note: Self =
            serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut done = Vec::new();
        if let Ok(gate) = Pinned::open(ProcessKey::new(note.pid, note.start))
            && gate.is_alive()
        {
            gate.signal(libc::SIGKILL).map_err(|error| error.to_string())?;
            let mut fds = [PollFd::new(gate.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(PATIENCE_MS)) {
                Ok(1..) => done.push(format!("ended the exec gate, process {}", note.pid)),
                _ => return Err(format!("the exec gate, process {}, does not end", note.pid)),
            }
        }
        if let Some(group) = note.group
            && std::fs::remove_dir(&group).is_ok()
        {
            done.push(format!("removed {}", group.display()));
        }
        Self::forget(path);
        done.push(format!("removed {}", path.display()));
        Ok(done)
    }
}
