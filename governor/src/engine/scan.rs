//! Processes that ran before their rule did: one pass over the machine, at start and after a change of rules.
//!
//! The programs are attached and the filter written before the pass, so a process that starts meanwhile is told by its
//! exec; one that is seen by both is admitted once, because the map refuses the second.

use ffrtmp_abi::{ProcessKey, Record, TaskRow, decode, flag, state};

use crate::control::types::JobView;
use crate::core::event::{Event, ExitFacts, KernelUsage};
use crate::core::facts::{Found, ProcessFacts};
use crate::host::file::chain;
use crate::host::process::{Pinned, same_start, tick_ns};
use crate::host::procfs;

use super::ends::exit_facts;
use super::{Saved, Worker, clock};

impl Worker {
    /// Writes the kernel's filter from the rules, then looks for live processes they match.
    pub(super) fn sync_filter(&mut self) {
        if !self.intake.discover {
            return;
        }
        let (names, wide) = (self.brain.core.names(), self.brain.core.wide());
        if let Err(error) = self.brain.host.kernel.set_filter(&names, wide) {
            tracing::error!(%error, "the kernel's filter could not be written; new rules may see nothing");
        }
        self.brain.host.keep_spares(self.brain.core.pairs());
        self.scan();
    }

    /// One pass over all processes; those a rule may match are admitted and put before the core.
    pub(super) fn scan(&mut self) {
        if !self.intake.discover {
            return;
        }
        let mut rows = match self.brain.host.kernel.all_tasks() {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "live processes could not be listed; only new ones are found");
                return;
            }
        };
        // Parents first: what lives below a job belongs to it, and is no job of its own.
        rows.sort_by_key(|row| row.key.start);
        let (names, wide) = (self.brain.core.names(), self.brain.core.wide());
        for row in rows {
            if row.kernel_thread == 0 && row.member == 0 && row.key.pid != std::process::id() {
                self.consider(&row, &names, wide);
            }
        }
    }

    fn consider(&mut self, row: &TaskRow, names: &[String], wide: bool) {
        // Its parent may have been admitted a moment ago, and it with its parent.
        if self.brain.host.kernel.root_of(row.key).is_some() {
            return;
        }
        let Some(facts) = self.live_facts(row, Found::Adopted) else {
            return;
        };
        // Between its name and its arguments an exec shows none: it is about to be told, with them.
        if facts.argv.as_ref().is_none_or(Vec::is_empty) {
            return;
        }
        let comm = decode::text(&row.comm);
        let file = facts.filename.rsplit('/').next().unwrap_or_default();
        let known = |name: &&String| [facts.basename.as_str(), comm.as_str(), file].contains(&name.as_str());
        let facts = match names.iter().find(known).cloned() {
            Some(basename) => ProcessFacts { basename, ..facts },
            None if wide => facts,
            None => return,
        };
        let key = facts.key;
        match self.admit(row, 0) {
            Ok(true) => self.brain.feed(clock::boot_ns(), Event::Appeared(facts)),
            // Its own exec was told meanwhile.
            Ok(false) => {}
            Err(why) => {
                tracing::warn!(pid = key.pid, why, "a live process could not be adopted");
                self.intake.turned_away = true;
            }
        }
    }

    /// Puts a live process and its descendants into the kernel's maps and watches its descriptor. False when the maps
    /// had it already.
    pub(super) fn admit(&mut self, row: &TaskRow, flags: u32) -> Result<bool, String> {
        let record = Record {
            state: state::LIVE,
            flags: flag::ADOPTED | flag::WANT_BASELINE | flags,
            live: 1,
            processes: 1,
            uid: row.uid,
            ppid: row.ppid,
            exec_ns: row.key.start,
            comm: row.comm,
            ..Record::ZERO
        };
        let pinned = Pinned::open(row.key).map_err(|error| chain(&error))?;
        let kernel = &mut self.brain.host.kernel;
        if !kernel.adopt(row.key, &record).map_err(|error| chain(&error))? {
            return Ok(false);
        }
        kernel.close_over_children().map_err(|error| chain(&error))?;
        if self.brain.host.kernel.needs_watch() {
            self.watch_process(pinned);
        }
        Ok(true)
    }

    /// Takes up the jobs an earlier governor left open: those that live are followed on, those that ended meanwhile are
    /// closed as unobserved.
    pub(super) fn restore(&mut self, jobs: &[JobView]) {
        if jobs.is_empty() {
            return;
        }
        for job in jobs {
            self.brain.host.kernel.recognise(job.key.0);
        }
        let rows = self.brain.host.kernel.all_tasks().unwrap_or_default();
        for job in jobs {
            let key = job.key.0;
            let same = |row: &&TaskRow| row.key.pid == key.pid && same_start(key, row.key.start / tick_ns());
            let row = rows.iter().find(same).map(|row| TaskRow { key, ..*row });
            // A pinned record says more than the process that may have ended since.
            let followed = self.brain.host.kernel.record(key).is_some()
                || row.is_some_and(|row| self.admit(&row, 0).is_ok());
            self.brain.host.restore(job);
            let now = clock::boot_ns();
            let mut effects = Vec::new();
            self.brain.core.restore(now, job, &mut effects);
            self.brain.perform(effects);
            self.brain.outbox.limits.watch(key);
            if !followed {
                self.brain.feed(
                    now,
                    Event::Drained {
                        key,
                        usage: KernelUsage::default(),
                        at_ns: now,
                    },
                );
            }
        }
    }

    /// Takes up what the kernel recorded while no governor ran: first what the ring kept, because it has argv, then the
    /// map, which is the truth. What is on disk already is dropped before that.
    pub(super) fn resume(&mut self, saved: Option<Saved>) {
        if !self.brain.host.kernel.resumed() {
            return;
        }
        let records = self.brain.host.kernel.all_records();
        let keys: Vec<ProcessKey> = records.into_iter().map(|(key, _)| key).collect();
        let stored = saved.map_or_else(Vec::new, |saved| saved.0(&keys));
        for key in &stored {
            self.brain.core.forget_saved(*key);
            self.brain.host.kernel.remove(*key);
        }
        self.take_losses_as_answered();
        let entries = self.take_left() + self.resync();
        tracing::info!(
            records = keys.len(),
            stored = stored.len(),
            entries,
            "the kernel programs ran on while no governor did"
        );
    }

    /// Everything known of a live process. `None` when it went away meanwhile.
    pub(super) fn live_facts(&mut self, row: &TaskRow, found: Found) -> Option<ProcessFacts> {
        procfs::check_start(row.key).ok()?;
        let facts = procfs::read_facts(row.key.pid, found, self.brain.core.needs()).ok()?;
        // The kernel's own key is exact; the one from /proc has the precision of a tick.
        Some(ProcessFacts {
            key: row.key,
            started_ns: row.key.start,
            uid: row.uid,
            ..facts
        })
    }

    /// The descriptor of an adopted process says that it ended.
    pub(super) fn on_process_end(&mut self, process: &Pinned) {
        let key = process.key();
        let Some(record) = self.brain.host.kernel.record(key) else {
            return;
        };
        if record.state == state::EXITED {
            self.on_exit(key, record.exit_ns);
            return;
        }
        self.on_unrecorded_end(key, &record, process.exit_info().map(|info| info.status));
    }

    /// It passed its exit tracepoint before its record was in the map: the descriptor knows the status, at best.
    fn on_unrecorded_end(&mut self, key: ProcessKey, record: &Record, status: Option<i32>) {
        let now = clock::boot_ns();
        let unobserved = status
            .is_none()
            .then(|| "it ended while it was being adopted".to_owned());
        let exit = ExitFacts {
            at_ns: now,
            status,
            unobserved,
            ..exit_facts(&self.brain.host.kernel, key, record)
        };
        let usage = exit.usage;
        self.brain.feed(now, Event::Exited { key, exit, live: 0 });
        self.brain.feed(
            now,
            Event::Drained {
                key,
                usage,
                at_ns: now,
            },
        );
    }
}
