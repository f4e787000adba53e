//! The lower tiers: processes followed from user space, because no program of ours may run in the kernel.
//!
//! [`Follower`] answers the questions that [`super::kernel::Kernel`] answers, from a book of its own that the proc
//! connector's messages (tier connector) or passes over /proc and process descriptors (tier scan) keep. Nothing here
//! decides anything, and what cannot be known here is absent with its reason, never zero.

mod answer;
mod book;
mod connector;
mod look;
pub mod message;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_abi::decode::{DecodeError, Entry};
use ffrtmp_abi::{COMM_LEN, Counter, ProcessKey};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;

use super::process::{Pinned, read_stat, same_start, tick_ns};
use crate::core::tier::Tier;
use crate::engine::clock;
use book::{Book, End};
use connector::Received;
pub use connector::{Connector, ConnectorError};
use message::News;

/// Tokens of the inner epoll that are no pid: pids end below 2^22.
const FEED: u64 = u64::MAX;

/// Who tells.
#[derive(Debug)]
enum Feed {
    /// The kernel, of every process.
    Connector(Connector),
    /// A timer; each beat asks for a pass over /proc.
    Beat(TimerFd),
}

/// The processes of jobs, as far as user space can follow them.
#[derive(Debug)]
pub struct Follower {
    feed: Feed,
    book: Book,
    /// The feed, and the descriptors of processes whose end nobody else tells.
    epoll: Epoll,
    /// Descriptors of live processes of jobs: in tier scan of all of them, else of first processes.
    pinned: HashMap<u32, Pinned>,
    /// First directories of jobs' groups: who sits there belongs to the job.
    homes: HashMap<ProcessKey, PathBuf>,
    names: Vec<String>,
    /// The names as /proc shows them.
    comms: HashSet<[u8; COMM_LEN]>,
    wide: bool,
    discover: bool,
    /// Whether the status of a process that ended and was not reaped may be read.
    reads_ends: bool,
    /// Messages were dropped, and the members have not been looked at since.
    lossy: bool,
    /// A pass over /proc is due.
    pass_due: bool,
    /// Execs whose process was gone before it had a name.
    vanished: u64,
}

impl Follower {
    /// Follows by the connector.
    pub fn by_connector(connector: Connector, capacity: u32) -> io::Result<Self> {
        Self::new(Feed::Connector(connector), capacity)
    }

    /// Follows by a pass over /proc every `interval`, and by process descriptors in between.
    pub fn by_scan(interval: Duration, capacity: u32) -> io::Result<Self> {
        let timer = TimerFd::new(
            ClockId::CLOCK_BOOTTIME,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        timer.set(Expiration::Interval(interval.into()), TimerSetTimeFlags::empty())?;
        Self::new(Feed::Beat(timer), capacity)
    }

    fn new(feed: Feed, capacity: u32) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, FEED);
        match &feed {
            Feed::Connector(connector) => epoll.add(connector, readable)?,
            Feed::Beat(timer) => epoll.add(timer.as_fd(), readable)?,
        }
        Ok(Self {
            feed,
            book: Book::new(capacity),
            epoll,
            pinned: HashMap::new(),
            homes: HashMap::new(),
            names: Vec::new(),
            comms: HashSet::new(),
            wide: false,
            discover: false,
            reads_ends: may_trace(),
            lossy: false,
            pass_due: false,
            vanished: 0,
        })
    }

    /// Which tier this is.
    pub fn tier(&self) -> Tier {
        match self.feed {
            Feed::Connector(_) => Tier::Connector,
            Feed::Beat(_) => Tier::Scan,
        }
    }

    /// Descriptor that becomes readable when there is something to [`Self::drain`].
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Execs whose process was gone before it had a name.
    pub fn vanished(&self) -> u64 {
        self.vanished
    }

    /// True once after each beat of the timer.
    pub fn take_pass_due(&mut self) -> bool {
        std::mem::take(&mut self.pass_due)
    }

    /// Handles at most `limit` messages and the ends of watched processes, and adds what came of them. Gives the larger of
    /// both counts; less than `limit` means that nothing more was there.
    pub fn drain(&mut self, limit: usize, entries: &mut Vec<Result<Entry, DecodeError>>) -> usize {
        let heard = match &self.feed {
            Feed::Connector(_) => self.hear(limit),
            Feed::Beat(timer) => {
                // Reading clears it; how many beats were missed does not matter.
                self.pass_due |= nix::unistd::read(timer, &mut [0; 8]).is_ok();
                0
            }
        };
        if heard < limit {
            self.reap();
        }
        let before = entries.len();
        entries.extend(self.book.take_news().map(Ok));
        heard.max(entries.len() - before)
    }

    fn hear(&mut self, limit: usize) -> usize {
        let mut heard = 0;
        // The connector stamps with a clock that stands still while the machine sleeps.
        let slept_ns = slept_ns();
        while heard < limit {
            let Feed::Connector(connector) = &mut self.feed else {
                break;
            };
            match connector.receive() {
                Ok(Received::Datagram) => {
                    heard += 1;
                    for message in connector.messages() {
                        self.on_news(message.news, message.at_ns + slept_ns);
                    }
                }
                Ok(Received::Lost) => {
                    self.book.count(Counter::Dropped);
                    self.lossy = true;
                }
                Ok(Received::Dry) => {
                    if std::mem::take(&mut self.lossy) {
                        self.look_for_ends();
                    }
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "the process connector cannot be read");
                    break;
                }
            }
        }
        heard
    }

    fn on_news(&mut self, news: News, at_ns: u64) {
        match news {
            News::Execed { pid } => self.on_exec(pid, at_ns),
            News::Forked { parent, child } => self.on_fork(parent, child),
            News::Exited { pid, status } => self.on_exit(pid, status, at_ns),
            News::Answer(_) | News::Other => {}
        }
    }

    fn on_exec(&mut self, pid: u32, at_ns: u64) {
        let member = self.book.member(pid);
        if member.is_none() {
            if !self.discover {
                return;
            }
            let Some(comm) = look::comm(pid) else {
                self.vanished += 1;
                return;
            };
            if !self.wide && !self.comms.contains(&comm) {
                return;
            }
            self.book.count(Counter::Seen);
        }
        let Some((key, image)) = look::image(pid, at_ns) else {
            self.vanished += u64::from(member.is_none());
            return;
        };
        let known = member.is_some_and(|(member, _)| same_tick(member, key));
        if member.is_some() && !known {
            // Its end was lost, and its pid is another's.
            self.end_unseen(pid);
        }
        let name = image.filename.rsplit('/').next().unwrap_or_default();
        if !known && !self.wide && !self.names.iter().any(|one| one == name) {
            return;
        }
        self.book.on_exec(key, image);
        if !known && self.book.record(key).is_some() {
            self.pin(key);
        }
    }

    fn on_fork(&mut self, parent: u32, child: u32) {
        let Some((parent, root)) = self.book.member(parent) else {
            return;
        };
        // A parent that is gone is the one we knew; a pid that passed to another since is not.
        if look::key(parent.pid).is_some_and(|found| !same_tick(found, parent)) {
            return;
        }
        match look::key(child) {
            Some(key) => self.join(key, root),
            None => self.book.passed_by(root),
        }
    }

    fn on_exit(&mut self, pid: u32, status: i32, at_ns: u64) {
        let Some((key, _)) = self.book.member(pid) else {
            return;
        };
        if look::has_ended(key) {
            let end = End {
                at_ns,
                status: Some(status),
                unobserved: None,
            };
            self.end(pid, &end);
        } else {
            // The first thread ended and others go on: the descriptor tells when they have.
            self.watch(key);
        }
    }

    fn join(&mut self, key: ProcessKey, root: ProcessKey) {
        self.book.join(key, root);
        if self.tier() == Tier::Scan {
            self.watch(key);
        }
    }

    /// Holds a first process, so that its status can be asked for after its end.
    fn pin(&mut self, key: ProcessKey) {
        if self.tier() == Tier::Scan {
            self.watch(key);
        } else if let Ok(pinned) = Pinned::open(key) {
            self.pinned.insert(key.pid, pinned);
        }
    }

    /// Has the end of a process told by its descriptor.
    fn watch(&mut self, key: ProcessKey) {
        let watched = Pinned::open(key)
            .map_err(|error| error.to_string())
            .and_then(|pinned| {
                let readable = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(key.pid));
                self.epoll
                    .add(&pinned, readable)
                    .map_err(|error| error.to_string())?;
                Ok(pinned)
            });
        match watched {
            Ok(pinned) => drop(self.pinned.insert(key.pid, pinned)),
            Err(_) if look::has_ended(key) => self.end_unseen(key.pid),
            Err(why) => tracing::warn!(pid = key.pid, why, "the end of a process will not be told"),
        }
    }

    /// Ends of watched processes.
    fn reap(&mut self) {
        let mut ready = [EpollEvent::empty(); 64];
        loop {
            let count = self.epoll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
            let mut ended = 0;
            for event in &ready[..count] {
                if let Ok(pid) = u32::try_from(event.data()) {
                    ended += 1;
                    self.end_unseen(pid);
                    // Whatever was known of it, its descriptor must not report for ever.
                    self.pinned.remove(&pid);
                }
            }
            if ended == 0 {
                return;
            }
        }
    }

    /// Members whose end was lost. After a loss the members are the only ones who can tell.
    fn look_for_ends(&mut self) {
        for (key, _) in self.book.members() {
            if look::has_ended(key) {
                self.end_unseen(key.pid);
            }
        }
    }

    fn end_unseen(&mut self, pid: u32) {
        let end = self.unseen_end(pid);
        self.end(pid, &end);
    }

    /// A process is gone: so far as its status can still be asked for, it is.
    fn unseen_end(&self, pid: u32) -> End {
        let status = self.book.member(pid).and_then(|(key, _)| self.last_status(key));
        let why = match self.tier() {
            Tier::Scan => "scan: its parent took the status before it could be read",
            Tier::Connector | Tier::Kernel => "the process connector dropped its exit",
        };
        End {
            at_ns: clock::boot_ns(),
            status,
            unobserved: status.is_none().then(|| why.to_owned()),
        }
    }

    /// The status of a process that ended: from its /proc entry until its parent has taken it, then from its descriptor.
    fn last_status(&self, key: ProcessKey) -> Option<i32> {
        let zombie = read_stat(key.pid)
            .ok()
            .filter(|stat| self.reads_ends && stat.state == 'Z' && same_start(key, stat.starttime));
        let descriptor = || Some(self.pinned.get(&key.pid)?.exit_info()?.status);
        zombie.and_then(|stat| stat.exit_code).or_else(descriptor)
    }

    fn end(&mut self, pid: u32, end: &End) {
        if let Some((key, root)) = self.book.member(pid)
            && key == root
        {
            self.gather(root);
        }
        self.book.leave(pid, end);
        self.pinned.remove(&pid);
    }

    /// Children that were made since the last look, and whose parent is about to be forgotten, are in the job's group.
    fn gather(&mut self, root: ProcessKey) {
        let Some(home) = self.homes.get(&root) else { return };
        let text = std::fs::read_to_string(home.join("cgroup.procs")).unwrap_or_default();
        for pid in text.lines().filter_map(|line| line.parse().ok()) {
            if let Some(key) = look::key(pid).filter(|key| !look::has_ended(*key)) {
                self.join(key, root);
            }
        }
    }
}

/// Start times of one process may be known to the nanosecond or to the tick.
fn same_tick(one: ProcessKey, other: ProcessKey) -> bool {
    one.pid == other.pid && one.start / tick_ns() == other.start / tick_ns()
}

/// How much the boot-time clock is ahead of the monotonic one, ns.
fn slept_ns() -> u64 {
    let monotonic = clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
    });
    clock::boot_ns().saturating_sub(monotonic)
}

/// True with `CAP_SYS_PTRACE`, without which /proc shows every exit status of strangers as 0.
fn may_trace() -> bool {
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    procfs::process::Process::myself()
        .and_then(|me| me.status())
        .is_ok_and(|status| status.capeff & CAP_SYS_PTRACE != 0)
}
