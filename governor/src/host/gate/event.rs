//! One held exec: read from fanotify, answered exactly once, by whoever comes first: the one who placed it, or its
//! deadline.
//!
//! A write to `cgroup.procs` can take 20 ms and cannot be interrupted, so the deadline has a thread of its own that sleeps
//! in a timer and answers in the holder's stead. Both answer under one lock, so no answer meets a later event. A holder
//! that does not come back for longer than that has its later events waved through as well.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use nix::sys::stat::fstat;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::wire::FileId;

/// `sizeof(struct fanotify_event_metadata)`; room for one, so that a read gives one and its budget starts then.
const EVENT_BYTES: usize = 24;
/// How long a holder that is over its budget may take to come back, before events behind it are waved through.
const PATIENCE_MS: u16 = 250;
/// Stack of the deadline's thread, bytes; all of it is locked in memory.
const STACK: usize = 64 << 10;

/// An exec that waits for its answer.
#[derive(Debug)]
pub(super) struct Held {
    /// Who executes; 0 for one that our pid namespace does not show.
    pub(super) pid: u32,
    /// What is executed.
    pub(super) file: Option<FileId>,
    /// When it was read.
    pub(super) since: Instant,
    /// How long it waited to be read, as far as the looks at the queue tell.
    pub(super) queued: Duration,
    _descriptor: OwnedFd,
}

#[derive(Debug)]
struct Pending {
    descriptor: RawFd,
    end: Instant,
}

/// What both threads know.
#[derive(Debug, Default)]
struct State {
    pending: Option<Pending>,
    /// Events the holder is done with.
    done: u64,
    /// Waved through since the holder asked last.
    waved: u64,
    /// When each event was first seen to wait, the oldest first.
    seen: VecDeque<Instant>,
}

/// The fanotify group, and the one exec that is being held.
#[derive(Debug)]
pub(super) struct Doorman {
    group: Fanotify,
    timer: TimerFd,
    state: Mutex<State>,
    /// Tells the deadline's thread that the holder is back.
    back: EventFd,
}

impl Doorman {
    /// Makes the group and starts the deadline's thread.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let group = Fanotify::init(
            InitFlags::FAN_CLASS_CONTENT
                | InitFlags::FAN_CLOEXEC
                | InitFlags::FAN_NONBLOCK
                | InitFlags::FAN_UNLIMITED_QUEUE
                | InitFlags::FAN_UNLIMITED_MARKS,
            EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC,
        )?;
        let doorman = Arc::new(Self {
            group,
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?,
            state: Mutex::default(),
            back: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        });
        let deadline = Arc::clone(&doorman);
        std::thread::Builder::new()
            .name("deadline".to_owned())
            .stack_size(STACK)
            .spawn(move || deadline.watch())?;
        Ok(doorman)
    }

    /// Holds execs of this file from now on.
    pub(super) fn mark(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        self.change(MarkFlags::FAN_MARK_ADD, file)
    }

    /// Holds them no longer.
    pub(super) fn unmark(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        self.change(MarkFlags::FAN_MARK_REMOVE, file)
    }

    fn change(&self, flags: MarkFlags, file: BorrowedFd<'_>) -> Result<(), Errno> {
        self.group
            .mark(flags, MaskFlags::FAN_OPEN_EXEC_PERM, file, None::<&str>)
    }

    /// The next exec that waits, if there is one. From here on it goes on after `budget` whatever happens.
    pub(super) fn next(&self, budget: Duration) -> io::Result<Option<Held>> {
        self.note_arrivals();
        let Some((descriptor, pid)) = self.read()? else {
            return Ok(None);
        };
        let since = Instant::now();
        let mut state = self.lock();
        let seen = state.seen.pop_front().unwrap_or(since);
        state.pending = Some(Pending {
            descriptor: descriptor.as_raw_fd(),
            end: since + budget,
        });
        drop(state);
        // A timer that cannot be set leaves the budget to the holder's own look at the clock.
        let _unset = self
            .timer
            .set(Expiration::OneShot(budget.into()), TimerSetTimeFlags::empty());
        let file = fstat(&descriptor).ok().map(|found| FileId {
            dev: found.st_dev,
            inode: found.st_ino,
        });
        Ok(Some(Held {
            pid,
            file,
            since,
            queued: since.saturating_duration_since(seen),
            _descriptor: descriptor,
        }))
    }

    /// The kernel does not say when an event came; how many wait is what it says.
    fn note_arrivals(&self) {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open, and FIONREAD writes one int to the pointer, which is to a live local.
        let asked = unsafe { libc::ioctl(self.group.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        if asked == 0 {
            let waiting = usize::try_from(bytes).unwrap_or(0) / EVENT_BYTES;
            let now = Instant::now();
            let mut state = self.lock();
            let known = state.seen.len();
            state.seen.extend((known..waiting).map(|_| now));
            state.seen.truncate(waiting);
        }
    }

    fn read(&self) -> io::Result<Option<(OwnedFd, u32)>> {
        let mut bytes = [0; EVENT_BYTES];
        match nix::unistd::read(self.group.as_fd(), &mut bytes) {
            Ok(EVENT_BYTES) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error.into()),
        }
        // struct fanotify_event_metadata of linux/fanotify.h: the descriptor at 16, the pid at 20.
        let word = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (raw, pid) = (word(16), word(20));
        if raw < 0 {
            // An overflow of the queue, which is unlimited.
            return Ok(None);
        }
        // SAFETY: the kernel made this descriptor for us in the read above, and nobody else knows it.
        Ok(Some((unsafe { OwnedFd::from_raw_fd(raw) }, pid.cast_unsigned())))
    }

    /// Lets the exec go on. Gives how many were let go in the holder's stead since it asked last, this one included.
    pub(super) fn allow(&self, held: Held) -> u64 {
        let mut state = self.lock();
        match state.pending.take() {
            Some(pending) => self.answer(pending.descriptor),
            None => {
                // Somebody may wait for this; if not, it finds out at its next look.
                let _full = self.back.write(1);
            }
        }
        state.done += 1;
        let waved = std::mem::take(&mut state.waved);
        drop(state);
        // Only now may its descriptor's number be used again.
        drop(held);
        waved
    }

    fn answer(&self, descriptor: RawFd) {
        // struct fanotify_response: descriptor and verdict.
        let mut response = [0; 8];
        response[..4].copy_from_slice(&descriptor.to_ne_bytes());
        response[4..].copy_from_slice(&libc::FAN_ALLOW.to_ne_bytes());
        // It fails when the process was killed while it waited, and then nobody waits.
        let _killed = nix::unistd::write(self.group.as_fd(), &response);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The deadline's thread.
    fn watch(&self) {
        // Without priority it answers late on a busy machine, which the governor says of the whole gate.
        let _said = crate::host::realtime::raise_this_thread();
        loop {
            match nix::unistd::read(&self.timer, &mut [0; 8]) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            }
            let mut state = self.lock();
            if state
                .pending
                .as_ref()
                .is_some_and(|one| one.end <= Instant::now())
                && let Some(late) = state.pending.take()
            {
                self.answer(late.descriptor);
                state.waved += 1;
                let stuck_at = state.done;
                drop(state);
                self.stand_in(stuck_at);
            }
        }
    }

    /// Waits for the holder, and does its work badly while it does not come back.
    fn stand_in(&self, stuck_at: u64) {
        let mut timeout = PollTimeout::from(PATIENCE_MS);
        while self.lock().done == stuck_at {
            let mut fds = [
                PollFd::new(self.back.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.group.as_fd(), PollFlags::POLLIN),
            ];
            // In its patience it does not look at events.
            let count = if timeout.is_none() { 2 } else { 1 };
            if poll(&mut fds[..count], timeout) == Ok(0) {
                timeout = PollTimeout::NONE;
            } else if timeout.is_none()
                && self.lock().done == stuck_at
                && let Ok(Some((descriptor, _))) = self.read()
            {
                self.answer(descriptor.as_raw_fd());
                let mut state = self.lock();
                state.waved += 1;
                let _unseen = state.seen.pop_front();
            }
        }
        // What it wrote is no news any more.
        let _empty = self.back.read();
    }
}

impl AsFd for Doorman {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}
