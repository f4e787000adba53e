//! Which files the gate holds: those that the rules mean now, and those that an exec brought to light.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::unistd::User;

use super::files::{self, Program};
use super::wire::{FileId, Order};
use super::{Gate, Tree};
use crate::core::gate::{Choice, choices};

impl Gate {
    /// Brings files and groups to what the rules want now.
    pub fn sync(&mut self, tree: &Tree) {
        let paths = files::paths(&self.rules, &self.options.settings.directories);
        self.watch.follow(&paths);
        let programs = files::programs(&paths);
        self.wanted.clear();
        let mut gone: BTreeSet<FileId> = self.marked.keys().copied().collect();
        for program in programs {
            gone.remove(&program.id);
            self.mark(&program);
        }
        for file in gone {
            if let Some((path, _)) = self.marked.remove(&file) {
                // A file that was replaced has no name left to open it by, and nobody executes it anew.
                let open = files::open(&path).ok().filter(|program| program.id == file);
                let open = open.as_ref().map(|program| program.open.as_fd());
                self.send(&Order::Unmark { file }, open.as_slice());
            }
        }
        let wanted = self.wanted.clone();
        self.take_back(tree, |kind| !wanted.contains(&kind));
        self.refill(tree);
    }

    fn mark(&mut self, program: &Program) {
        let Program { path, id, open } = program;
        if self.never.contains(id) {
            let why = "it is the governor or the gate itself".to_owned();
            self.marked.insert(*id, (path.clone(), Some(why)));
            return;
        }
        let choices = self.choices(path);
        self.wanted
            .extend(choices.iter().filter_map(|choice| choice.kind));
        if choices.is_empty() {
            return;
        }
        self.marked
            .insert(*id, (path.clone(), Some("not answered yet".to_owned())));
        self.send(&Order::Mark { file: *id, choices }, &[open.as_fd()]);
    }

    fn choices(&mut self, path: &Path) -> Vec<Choice> {
        let uid_of = |name: &str| Some(User::from_name(name).ok()??.uid.as_raw());
        choices(&self.rules, &path.to_string_lossy(), &mut self.kinds, uid_of)
    }

    /// An exec was told that the gate did not hold: its file is marked for the next time.
    pub fn learn(&mut self, pid: u32, filename: &str, tree: &Tree) {
        if self.channel.is_none() || self.taken.contains_key(&pid) {
            return;
        }
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let known = files::id_of(&exe).is_none_or(|id| self.marked.contains_key(&id));
        if known || self.choices(filename.as_ref()).is_empty() {
            return;
        }
        if let Ok(program) = files::open(&exe) {
            self.mark(&Program {
                path: filename.into(),
                ..program
            });
            self.refill(tree);
        }
    }

    /// Where a file is meant by, when it is one that the gate holds.
    pub fn path_of(&self, file: FileId) -> Option<&Path> {
        self.marked.get(&file).map(|(path, _)| path.as_path())
    }

    /// The file that a process runs.
    pub fn runs(pid: u32) -> Option<FileId> {
        files::id_of(Path::new(&format!("/proc/{pid}/exe")))
    }

    /// A name changed in a directory of ours.
    pub fn on_change(&mut self, tree: &Tree) {
        if self.watch.take_changes() {
            self.sync(tree);
        }
    }
}
