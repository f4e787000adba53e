//! The process `ffrtmp-gate`: holds execs of marked files until their process sits in a group.
//!
//! It never forks, opens no file on disk, and asks nobody: what it needs it was given beforehand (which files, which
//! groups) or reads from /proc. Whatever goes wrong, the exec goes on. The report is sent before the answer, so that the
//! governor has it before it hears of the exec.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ffrtmp_abi::ProcessKey;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::{FromRead, ProcessCGroups};

use super::event::{Doorman, Held};
use super::wire::{Channel, Counts, FileId, Order, Placed, Report};
use super::{BUDGET, armour};
use crate::core::facts::{Found, ProcessFacts};
use crate::core::gate::Choice;
use crate::core::rule::Needs;
use crate::core::unit;
use crate::engine::clock;
use crate::host::container;
use crate::host::file;
use crate::host::process::read_stat;
use crate::host::procfs::{main_group, read_comm, read_uid};

/// How long an exec may wait for those before it. With the longest budget that makes less than a second.
const QUEUE_MAX: Duration = Duration::from_millis(450);

/// After how long counts are told that could not be told at once.
const TELL_AGAIN_MS: u16 = 100;

/// Descriptors kept free for events: an exec whose event gets none is refused by the kernel.
const DESCRIPTORS_SPARED: usize = 64;

/// A marked file.
#[derive(Debug)]
struct Marked {
    choices: Vec<Choice>,
    needs: Needs,
    owner: bool,
}

/// A group under its limits.
#[derive(Debug)]
struct Ready {
    seq: u64,
    procs: Vec<OwnedFd>,
}

/// Why an exec is let run as it is.
enum Left {
    Inside,
    Elsewhere,
    Unwanted,
    NoGroup,
    Refused,
    /// It was killed while it waited.
    Gone,
}

#[derive(Debug)]
struct Holder {
    channel: Channel,
    doorman: Arc<Doorman>,
    marked: HashMap<FileId, Marked>,
    ready: HashMap<u32, VecDeque<Ready>>,
    ours: Vec<(u32, String)>,
    systemd: bool,
    budget: Duration,
    /// Kinds that a wait was in vain for; nobody waits again before one comes.
    starved: HashSet<u32>,
    descriptors: usize,
    descriptors_max: usize,
    counts: Counts,
    told: Counts,
    /// Told with the next move: nothing is told between an answer and the look for the next event.
    previous_ns: Option<u64>,
}

/// Runs until the governor is gone. The channel to it is `stdin`.
pub fn hold() -> io::Result<()> {
    let mut lacks = armour::put_on();
    let channel = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    // Reads what is the machine's own now, not at the first exec.
    let _warm = container::of(std::process::id(), None, true);
    let doorman = Doorman::start().inspect_err(|error| {
        let why =
            format!("able to hold execs; grant CAP_SYS_ADMIN, see deploy/systemd/exec-gate.conf: {error}");
        // Without a governor nobody needs to know.
        let _gone = channel.send(&Report::Armed { lacks: vec![why] }, &[]);
    })?;
    lacks.extend(armour::lock_memory().err());
    channel.send(&Report::Armed { lacks }, &[])?;
    let mut holder = Holder {
        channel,
        doorman,
        marked: HashMap::new(),
        ready: HashMap::new(),
        ours: Vec::new(),
        systemd: false,
        budget: BUDGET,
        starved: HashSet::new(),
        descriptors: 0,
        descriptors_max: armour::descriptors_max().saturating_sub(DESCRIPTORS_SPARED),
        counts: Counts::default(),
        told: Counts::default(),
        previous_ns: None,
    };
    holder.run()
}

impl Holder {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let doorman = Arc::clone(&self.doorman);
            let mut fds = [
                PollFd::new(doorman.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
            ];
            // A governor that was too busy to take the last counts is told them a little later.
            let timeout = if self.counts == self.told {
                PollTimeout::NONE
            } else {
                PollTimeout::from(TELL_AGAIN_MS)
            };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.take_orders()?;
            while let Some(held) = doorman.next(self.budget)? {
                self.counts.held += 1;
                let placed = self.counts.placed;
                // Behind slow moves a queue grows; who waited long enough waits no longer.
                let left = if held.queued < QUEUE_MAX {
                    self.place(&held)
                } else {
                    self.counts.timeouts += 1;
                    Ok(())
                };
                let (since, placed) = (held.since, self.counts.placed != placed);
                self.counts.timeouts += doorman.allow(held);
                if placed {
                    self.previous_ns = Some(since.elapsed().as_nanos() as u64);
                }
                self.count(left.err().as_ref());
                self.take_orders()?;
            }
            self.tell_counts();
        }
    }

    fn count(&mut self, left: Option<&Left>) {
        match left {
            None | Some(Left::Gone) => {}
            Some(Left::Inside) => self.counts.inside += 1,
            Some(Left::Elsewhere) => self.counts.elsewhere += 1,
            Some(Left::Unwanted) => self.counts.unwanted += 1,
            Some(Left::NoGroup) => self.counts.no_group += 1,
            Some(Left::Refused) => self.counts.refused += 1,
        }
    }

    /// A full buffer is no reason to wait: the next look tells.
    fn tell_counts(&mut self) {
        if self.counts != self.told && self.channel.send(&Report::Counts(self.counts), &[]).is_ok() {
            self.told = self.counts;
        }
    }

    fn take_orders(&mut self) -> io::Result<()> {
        while let Some((order, descriptors)) = self.channel.receive()? {
            self.obey(order, descriptors);
        }
        Ok(())
    }

    fn obey(&mut self, order: Order, mut descriptors: Vec<OwnedFd>) {
        match order {
            Order::Settings {
                ours,
                systemd,
                budget,
            } => {
                self.ours = ours;
                self.systemd = systemd;
                self.budget = budget;
            }
            Order::Mark { file, choices } => {
                let error = match descriptors.pop() {
                    Some(open) => self.doorman.mark(open.as_fd()).err(),
                    None => Some(Errno::EBADF),
                };
                if error.is_none() {
                    let marked = Marked {
                        needs: Choice::needs(&choices),
                        owner: Choice::needs_owner(&choices),
                        choices,
                    };
                    self.marked.insert(file, marked);
                }
                let error = error.map(|error| error as i32);
                // Told again with the next change; the exec event does without.
                let _full = self.channel.send(&Report::Marked { file, error }, &[]);
            }
            Order::Unmark { file } => {
                self.marked.remove(&file);
                if let Some(open) = descriptors.pop() {
                    // A file that is not marked any more needs nothing.
                    let _unmarked = self.doorman.unmark(open.as_fd());
                }
            }
            Order::Ready { kind, seq } => {
                if self.descriptors + descriptors.len() <= self.descriptors_max && !descriptors.is_empty() {
                    self.descriptors += descriptors.len();
                    let procs = descriptors;
                    self.starved.remove(&kind);
                    self.ready
                        .entry(kind)
                        .or_default()
                        .push_back(Ready { seq, procs });
                }
            }
            Order::Forget { kind } => {
                for gone in self.ready.remove(&kind).unwrap_or_default() {
                    self.descriptors -= gone.procs.len();
                }
            }
        }
    }

    fn place(&mut self, held: &Held) -> Result<(), Left> {
        let pid = held.pid;
        let marked = held.file.and_then(|file| self.marked.get(&file));
        let marked = marked.filter(|_| pid != 0).ok_or(Left::Unwanted)?;
        let text = file::read(format!("/proc/{pid}/cgroup").as_ref()).map_err(|_gone| Left::Gone)?;
        let groups = ProcessCGroups::from_read(text.as_bytes()).map_err(|_mad| Left::Unwanted)?;
        if self.is_ours(&groups) {
            return Err(Left::Inside);
        }
        if container::of(pid, Some(&groups), true).is_some() {
            return Err(Left::Elsewhere);
        }
        let facts = facts(pid, &groups, marked)?;
        let taken = marked.choices.iter().find(|choice| choice.rule.takes(&facts, 0));
        let choice = taken.ok_or(Left::Unwanted)?;
        let kind = choice.kind.ok_or(Left::Unwanted)?;
        let service = || facts.cgroup.as_deref().and_then(unit::service_of).is_some();
        if choice.by_default && self.systemd && service() {
            return Err(Left::Elsewhere);
        }
        let ready = self.ready_group(kind, held)?;
        self.descriptors -= ready.procs.len();
        if !join(pid, &ready.procs)? {
            return Err(Left::Refused);
        }
        self.counts.placed += 1;
        let placed = Placed {
            pid,
            kind,
            seq: ready.seq,
            file: held.file.ok_or(Left::Unwanted)?,
            groups: text,
            at_ns: clock::boot_ns(),
            previous_ns: self.previous_ns,
            counts: self.counts,
        };
        // A governor that does not read has stopped; it finds the process in the group it lent.
        let _full = self.channel.send(&Report::Placed(placed), &[]);
        Ok(())
    }

    fn is_ours(&self, groups: &ProcessCGroups) -> bool {
        self.ours.iter().any(|(number, ours)| {
            let listed = groups.0.iter().find(|group| group.hierarchy == *number);
            listed.is_some_and(|group| Path::new(&group.pathname).starts_with(ours))
        })
    }

    /// A group of this kind. Whoever comes after one that waited in vain does not wait.
    fn ready_group(&mut self, kind: u32, held: &Held) -> Result<Ready, Left> {
        let ready = self.await_group(kind, held);
        if matches!(ready, Err(Left::NoGroup)) {
            self.starved.insert(kind);
        }
        ready
    }

    /// The same; waits for the governor to send one as long as the budget lasts.
    fn await_group(&mut self, kind: u32, held: &Held) -> Result<Ready, Left> {
        loop {
            if let Some(ready) = self.ready.get_mut(&kind).and_then(VecDeque::pop_front) {
                return Ok(ready);
            }
            if self.starved.contains(&kind) {
                return Err(Left::NoGroup);
            }
            let left = self.budget.saturating_sub(held.since.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(1..) => {}
                Ok(_) | Err(_) => return Err(Left::NoGroup),
            }
            // The end of the channel is found by the next look of the loop.
            self.take_orders().map_err(|_ended| Left::NoGroup)?;
        }
    }
}

/// What the rules of this file ask about.
fn facts(pid: u32, groups: &ProcessCGroups, marked: &Marked) -> Result<ProcessFacts, Left> {
    let (uid, ppid) = if marked.owner {
        let uid = read_uid(pid).map_err(|_gone| Left::Gone)?;
        let stat = read_stat(pid).map_err(|_gone| Left::Gone)?;
        (uid, stat.ppid.cast_unsigned())
    } else {
        (0, 0)
    };
    Ok(ProcessFacts {
        key: ProcessKey::new(pid, 0),
        found: Found::Exec,
        started_ns: 0,
        ppid,
        uid,
        user: None,
        basename: String::new(),
        filename: String::new(),
        argv: None,
        parent: marked.needs.parent.then(|| read_comm(ppid)).flatten(),
        cwd: marked
            .needs
            .cwd
            .then(|| std::fs::read_link(format!("/proc/{pid}/cwd")).ok())
            .flatten(),
        cgroup: main_group(groups),
        container: None,
    })
}

/// Moves the process. False when no hierarchy took it.
fn join(pid: u32, procs: &[OwnedFd]) -> Result<bool, Left> {
    let text = pid.to_string();
    let mut joined = false;
    for file in procs {
        match nix::unistd::write(file, text.as_bytes()) {
            Ok(_) => joined = true,
            Err(Errno::ESRCH) => return Err(Left::Gone),
            // The governor looks which hierarchies have it, and says what is therefore not in force.
            Err(_) => {}
        }
    }
    Ok(joined)
}
