//! What the engine asks of a [`Follower`], as it asks the kernel's maps: records, members, every process.

use std::path::PathBuf;

use ffrtmp_abi::{Counter, ProcessKey, Record, TaskRow};

use super::super::procfs::descendants;
use super::{Follower, look, same_tick};

impl Follower {
    /// Basenames that are told, or everything when `wide`.
    pub fn set_filter(&mut self, names: &[String], wide: bool) {
        self.comms = names.iter().map(|name| look::padded(name.as_bytes())).collect();
        self.names = names.to_vec();
        self.wide = wide;
        self.discover = wide || !names.is_empty();
    }

    /// The record of a job. Its sums are not told: see [`crate::host::source::Source::usage`].
    pub fn record(&self, key: ProcessKey) -> Option<Record> {
        self.book.record(key)
    }

    /// Every record.
    pub fn records(&self) -> Vec<(ProcessKey, Record)> {
        self.book.records()
    }

    /// Wait status of a job's first process, or why it is not known.
    pub fn status(&self, key: ProcessKey) -> (Option<i32>, Option<String>) {
        self.book
            .end(key)
            .map_or((None, None), |end| (end.status, end.unobserved.clone()))
    }

    /// Drops a record.
    pub fn remove(&mut self, key: ProcessKey) {
        self.book.remove(key);
        self.homes.remove(&key);
        let book = &self.book;
        self.pinned.retain(|pid, _| book.member(*pid).is_some());
    }

    /// Makes a live process the first one of a job. False when it is one already.
    pub fn adopt(&mut self, key: ProcessKey, record: &Record) -> bool {
        let admitted = self.book.admit(key, *record);
        if admitted {
            self.pin(key);
        }
        admitted
    }

    /// The job that a live process belongs to.
    pub fn root_of(&self, key: ProcessKey) -> Option<ProcessKey> {
        let (member, root) = self.book.member(key.pid)?;
        same_tick(member, key).then_some(root)
    }

    /// Live processes of a job, those among them that nobody has told of yet.
    pub fn members_of(&self, root: ProcessKey) -> Vec<ProcessKey> {
        let told = self.book.members().into_iter();
        let mut keys: Vec<_> = told.filter(|(_, of)| *of == root).map(|(key, _)| key).collect();
        let untold = descendants(root.pid);
        let lives = self.root_of(root).is_some();
        keys.extend(
            untold
                .into_iter()
                .filter(|key| lives && self.book.member(key.pid).is_none()),
        );
        keys
    }

    /// The job's processes sit here from now on.
    pub fn housed(&mut self, root: ProcessKey, home: PathBuf) {
        self.homes.insert(root, home);
    }

    /// Makes every descendant of a member a member.
    pub fn close_over_children(&mut self) {
        let mut rows = self.all_tasks();
        // Parents first, so that one pass reaches every depth.
        rows.sort_by_key(|row| row.key.start);
        for row in rows.iter().filter(|row| row.member == 0) {
            if let Some((_, root)) = self.book.member(row.ppid) {
                self.join(row.key, root);
            }
        }
    }

    /// Every process of the machine. Members have the key they are known by.
    pub fn all_tasks(&self) -> Vec<TaskRow> {
        let mut rows = look::rows(|key| self.root_of(key).is_some());
        for row in rows.iter_mut().filter(|row| row.member != 0) {
            if let Some((key, _)) = self.book.member(row.key.pid) {
                row.key = key;
            }
        }
        rows
    }

    /// A counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.book.counts()[counter as usize]
    }
}
