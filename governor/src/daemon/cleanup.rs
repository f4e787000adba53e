//! The way out of a machine: what a governor made is taken away, what it changed is put back, and workloads run on.
//!
//! Refuses while a governor lives; its lock is what tells. Records stay, because they are the user's.

use std::path::Path;

use super::{DaemonOptions, LedgerAt};
use crate::control::types::JobView;
use crate::host::cgroup::{CgroupBase, CgroupError, Leftover, Tree, TreeOptions};
use crate::host::fast::{self, mount_beside};
use crate::host::file::chain;
use crate::host::gate::Note;
use crate::host::kernel::pins::{self, PinsError};
use crate::host::kernel::spool;
use crate::host::policy::{journal_beside, recover};
use crate::host::process::Pinned;
use crate::ledger::{Ledger, boot_id};
use crate::lock::{Lock, LockError};

/// What was done, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Put back or removed.
    pub done: Vec<String>,
    /// Not put back, with the reason.
    pub left: Vec<String>,
}

/// Why nothing was cleaned.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// A governor lives, or its lock cannot be asked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Pins cannot be removed; another governor may use them.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// The groups cannot be looked at.
    #[error("look for groups to remove")]
    Cgroup(#[from] CgroupError),
}

/// Leaves the host as it was before the first governor, as far as that is known.
pub fn cleanup(options: &DaemonOptions) -> Result<Cleaned, CleanupError> {
    let lock = Lock::beside(&options.socket)?;
    // First, so that nothing new is recorded while the rest is undone. Refused while a governor elsewhere uses the pins.
    let unpinned = unpin(options)?;
    let mut done = Cleaned::default();
    done.end_gate(&options.socket);
    done.done.extend(unpinned);
    done.done.extend(recover(&journal_beside(&options.socket)));
    done.end_fast(&mount_beside(&options.socket));
    let base = options.config.cgroup_base.clone();
    let tree = Tree::open(TreeOptions {
        base: base.map_or(CgroupBase::Auto, CgroupBase::Below),
        ..TreeOptions::default()
    })?;
    let jobs = open_jobs(&options.ledger, &mut done);
    for leftover in tree.leftovers()? {
        done.empty(&tree, &leftover, &jobs);
        let retired = tree.retire(&leftover.group);
        let removed = retired.removed.iter();
        done.done
            .extend(removed.map(|path| format!("removed {}", path.display())));
        done.left.extend(retired.left.iter().map(|error| chain(error)));
    }
    for job in jobs.iter().filter(|job| job.report.placement.groups.is_empty()) {
        done.put_back(&tree, job.key.0, job);
    }
    let retired = tree.cleanup();
    let removed = retired.removed.iter();
    done.done
        .extend(removed.map(|path| format!("removed {}", path.display())));
    done.left.extend(retired.left.iter().map(|error| chain(error)));
    drop(lock);
    let starts = super::Starts::beside(&options.socket);
    done.note(starts.path(), starts.forget());
    let spool = super::settings::spool_beside(&options.socket);
    done.note(&spool, spool::remove(&spool));
    for path in [options.socket.clone(), options.socket.with_extension("lock")] {
        done.remove(&path);
    }
    // A directory that others use is not empty, and then it stays.
    if let Some(directory) = options.socket.parent().filter(|dir| dir.ends_with("ffrtmp"))
        && std::fs::remove_dir(directory).is_ok()
    {
        done.done.push(format!("removed {}", directory.display()));
    }
    Ok(done)
}

/// Ends the kernel programs and removes their pins, and the mount where it is ours.
fn unpin(options: &DaemonOptions) -> Result<Vec<String>, PinsError> {
    let mut bases = vec![pins::default_base(&options.socket)];
    bases.extend(super::settings::pins_at(options));
    // An earlier configuration may have used a bpffs of our own before the host had one.
    bases.push(pins::own_base(&options.socket));
    bases.dedup();
    let mut done = Vec::new();
    for base in bases {
        if pins::remove_all(&base)? {
            done.push(format!(
                "removed {} with all pinned programs and maps",
                base.display()
            ));
        }
    }
    Ok(done)
}

/// The jobs the last governor of this boot left open: only they say where a process came from.
fn open_jobs(ledger: &LedgerAt, done: &mut Cleaned) -> Vec<JobView> {
    let LedgerAt::File(path) = ledger else {
        return Vec::new();
    };
    if !path.exists() {
        return Vec::new();
    }
    let opened = boot_id().map_err(|error| error.to_string()).and_then(|boot| {
        Ledger::open(path, &boot)
            .and_then(|ledger| {
                ledger
                    .reader()
                    .map_or(Ok(Vec::new()), |reader| reader.open_jobs())
            })
            .map_err(|error| chain(&error))
    });
    opened.unwrap_or_else(|why| {
        done.left.push(format!(
            "where processes came from is not known, because {} cannot be read: {why}",
            path.display()
        ));
        Vec::new()
    })
}

impl Cleaned {
    /// Unmounts the hierarchy that made placements fast.
    fn end_fast(&mut self, mount: &Path) {
        if mount.exists() {
            match fast::end(mount) {
                Ok(()) => self.done.push(format!("unmounted {}", mount.display())),
                Err(why) => self.left.push(why),
            }
        }
    }

    /// Ends an exec gate that outlived its governor.
    fn end_gate(&mut self, socket: &Path) {
        match Note::end(&Note::beside(socket)) {
            Ok(ended) => self.done.extend(ended),
            Err(why) => self.left.push(why),
        }
    }

    /// Tells what became of a file.
    fn note(&mut self, path: &Path, removed: std::io::Result<bool>) {
        match removed {
            Ok(true) => self.done.push(format!("removed {}", path.display())),
            Ok(false) => {}
            Err(error) => self.left.push(format!("{} stays: {error}", path.display())),
        }
    }

    /// Puts the processes of a job's group back where they came from, or beside our tree when nobody knows.
    fn empty(&mut self, tree: &Tree, leftover: &Leftover, jobs: &[JobView]) {
        let paths = leftover.group.paths();
        let of_group = |job: &&JobView| {
            job.report
                .placement
                .groups
                .iter()
                .any(|group| paths.contains(group))
        };
        let job = jobs.iter().find(of_group);
        for pid in &leftover.pids {
            // One that ended meanwhile needs nothing.
            let Ok(process) = Pinned::of_pid(*pid) else {
                continue;
            };
            match job {
                Some(job) if job.origin.is_some() => self.put_back(tree, process.key(), job),
                Some(_) | None => {
                    let origin = tree.beside();
                    let undone = tree.release(&[process.key()], &origin, &ffrtmp_api::Limits::default());
                    self.done.extend(undone.undone);
                    self.left.extend(undone.warnings);
                    self.left.push(format!(
                        "process {pid}: where it came from and its nice, disk priority and oom_score_adj of before are \
                         not known"
                    ));
                }
            }
        }
    }

    fn put_back(&mut self, tree: &Tree, key: ffrtmp_abi::ProcessKey, job: &JobView) {
        let Some(origin) = &job.origin else { return };
        let undone = tree.release(&[key], origin, &job.report.limits.asked);
        self.done.extend(undone.undone);
        self.left.extend(undone.warnings);
    }

    fn remove(&mut self, path: &Path) {
        let removed = match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        self.note(path, removed);
    }
}
