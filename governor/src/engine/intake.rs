//! What the kernel programs tell, turned into events for the core.
//!
//! The ring says that something happened and carries argv; the map is the truth about exits. When the ring had to drop
//! entries the map is walked once, so a full ring costs argv and time, never a record.

use std::collections::HashMap;
use std::sync::Arc;

use ffrtmp_abi::decode::{self, Entry, Exec};
use ffrtmp_abi::{Counter, MoveEvent, ProcessKey, Record, state};

use crate::core::event::{Event, ForeignMove};
use crate::core::facts::{Found, ProcessFacts};
use crate::host::procfs;

use super::ends::Ends;
use super::places::Places;
use super::{BATCH, Worker, clock};

/// Most entries of a backlog looked at together: with an exec and an exit each, half as many processes.
const BACKLOG: usize = 65_536;

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
    /// What is known of where processes sit.
    places: Places,
    /// A live process found no room in the record map; it is looked for again when there is some.
    pub(super) turned_away: bool,
    /// Taken from the ring, and not handled until nobody waits to be placed.
    pub(super) ends: Ends,
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
            places: Places::default(),
            turned_away: false,
            ends: Ends::default(),
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
    /// Takes one batch from the ring, all but its ends. Level-triggered epoll comes back when more is there.
    pub(super) fn on_ring(&mut self) {
        self.take_batch();
        self.answer_losses();
        if self.brain.host.kernel.take_pass_due() {
            self.close_over_children();
            self.scan();
        }
    }

    /// Everything that is in the ring now.
    fn take_all(&mut self) -> usize {
        let mut all = 0;
        loop {
            let taken = self.take_batch();
            all += taken;
            if taken < BATCH {
                return all;
            }
        }
    }

    /// Takes one batch and says how many entries it had.
    pub(super) fn take_batch(&mut self) -> usize {
        let mut batch = std::mem::take(&mut self.intake.batch);
        let mut taken = self.brain.host.kernel.drain(BATCH, &mut batch);
        if taken == 0 {
            self.intake.batch = batch;
            return 0;
        }
        if taken == BATCH {
            taken += self.brain.host.kernel.drain(BACKLOG, &mut batch);
            self.living_first(&mut batch);
        }
        // Reports are sent before the exec goes on, so those of this batch are there.
        self.drain_gate();
        for entry in batch.drain(..) {
            match entry {
                Ok(Entry::Exec(exec)) => self.on_exec(&exec),
                Ok(Entry::Exit(exit) | Entry::Drained(exit)) => self.intake.ends.push(exit),
                Ok(Entry::Move(moved)) => self.on_move(&moved),
                Err(error) => {
                    self.intake.undecodable += 1;
                    tracing::error!(%error, "a kernel record could not be decoded");
                }
            }
        }
        // A backlog's memory is not kept for the next one.
        batch.shrink_to(BATCH);
        self.intake.batch = batch;
        self.settle();
        taken
    }

    /// After a stall those who still live come first: only they can be placed, and the dead are in no hurry. A process's
    /// own entries keep their order, because its first exec is the first of them.
    fn living_first(&self, batch: &mut [Result<Entry, decode::DecodeError>]) {
        batch.sort_by_cached_key(|entry| match entry {
            Ok(Entry::Exec(exec)) if !exec.member => {
                let record = self.brain.host.kernel.record(exec.header.header.key);
                record.is_none_or(|record| record.state == state::EXITED)
            }
            _ => true,
        });
    }

    /// Lets go of arguments that are on disk by now.
    pub(super) fn settle(&mut self) {
        if let Some(ledger) = &self.ledger {
            self.brain
                .host
                .kernel
                .settle(self.brain.outbox.sent, ledger.written());
        }
    }

    /// What an earlier governor had taken from the ring. A process without a record was saved or let go by it.
    pub(super) fn take_left(&mut self) -> usize {
        let left = self.brain.host.kernel.left_entries();
        let mut taken = 0;
        for entry in left.into_iter().filter_map(Result::ok) {
            if let Entry::Exec(exec) = entry
                && self.brain.host.kernel.record(exec.header.header.root).is_some()
            {
                taken += 1;
                self.on_exec(&exec);
            }
        }
        taken
    }

    pub(super) fn on_exec(&mut self, exec: &Exec) {
        let facts = self.exec_facts(exec);
        let key = facts.key;
        if exec.member {
            self.brain.host.put_back(key.pid);
        } else {
            self.learn_program(&facts);
        }
        let event = if exec.member {
            Event::Reexeced {
                root: exec.header.header.root,
                facts,
            }
        } else {
            Event::Appeared(facts)
        };
        self.brain.feed(clock::boot_ns(), event);
        self.brain.host.sits = None;
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
        self.complete(&mut facts, if exec.member { 0 } else { header.place });
        self.before_the_gate(&mut facts);
        facts
    }

    /// Adds what the kernel did not tell. A place that is known needs no look at /proc.
    fn complete(&mut self, facts: &mut ProcessFacts, place: u64) {
        let needs = self.brain.core.needs();
        let own = needs.parent || needs.cwd;
        if !own && let Some(listed) = self.intake.places.fill(place, needs.namespaces, facts) {
            self.brain.host.sits = Some((facts.key, listed));
            return;
        }
        // A process that is gone already keeps what the kernel told.
        let Ok(Some(listed)) = procfs::complete(facts, needs) else {
            return;
        };
        let listed = Arc::new(listed);
        self.brain.host.sits = Some((facts.key, Arc::clone(&listed)));
        // One that we had moved says nothing of where it executed.
        let moved = self
            .brain
            .host
            .gate
            .as_ref()
            .is_some_and(|gate| gate.taken(facts.key.pid).is_some());
        if !moved && !self.brain.core.knows(facts.key) && self.brain.host.tree.has_v2() {
            self.intake.places.learn(place, needs.namespaces, facts, listed);
        }
    }

    fn on_move(&mut self, event: &MoveEvent) {
        self.intake.places.forget();
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
        let losses = self.losses();
        if losses == self.intake.answered {
            return;
        }
        let before = std::mem::replace(&mut self.intake.answered, losses);
        self.intake.resyncs += 1;
        tracing::warn!(?before, now = ?losses, "kernel events were lost; reading the record map");
        self.resync();
    }

    /// Reads the record map, which is the truth. The ring is emptied after the walk and before anybody is judged: a
    /// record is older than its entry, so every process of the walk that has ended has its arguments there. Gives the
    /// number of entries that were in the ring.
    pub(super) fn resync(&mut self) -> usize {
        let records = self.brain.host.kernel.all_records();
        let entries = self.take_all();
        for (key, _then) in records {
            // What was saved and dropped since the walk must not come back.
            let Some(record) = self.brain.host.kernel.record(key) else {
                continue;
            };
            if !self.brain.core.knows(key) {
                let facts = self.record_facts(key, &record);
                self.brain.feed(clock::boot_ns(), Event::Appeared(facts));
            }
            if record.state == state::EXITED {
                self.on_exit(key, record.exit_ns);
            }
        }
        self.close_over_children();
        self.scan();
        entries
    }

    fn close_over_children(&mut self) {
        if let Err(error) = self.brain.host.kernel.close_over_children() {
            tracing::warn!(%error, "children of jobs could not be looked for");
        }
    }

    /// Losses that an earlier governor has seen, or that this start answers anyway.
    pub(super) fn take_losses_as_answered(&mut self) {
        self.intake.answered = self.losses();
        if self.intake.answered != Losses::default() {
            tracing::warn!(
                losses = ?self.intake.answered,
                "the kernel programs could not take in everything since they were loaded; what lives is looked for now"
            );
        }
    }

    fn losses(&self) -> Losses {
        let kernel = &self.brain.host.kernel;
        Losses {
            dropped: kernel.counter(Counter::Dropped),
            refused: kernel.counter(Counter::Refused),
            child_lost: kernel.counter(Counter::ChildLost),
        }
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
