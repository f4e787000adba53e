//! Groups that go when they are empty: the kernel says when that is.

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::Worker;
use super::watchdog::Watched;

impl Worker {
    /// Waits for the groups whose last process is on its way out.
    pub(super) fn watch_groups(&mut self) {
        for (key, events) in std::mem::take(&mut self.brain.outbox.retiring) {
            let changed = EpollEvent::new(EpollFlags::EPOLLPRI, self.watchdog.next_token());
            match self.epoll.add(&events, changed) {
                Ok(()) => self.watchdog.add(Watched::Group(key, events)),
                Err(error) => {
                    tracing::warn!(%error, pid = key.pid, "cannot wait for the job's group to empty");
                }
            }
        }
    }

    /// Removes what an earlier governor left and nobody needs, and waits for the rest to empty.
    pub(super) fn watch_leftovers(&mut self) {
        // The others are looked at as well, and watched anew.
        for events in self.watchdog.take_leftovers() {
            self.forget(&events);
        }
        for events in self.brain.host.sweep_leftovers() {
            let changed = EpollEvent::new(EpollFlags::EPOLLPRI, self.watchdog.next_token());
            match self.epoll.add(&events, changed) {
                Ok(()) => self.watchdog.add(Watched::Leftover(events)),
                Err(error) => tracing::warn!(%error, "cannot wait for an earlier governor's group to empty"),
            }
        }
    }
}
