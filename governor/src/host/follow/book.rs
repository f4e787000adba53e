//! The jobs of the lower tiers: what the kernel programs keep in their maps, kept here.
//!
//! The same [`Record`]s and the same [`Entry`]s as the kernel's, so that the engine reads both alike; figures that only
//! the programs can sum up stay zero here and are never shown (`Source::usage`). Touches nothing outside.

use std::collections::{HashMap, VecDeque};

use ffrtmp_abi::decode::{Entry, Exec};
use ffrtmp_abi::{
    COUNTERS, Counter, EXEC_MEMBER, ExecHeader, ExitEvent, Header, Kind, ProcessKey, Record, state,
};

/// How a process ended, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Boot-time clock, ns.
    pub(super) at_ns: u64,
    /// Wait status.
    pub(super) status: Option<i32>,
    /// Why the status is not known.
    pub(super) unobserved: Option<String>,
}

/// What an exec showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// Boot-time clock, ns.
    pub(super) at_ns: u64,
    /// Parent's pid.
    pub(super) ppid: u32,
    /// Real user.
    pub(super) uid: u32,
    /// Name of the process.
    pub(super) comm: [u8; ffrtmp_abi::COMM_LEN],
    /// Path as typed, as nearly as it is known.
    pub(super) filename: String,
    /// Arguments; none where they could not be read.
    pub(super) argv: Vec<Vec<u8>>,
}

/// A job's record, and what of its end the record has no room for.
#[derive(Debug)]
struct Kept {
    record: Record,
    end: End,
}

/// A live process of a job.
#[derive(Debug, Clone, Copy)]
struct Member {
    key: ProcessKey,
    root: ProcessKey,
}

/// Records, members, counters, and entries nobody has taken yet.
#[derive(Debug)]
pub(super) struct Book {
    /// Most records kept at once.
    capacity: usize,
    records: HashMap<ProcessKey, Kept>,
    /// Live processes of jobs, by pid.
    members: HashMap<u32, Member>,
    news: VecDeque<Entry>,
    counts: [u64; COUNTERS as usize],
}

impl Book {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity: capacity as usize,
            records: HashMap::new(),
            members: HashMap::new(),
            news: VecDeque::new(),
            counts: [0; COUNTERS as usize],
        }
    }

    pub(super) fn count(&mut self, what: Counter) {
        self.counts[what as usize] += 1;
    }

    pub(super) fn counts(&self) -> [u64; COUNTERS as usize] {
        self.counts
    }

    /// Entries since the last call.
    pub(super) fn take_news(&mut self) -> impl Iterator<Item = Entry> {
        self.news.drain(..)
    }

    pub(super) fn record(&self, key: ProcessKey) -> Option<Record> {
        self.records.get(&key).map(|kept| kept.record)
    }

    pub(super) fn records(&self) -> Vec<(ProcessKey, Record)> {
        self.records
            .iter()
            .map(|(key, kept)| (*key, kept.record))
            .collect()
    }

    /// How a job's first process ended.
    pub(super) fn end(&self, key: ProcessKey) -> Option<&End> {
        self.records.get(&key).map(|kept| &kept.end)
    }

    /// The live process with this pid, and its job.
    pub(super) fn member(&self, pid: u32) -> Option<(ProcessKey, ProcessKey)> {
        self.members.get(&pid).map(|member| (member.key, member.root))
    }

    /// Every live process of a job, and its job.
    pub(super) fn members(&self) -> Vec<(ProcessKey, ProcessKey)> {
        self.members
            .values()
            .map(|member| (member.key, member.root))
            .collect()
    }

    /// Makes a process the first of a job. False when it is one already, or when there is no room.
    pub(super) fn admit(&mut self, key: ProcessKey, record: Record) -> bool {
        if self.records.contains_key(&key) {
            return false;
        }
        if self.records.len() >= self.capacity {
            self.count(Counter::Refused);
            return false;
        }
        // A process that leaves the job it was born into leaves it one process fewer.
        if self.members.contains_key(&key.pid) {
            self.leave(
                key.pid,
                &End {
                    at_ns: record.exec_ns,
                    ..End::default()
                },
            );
        }
        let end = End::default();
        self.records.insert(key, Kept { record, end });
        self.members.insert(key.pid, Member { key, root: key });
        true
    }

    /// A process executed a program: the first one of a job from now on, unless it belongs to one.
    pub(super) fn on_exec(&mut self, key: ProcessKey, image: Image) {
        let member = self.members.get(&key.pid).copied();
        let root = member.map_or(key, |member| member.root);
        if member.is_some() {
            self.count(Counter::Reexec);
        } else {
            let record = Record {
                state: state::LIVE,
                live: 1,
                processes: 1,
                uid: image.uid,
                ppid: image.ppid,
                exec_ns: image.at_ns,
                comm: image.comm,
                ..Record::ZERO
            };
            if !self.admit(key, record) {
                return;
            }
            self.count(Counter::Admitted);
        }
        let key = member.map_or(key, |member| member.key);
        self.news
            .push_back(Entry::Exec(exec(key, root, member.is_some(), image)));
    }

    /// A process was made by one of a job.
    pub(super) fn join(&mut self, key: ProcessKey, root: ProcessKey) {
        let Some(kept) = self.records.get_mut(&root) else {
            return;
        };
        if self.members.contains_key(&key.pid) {
            return;
        }
        kept.record.live += 1;
        kept.record.processes += 1;
        self.members.insert(key.pid, Member { key, root });
    }

    /// A process of a job was made and is gone before it could be looked at.
    pub(super) fn passed_by(&mut self, root: ProcessKey) {
        if let Some(kept) = self.records.get_mut(&root) {
            kept.record.processes += 1;
        }
    }

    /// A process ended. Gives its job, if it belonged to one.
    pub(super) fn leave(&mut self, pid: u32, end: &End) -> Option<ProcessKey> {
        let Member { key, root } = self.members.remove(&pid)?;
        let kept = self.records.get_mut(&root)?;
        kept.record.live = kept.record.live.saturating_sub(1);
        let live = kept.record.live;
        let told = |kind: Kind| ExitEvent {
            header: header(kind, size_of::<ExitEvent>(), end.at_ns, key, root),
            live,
            pad: 0,
        };
        if key == root {
            kept.record.state = state::EXITED;
            kept.record.exit_ns = end.at_ns;
            kept.record.exit_code = end.status.unwrap_or_default().cast_unsigned();
            kept.end = end.clone();
            self.news.push_back(Entry::Exit(told(Kind::Exit)));
            self.count(Counter::Exited);
        }
        if live == 0 {
            self.news.push_back(Entry::Drained(told(Kind::Drained)));
            self.count(Counter::Drained);
        }
        Some(root)
    }

    /// Drops a record. Processes of the job that still live are no longer followed.
    pub(super) fn remove(&mut self, key: ProcessKey) {
        if self.records.remove(&key).is_some() {
            self.members.retain(|_, member| member.root != key);
        }
    }
}

fn header(kind: Kind, len: usize, at_ns: u64, key: ProcessKey, root: ProcessKey) -> Header {
    Header {
        kind: kind as u32,
        len: len as u32,
        at_ns,
        key,
        root,
    }
}

fn exec(key: ProcessKey, root: ProcessKey, member: bool, image: Image) -> Exec {
    let argv_len: usize = image.argv.iter().map(|arg| arg.len() + 1).sum();
    Exec {
        header: ExecHeader {
            header: header(Kind::Exec, size_of::<ExecHeader>(), image.at_ns, key, root),
            ppid: image.ppid,
            uid: image.uid,
            cgroup: 0,
            place: 0,
            exec_seq: 0,
            name: 0,
            flags: if member { EXEC_MEMBER } else { 0 },
            filename_len: image.filename.len() as u32,
            argv_len: argv_len as u32,
            pad: 0,
        },
        filename: image.filename.into_bytes(),
        argv: image.argv,
        argv_truncated: false,
        filename_truncated: false,
        member,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: ProcessKey = ProcessKey::new(7, 70);
    const CHILD: ProcessKey = ProcessKey::new(8, 80);

    fn told(book: &mut Book) -> Vec<String> {
        let line = |entry| match entry {
            Entry::Exec(exec) => format!("exec {} member {}", exec.header.header.key.pid, exec.member),
            Entry::Exit(exit) => format!("exit {} live {}", exit.header.key.pid, exit.live),
            Entry::Drained(exit) => format!("drained {}", exit.header.root.pid),
            Entry::Move(_) => "move".to_owned(),
        };
        book.take_news().map(line).collect()
    }

    fn end(at_ns: u64, status: Option<i32>) -> End {
        End {
            at_ns,
            status,
            unobserved: None,
        }
    }

    #[test]
    fn a_job_is_told_from_its_exec_to_its_last_process() {
        let mut book = Book::new(2);
        book.on_exec(ROOT, Image::default());
        book.join(CHILD, ROOT);
        book.join(CHILD, ROOT);
        book.on_exec(CHILD, Image::default());
        assert_eq!(book.member(8), Some((CHILD, ROOT)));
        assert_eq!(book.leave(7, &end(90, Some(256))), Some(ROOT));
        assert_eq!(book.leave(7, &end(91, None)), None, "an end comes once");
        assert_eq!(book.leave(8, &end(95, Some(0))), Some(ROOT));
        assert_eq!(
            told(&mut book),
            [
                "exec 7 member false",
                "exec 8 member true",
                "exit 7 live 1",
                "drained 7"
            ]
        );
        let record = book.record(ROOT).unwrap();
        assert_eq!(
            (record.state, record.live, record.processes),
            (state::EXITED, 0, 2)
        );
        assert_eq!(book.end(ROOT), Some(&end(90, Some(256))));
        book.remove(ROOT);
        assert!(book.record(ROOT).is_none() && book.members().is_empty());
    }

    #[test]
    fn a_process_that_becomes_a_job_of_its_own_leaves_the_one_it_was_born_into() {
        let mut book = Book::new(2);
        book.on_exec(ROOT, Image::default());
        book.join(CHILD, ROOT);
        assert!(book.admit(
            CHILD,
            Record {
                live: 1,
                processes: 1,
                ..Record::ZERO
            }
        ));
        assert_eq!(book.member(8), Some((CHILD, CHILD)));
        assert_eq!(book.record(ROOT).unwrap().live, 1);
        assert!(!book.admit(CHILD, Record::ZERO), "it is one already");
    }

    #[test]
    fn beyond_its_capacity_it_refuses_and_counts() {
        let mut book = Book::new(1);
        book.on_exec(ROOT, Image::default());
        book.on_exec(CHILD, Image::default());
        assert_eq!(told(&mut book), ["exec 7 member false"]);
        assert_eq!(book.counts()[Counter::Refused as usize], 1);
    }

    #[test]
    fn children_of_a_record_that_was_dropped_are_nobodys() {
        let mut book = Book::new(1);
        book.on_exec(ROOT, Image::default());
        book.join(CHILD, ROOT);
        book.remove(ROOT);
        book.join(ProcessKey::new(9, 90), ROOT);
        assert_eq!(book.member(8), None);
        assert_eq!(book.member(9), None);
    }
}
