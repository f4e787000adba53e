//! Ceilings above the jobs: what the slice may use (the reserve) and what a lowered class may.
//!
//! Owns the list of files written and its journal beside the control socket, so that a governor that was killed leaves a
//! note of what is to be given back. Which limits are due is decided elsewhere; a file that somebody else has changed is
//! never touched again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ffrtmp_api::Limits;
use procfs::Current;
use serde::{Deserialize, Serialize};

use super::cgroup::{Ceiling, Held, Tree, give_back};
use crate::control::types::PolicyLine;
use crate::core::policy::{Machine, Reserve};
use crate::core::pressure::ClassOutcome;

/// Files by class; the slice stands under the empty name, which no class can have.
type Files = BTreeMap<String, Vec<Held>>;

/// The slice's place in [`Files`].
const SLICE: &str = "";

/// What is written on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Journal {
    held: Files,
}

/// Everything we hold above the jobs.
#[derive(Debug, Default)]
pub struct Ceilings {
    held: Files,
    /// Limits of the classes that are lowered.
    lowered: BTreeMap<String, Limits>,
    journal: Option<PathBuf>,
}

/// The journal that belongs to a control socket.
pub fn journal_beside(socket: &Path) -> PathBuf {
    socket.with_extension("ceilings.json")
}

/// The size of this machine. `None` when the kernel does not tell.
pub fn machine() -> Option<Machine> {
    let cpus = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok()??;
    Some(Machine {
        cpus: u32::try_from(cpus).ok()?,
        memory: procfs::Meminfo::current().ok()?.mem_total,
    })
}

impl Ceilings {
    /// Gives back what the journal of a dead governor names, and keeps our own from now on.
    pub fn open(journal: PathBuf) -> Self {
        for line in recover(&journal) {
            tracing::info!("of an earlier governor: {line}");
        }
        Self {
            journal: Some(journal),
            ..Self::default()
        }
    }

    /// Puts the ceiling on the slice that leaves the reserve to the rest of the host, in place of the one before.
    pub fn reserve(&mut self, tree: &Tree, reserve: Reserve, machine: Option<Machine>) -> Vec<PolicyLine> {
        self.lift(SLICE);
        let mut lines = Vec::new();
        if reserve == Reserve::default() {
            return lines;
        }
        let not = |text: String| PolicyLine {
            in_force: false,
            text,
        };
        let Some(machine) = machine else {
            let text = "the reserve is not enforced: the kernel does not tell how many CPUs and how much memory there is";
            return vec![not(text.to_owned())];
        };
        let (limits, wrong) = reserve.ceiling(machine);
        lines.extend(wrong.into_iter().map(not));
        let done = tree.hold(None, &limits);
        lines.extend(done.applied.iter().map(|limit| PolicyLine {
            in_force: true,
            text: format!(
                "{} of all jobs together: {} is {}",
                limit.limit, limit.target, limit.value
            ),
        }));
        lines.extend(done.warnings.iter().cloned().map(not));
        self.keep(SLICE, done);
        lines
    }

    /// Gives a class as a whole these limits in place of those it was given before; none gives all back.
    pub fn limit_class(&mut self, tree: &Tree, class: &str, limits: &Limits) -> ClassOutcome {
        let mut warnings = self.lift(class);
        self.lowered.remove(class);
        if *limits == Limits::default() {
            return ClassOutcome {
                applied: Vec::new(),
                warnings,
            };
        }
        self.lowered.insert(class.to_owned(), limits.clone());
        let done = tree.hold(Some(class), limits);
        warnings.extend(done.warnings.iter().cloned());
        let applied = done.applied.clone();
        self.keep(class, done);
        ClassOutcome { applied, warnings }
    }

    /// Before a job joins: a lowered class whose group was removed when it was empty has lost its limits.
    pub fn confirm(&mut self, tree: &Tree, class: &str) {
        let lost = |held: &Vec<Held>| held.iter().any(|held| !held.path.exists());
        if let Some(limits) = self.lowered.get(class)
            && self.held.get(class).is_none_or(lost)
        {
            let done = tree.hold(Some(class), limits);
            self.keep(class, done);
        }
    }

    /// The governor ends: lowered classes are lifted, because nobody would do it later; the reserve stays while jobs
    /// live, and its note stays with it.
    pub fn end(&mut self, jobs_live: bool) {
        let classes: Vec<String> = self.lowered.keys().cloned().collect();
        for class in classes {
            self.lift(&class);
            self.lowered.remove(&class);
        }
        if !jobs_live {
            self.lift(SLICE);
        } else if self.held.contains_key(SLICE) {
            tracing::info!("the reserve stays in force while jobs live");
        }
    }

    /// Gives back what is held for a class. Gives what could not be.
    fn lift(&mut self, class: &str) -> Vec<String> {
        let held = self.held.remove(class).unwrap_or_default();
        if held.is_empty() {
            return Vec::new();
        }
        let mut left = Vec::new();
        for outcome in all_back(&held) {
            match outcome {
                Ok(line) => tracing::debug!("{line}"),
                Err(why) => {
                    tracing::warn!("not given back: {why}");
                    left.push(why);
                }
            }
        }
        self.store();
        left
    }

    fn keep(&mut self, class: &str, done: Ceiling) {
        self.held.insert(class.to_owned(), done.held);
        self.store();
    }

    /// On a file system in memory, so it costs microseconds; and only pressure or a reload comes here.
    fn store(&self) {
        let Some(path) = &self.journal else { return };
        let held = &self.held;
        if held.values().all(Vec::is_empty) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %path.display(), "the list of ceilings stays");
                }
                _ => {}
            }
            return;
        }
        let journal = Journal { held: held.clone() };
        let written = serde_json::to_vec(&journal)
            .map_err(std::io::Error::from)
            .and_then(|text| std::fs::write(path, text));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "a governor that is killed now will not know its ceilings");
        }
    }
}

/// The last written first: on v1 a group must be lifted before its children.
fn all_back(held: &[Held]) -> impl Iterator<Item = Result<String, String>> + '_ {
    held.iter().rev().filter_map(|held| give_back(held).transpose())
}

/// Gives back everything a journal names and removes it. Gives a line for each file.
pub fn recover(journal: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read(journal) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    match serde_json::from_slice::<Journal>(&text) {
        // Classes first, then the slice that stands above them: names sort behind the empty one.
        Ok(found) => {
            for held in found.held.values().rev() {
                lines.extend(all_back(held).map(|outcome| match outcome {
                    Ok(line) => line,
                    Err(why) => format!("not given back: {why}"),
                }));
            }
        }
        Err(error) => lines.push(format!("{} is not understood: {error}", journal.display())),
    }
    if let Err(error) = std::fs::remove_file(journal) {
        lines.push(format!("{} stays: {error}", journal.display()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: PathBuf) -> Held {
        Held {
            path,
            before: "max 100000".to_owned(),
            ours: "50000 100000".to_owned(),
        }
    }

    #[test]
    fn what_a_killed_governor_noted_is_given_back_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, foreign) = (dir.path().join("cpu.max"), dir.path().join("other.max"));
        std::fs::write(&ours, "50000 100000").unwrap();
        std::fs::write(&foreign, "70000 100000").unwrap();
        let journal = journal_beside(&dir.path().join("governor.sock"));
        let mut dead = Ceilings {
            journal: Some(journal.clone()),
            ..Ceilings::default()
        };
        let done = Ceiling {
            held: vec![held(ours.clone()), held(foreign.clone())],
            ..Ceiling::default()
        };
        dead.keep("batch", done);
        let lines = recover(&journal);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("set to that by somebody else"), "{lines:?}");
        assert!(std::fs::read_to_string(&ours).unwrap().starts_with("max 100000"));
        assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "70000 100000");
        assert!(!journal.exists());
        assert_eq!(recover(&journal), [""; 0]);
    }

    #[test]
    fn a_journal_without_ceilings_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("j");
        let mut ceilings = Ceilings::open(journal.clone());
        ceilings.keep("batch", Ceiling::default());
        assert!(!journal.exists());
        ceilings.keep(
            "batch",
            Ceiling {
                held: vec![held("/nowhere/cpu.max".into())],
                ..Ceiling::default()
            },
        );
        assert!(journal.exists());
        assert_eq!(ceilings.lift("batch"), [""; 0]);
        assert!(!journal.exists());
    }

    #[test]
    fn this_machine_has_a_size() {
        let machine = machine().unwrap();
        assert!(machine.cpus >= 1 && machine.memory > 1 << 20);
    }
}
