//! Ends of processes, which wait while somebody is to be placed.
//!
//! To place a process takes a tenth of a millisecond and cannot wait, because it works outside its limits meanwhile. To see
//! off one that ended takes half a millisecond (its group's last figures, and the group's removal) and can. So ends are
//! taken from the ring with everything else and put aside, and between two of them the ring is looked at again.

use std::collections::VecDeque;

use ffrtmp_abi::{ExitEvent, ProcessKey, Record, decode, flag, state};
use nix::sys::epoll::EpollTimeout;

use super::{Worker, clock};
use crate::core::event::{Event, ExitFacts, Killer};
use crate::core::redact::harmless;
use crate::host::source::Source;

/// Ends seen off before commands and deadlines get their turn.
const TURN: usize = 64;
/// From so many on, ends are seen off without a look at the ring in between: their records take up room in the kernel.
const MANY: usize = 8_192;

/// What ended, in the order of the ring: a job's first process, or its last one. Its record says which.
#[derive(Debug, Default)]
pub(super) struct Ends(VecDeque<ExitEvent>);

impl Ends {
    pub(super) fn push(&mut self, end: ExitEvent) {
        self.0.push_back(end);
    }
}

impl Worker {
    /// How long the loop may sleep: not at all while something is to be done.
    pub(super) fn patience(&self) -> EpollTimeout {
        if self.intake.ends.0.is_empty() {
            self.brain.outbox.limits.patience()
        } else {
            EpollTimeout::ZERO
        }
    }

    /// Sees some of them off.
    pub(super) fn take_ends(&mut self) {
        for _ in 0..TURN {
            if !self.take_end() {
                return;
            }
            if self.intake.ends.0.len() < MANY {
                self.take_batch();
            }
        }
    }

    /// Sees all of them off. What comes after is for the next governor.
    pub(super) fn finish_ends(&mut self) {
        while self.take_end() {}
    }

    fn take_end(&mut self) -> bool {
        let Some(end) = self.intake.ends.0.pop_front() else {
            return false;
        };
        self.on_exit(end.header.root, end.header.at_ns);
        true
    }

    /// The first process of a job ended, as its record says, or now its last one too. The entry of the first one's exit may
    /// have been dropped, so either tells of both.
    pub(super) fn on_exit(&mut self, key: ProcessKey, at_ns: u64) {
        let Some(record) = self.brain.host.kernel.record(key) else {
            return;
        };
        if record.state != state::EXITED {
            return;
        }
        let now = clock::boot_ns();
        let exit = exit_facts(&self.brain.host.kernel, key, &record);
        let usage = exit.usage;
        self.brain.feed(
            now,
            Event::Exited {
                key,
                exit,
                live: record.live,
            },
        );
        if record.live == 0 {
            self.brain.feed(now, Event::Drained { key, usage, at_ns });
        }
    }
}

/// How a first process ended, from its record.
pub(super) fn exit_facts(source: &Source, key: ProcessKey, record: &Record) -> ExitFacts {
    let (status, unobserved) = source.status(key, record);
    let killer = (record.flags & flag::KILLER != 0).then(|| Killer {
        signal: record.kill_signal,
        pid: record.kill_pid,
        uid: record.kill_uid,
        comm: harmless(&decode::text(&record.kill_comm)),
        kernel: record.flags & flag::KILLER_KERNEL != 0,
    });
    ExitFacts {
        at_ns: record.exit_ns,
        status,
        unobserved,
        oom: record.flags & flag::OOM != 0,
        killer,
        usage: source.usage(record),
    }
}
