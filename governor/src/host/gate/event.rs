//! One held exec: read from fanotify, answered exactly once, by whoever comes first: the one who placed it, or its
//! deadline.
//!
//! A write to `cgroup.procs` can take 20 ms and cannot be interrupted, so the deadline has a thread of its own that sleeps
//! in a timer and answers in the holder's stead. Both answer under one lock, so no answer meets a later event.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use nix::sys::stat::fstat;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::wire::FileId;

/// `sizeof(struct fanotify_event_metadata)`; room for one, so that a read gives one and its budget starts then.
const EVENT_BYTES: usize = 24;
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
    _descriptor: OwnedFd,
}

#[derive(Debug)]
struct Pending {
    descriptor: RawFd,
    end: Instant,
}

/// The fanotify group, and the one exec that is being held.
#[derive(Debug)]
pub(super) struct Doorman {
    group: Fanotify,
    timer: TimerFd,
    pending: Mutex<Option<Pending>>,
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
            pending: Mutex::new(None),
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
        let mut bytes = [0; EVENT_BYTES];
        match nix::unistd::read(self.group.as_fd(), &mut bytes) {
            Ok(EVENT_BYTES) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error.into()),
        }
        let since = Instant::now();
        // struct fanotify_event_metadata of linux/fanotify.h: the descriptor at 16, the pid at 20.
        let word = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (raw, pid) = (word(16), word(20));
        if raw < 0 {
            // An overflow of the queue, which is unlimited.
            return Ok(None);
        }
        *self.lock() = Some(Pending {
            descriptor: raw,
            end: since + budget,
        });
        // A timer that cannot be set leaves the budget to the holder's own look at the clock.
        let _unset = self
            .timer
            .set(Expiration::OneShot(budget.into()), TimerSetTimeFlags::empty());
        // SAFETY: the kernel made this descriptor for us in the read above, and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        let file = fstat(&descriptor).ok().map(|found| FileId {
            dev: found.st_dev,
            inode: found.st_ino,
        });
        Ok(Some(Held {
            pid: pid.cast_unsigned(),
            file,
            since,
            _descriptor: descriptor,
        }))
    }

    /// Lets the exec go on. False when its deadline did that before.
    pub(super) fn allow(&self, held: Held) -> bool {
        let answered = match self.lock().take() {
            Some(pending) => {
                self.answer(&pending);
                true
            }
            None => false,
        };
        // Only now may its descriptor's number be used again.
        drop(held);
        answered
    }

    fn answer(&self, pending: &Pending) {
        // struct fanotify_response: descriptor and verdict.
        let mut response = [0; 8];
        response[..4].copy_from_slice(&pending.descriptor.to_ne_bytes());
        response[4..].copy_from_slice(&libc::FAN_ALLOW.to_ne_bytes());
        // It fails when the process was killed while it waited, and then nobody waits.
        let _killed = nix::unistd::write(self.group.as_fd(), &response);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut pending = self.lock();
            if pending.as_ref().is_some_and(|one| one.end <= Instant::now())
                && let Some(late) = pending.take()
            {
                self.answer(&late);
            }
        }
    }
}

impl AsFd for Doorman {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}
