//! What the kernel programs tell, turned into events for the core.
//!
//! The ring says that something happened and carries argv; the map is the truth about exits. When the ring had to drop
//! entries the map is walked once, so a full ring costs argv and time, never a record.

use std::collections::HashMap;

use ffrtmp_abi::decode::{self, Entry, Exec};
use ffrtmp_abi::{Counter, ExitEvent, MoveEvent, ProcessKey, Record, flag, state};

use crate::core::event::{Event, ExitFacts, ForeignMove, KernelUsage, Killer};
use crate::core::facts::{Found, ProcessFacts};
use crate::core::redact::harmless;
use crate::host::procfs;

use super::{BATCH, Worker, clock};

/// Counters whose rise means that something was not told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    dropped: u64,
    refused: u64,
    child_lost: u64,
}

/// State of the intake.
#[derive(Debug)]
pub(super) struct Intake {
    /// Whether live processes are looked for.
    pub(super) discover: bool,
    /// Users by number; a name that changes while we run keeps its old spelling.
    users: HashMap<u32, Option<String>>,
    /// Losses already answered by a resync.
    answered: Losses,
    /// Entries that could not be decoded.
    pub(super) undecodable: u64,
    /// Walks over the map after a loss.
    pub(super) resyncs: u64,
    /// Taken from the ring and not handled yet; kept to reuse its memory.
    batch: Vec<Result<Entry, decode::DecodeError>>,
}

impl Intake {
    pub(super) fn new(discover: bool) -> Self {
        Self {
            discover,
            users: HashMap::new(),
            answered: Losses::default(),
            undecodable: 0,
            resyncs: 0,
            batch: Vec::new(),
        }
    }

    /// Name of a user.
    pub(super) fn user(&mut self, uid: u32) -> Option<String> {
        self.users
            .entry(uid)
            .or_insert_with(|| procfs::user_name(uid))
            .clone()
    }
}

impl Worker {
    /// Takes one batch from the ring. Level-triggered epoll comes back when more is there.
    pub(super) fn on_ring(&mut self) {
        let mut batch = std::mem::take(&mut self.intake.batch);
        self.brain.host.kernel.drain(BATCH, &mut batch);
        for entry in batch.drain(..) {
            match entry {
                Ok(Entry::Exec(exec)) => self.on_exec(&exec),
                Ok(Entry::Exit(exit)) => self.on_exit(exit.header.root, exit.header.at_ns),
                Ok(Entry::Drained(exit)) => self.on_drained(&exit),
                Ok(Entry::Move(moved)) => self.on_move(&moved),
                Err(error) => {
                    self.intake.undecodable += 1;
                    tracing::error!(%error, "a kernel record could not be decoded");
                }
            }
        }
        self.intake.batch = batch;
        self.answer_losses();
    }

    fn on_exec(&mut self, exec: &Exec) {
        let facts = self.exec_facts(exec);
        let event = if exec.member {
            Event::Reexeced {
                root: exec.header.header.root,
                facts,
            }
        } else {
            Event::Appeared(facts)
        };
        self.brain.feed(clock::boot_ns(), event);
    }

    fn exec_facts(&mut self, exec: &Exec) -> ProcessFacts {
        let header = &exec.header;
        let key = header.header.key;
        let filename = String::from_utf8_lossy(&exec.filename).into_owned();
        let argv = (header.argv_len > 0).then(|| {
            exec.argv
                .iter()
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect()
        });
        let mut facts = ProcessFacts {
            key,
            found: Found::Exec,
            started_ns: header.header.at_ns,
            ppid: header.ppid,
            uid: header.uid,
            user: self.intake.user(header.uid),
            basename: filename.rsplit('/').next().unwrap_or_default().to_owned(),
            filename,
            argv,
            parent: None,
            cwd: None,
            cgroup: None,
            container: None,
        };
        // A process that is gone already keeps what the kernel told.
        let _gone = procfs::complete(&mut facts, self.brain.core.needs());
        facts
    }

    /// The first process of a job ended, as its record says.
    pub(super) fn on_exit(&mut self, key: ProcessKey, at_ns: u64) {
        let Some(record) = self.brain.host.kernel.record(key) else {
            return;
        };
        if record.state != state::EXITED {
            return;
        }
        let now = clock::boot_ns();
        let exit = exit_facts(&record);
        self.brain.feed(
            now,
            Event::Exited {
                key,
                exit,
                live: record.live,
            },
        );
        if record.live == 0 {
            self.brain.feed(
                now,
                Event::Drained {
                    key,
                    usage: kernel_usage(&record),
                    at_ns,
                },
            );
        }
    }

    fn on_drained(&mut self, event: &ExitEvent) {
        let key = event.header.root;
        let Some(record) = self.brain.host.kernel.record(key) else {
            return;
        };
        // The entry of the first process's exit may have been dropped.
        if record.state == state::EXITED {
            self.on_exit(key, event.header.at_ns);
        }
    }

    fn on_move(&mut self, event: &MoveEvent) {
        let moved = Event::Moved {
            root: event.header.root,
            moved: ForeignMove {
                process: event.header.key,
                hierarchy: event.hierarchy,
                mover: event.mover,
                at_ns: event.header.at_ns,
            },
        };
        self.brain.feed(clock::boot_ns(), moved);
    }

    /// Walks the truth once when a counter says that something was not told.
    fn answer_losses(&mut self) {
        let counters = self.brain.host.kernel.counters();
        let losses = Losses {
            dropped: counters[Counter::Dropped as usize],
            refused: counters[Counter::Refused as usize],
            child_lost: counters[Counter::ChildLost as usize],
        };
        if losses == self.intake.answered {
            return;
        }
        let before = std::mem::replace(&mut self.intake.answered, losses);
        self.intake.resyncs += 1;
        tracing::warn!(?before, now = ?losses, "kernel events were lost; reading the record map");
        self.resync();
    }

    fn resync(&mut self) {
        for (key, record) in self.brain.host.kernel.all_records() {
            if !self.brain.core.knows(key) {
                let facts = self.record_facts(key, &record);
                self.brain.feed(clock::boot_ns(), Event::Appeared(facts));
            }
            if record.state == state::EXITED {
                self.on_exit(key, record.exit_ns);
            }
        }
        if let Err(error) = self.brain.host.kernel.close_over_children() {
            tracing::warn!(%error, "children of jobs could not be looked for");
        }
        self.scan();
    }

    /// What a record alone tells, completed from /proc while the process lives.
    fn record_facts(&mut self, key: ProcessKey, record: &Record) -> ProcessFacts {
        let name = self
            .brain
            .core
            .names()
            .into_iter()
            .nth((record.name as usize).wrapping_sub(1));
        let comm = decode::text(&record.comm);
        let needs = self.brain.core.needs();
        let live = procfs::check_start(key).and_then(|()| procfs::read_facts(key.pid, Found::Exec, needs));
        let told = ProcessFacts {
            key,
            found: Found::Exec,
            started_ns: record.exec_ns,
            ppid: record.ppid,
            uid: record.uid,
            user: self.intake.user(record.uid),
            basename: name.unwrap_or_else(|| comm.clone()),
            filename: comm,
            argv: None,
            parent: None,
            cwd: None,
            cgroup: None,
            container: None,
        };
        match live {
            Ok(live) => ProcessFacts {
                key,
                started_ns: told.started_ns,
                basename: told.basename,
                ..live
            },
            Err(_gone) => told,
        }
    }
}

/// How a first process ended, from its record.
pub(super) fn exit_facts(record: &Record) -> ExitFacts {
    let killer = (record.flags & flag::KILLER != 0).then(|| Killer {
        signal: record.kill_signal,
        pid: record.kill_pid,
        uid: record.kill_uid,
        comm: harmless(&decode::text(&record.kill_comm)),
        kernel: record.flags & flag::KILLER_KERNEL != 0,
    });
    ExitFacts {
        at_ns: record.exit_ns,
        status: Some(record.exit_code as i32),
        unobserved: None,
        oom: record.flags & flag::OOM != 0,
        killer,
        usage: kernel_usage(record),
    }
}

/// The sums of a record.
pub(super) fn kernel_usage(record: &Record) -> KernelUsage {
    KernelUsage {
        run_ns: Some(record.run_ns),
        utime_ns: Some(record.utime_ns),
        stime_ns: Some(record.stime_ns),
        read_bytes: Some(record.read_bytes),
        write_bytes: Some(record.write_bytes.saturating_sub(record.cancelled_bytes)),
        nvcsw: Some(record.nvcsw),
        nivcsw: Some(record.nivcsw),
        processes: Some(record.processes),
    }
}
