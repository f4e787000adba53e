//! Limits that the kernel announces: descriptors opened once a job is placed, and given up with its end.
//!
//! A limit is told of once while the job runs; then its descriptor is closed, because a job that lives at its limit would
//! wake us a hundred times a second. The record's last figures come from the group's counters.
//!
//! Nobody waits for a descriptor to be opened: that is done while the engine has nothing else to do, so that placements
//! come first. A job that ends before its turn is judged by its counters alone.

use std::collections::{HashMap, VecDeque};

use ffrtmp_abi::ProcessKey;
use nix::sys::epoll::{EpollEvent, EpollTimeout};

use super::watchdog::Watched;
use super::{Worker, clock};
use crate::core::event::Event;
use crate::host::Host;
use crate::host::cgroup::Announcer;

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct LimitWatch {
    /// Jobs whose descriptors are open, by their tokens.
    tokens: HashMap<ProcessKey, Vec<u64>>,
    /// Descriptors that could not be opened; those limits are told of at the end.
    pub(super) unwatched: u64,
}

/// Jobs that were placed and not watched yet, and those that ended.
#[derive(Debug, Default)]
pub struct LimitOrders {
    placed: VecDeque<ProcessKey>,
    ended: Vec<ProcessKey>,
}

impl LimitOrders {
    /// The job sits in its group; its limits are watched in the next quiet moment.
    pub fn watch(&mut self, key: ProcessKey) {
        self.placed.push_back(key);
    }

    /// The job's group goes away, or is left.
    pub fn forget(&mut self, key: ProcessKey) {
        self.ended.push(key);
    }

    /// How long the loop may sleep: not at all while somebody waits for a quiet moment.
    pub(super) fn patience(&self) -> EpollTimeout {
        if self.placed.is_empty() {
            EpollTimeout::NONE
        } else {
            EpollTimeout::ZERO
        }
    }
}

impl Worker {
    /// Gives up the descriptors of jobs that ended.
    pub(super) fn forget_limits(&mut self) {
        for key in std::mem::take(&mut self.brain.outbox.limits.ended) {
            self.close_announcers(key);
        }
    }

    /// Opens the descriptors of one job.
    pub(super) fn watch_limits_of_one(&mut self) {
        let Some(key) = self.brain.outbox.limits.placed.pop_front() else {
            return;
        };
        self.close_announcers(key);
        let (announcers, failed) = self.brain.host.announcers(key);
        self.limits.unwatched += failed;
        for announcer in announcers {
            let token = self.watchdog.next_token();
            if let Err(error) = self
                .epoll
                .add(&announcer, EpollEvent::new(announcer.interest(), token))
            {
                tracing::debug!(%error, pid = key.pid, "a limit is not announced; its counters tell at the end");
                self.limits.unwatched += 1;
                continue;
            }
            self.watchdog.add(Watched::Limit(key, announcer));
            self.limits.tokens.entry(key).or_default().push(token);
            // It may have been reached before anybody listened; reading arms the announcement as well.
            if let Some(Watched::Limit(key, announcer)) = self.watchdog.take(token) {
                self.on_limit(token, key, announcer);
            }
        }
    }

    /// The kernel announced something, or the group went away.
    pub(super) fn on_limit(&mut self, token: u64, key: ProcessKey, mut announcer: Announcer) {
        match announcer.read() {
            Ok(None) => {
                self.watchdog.put_back(token, Watched::Limit(key, announcer));
                return;
            }
            Ok(Some(breach)) => self
                .brain
                .feed(clock::boot_ns(), Event::LimitReached { key, breach }),
            Err(error) => tracing::debug!(%error, pid = key.pid, "the group of a limit went away"),
        }
        self.forget(&announcer);
    }

    fn close_announcers(&mut self, key: ProcessKey) {
        for token in self.limits.tokens.remove(&key).unwrap_or_default() {
            if let Some(Watched::Limit(_, announcer)) = self.watchdog.take(token) {
                self.forget(&announcer);
            }
        }
    }
}
