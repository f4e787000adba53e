//! The writer's two queues: what nodes and operators say is done before what clients submit.
//!
//! Both are bounded. A full queue answers "busy" at once; it never grows and never makes its caller wait.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::Task;
use crate::store::error::StoreError;

/// Rows of one commit, about: more would make the others wait longer than the disk does.
const ROWS: usize = 2_000;

/// Which queue a command stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Claims, reports, heartbeats, cancels: what running work depends on.
    Urgent,
    /// Submissions.
    Submit,
}

#[derive(Default)]
struct Queues {
    urgent: VecDeque<Box<dyn Task>>,
    submit: VecDeque<(usize, Box<dyn Task>)>,
    closed: bool,
}

/// The queues.
pub(super) struct Lanes {
    queues: Mutex<Queues>,
    filled: Condvar,
    capacity: usize,
}

/// What the writer does next.
pub(super) enum Next {
    /// These, in one commit.
    Batch(Vec<Box<dyn Task>>),
    /// Nothing came in time.
    Idle,
    /// The store is closed and nothing is left.
    Closed,
}

impl Lanes {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            queues: Mutex::default(),
            filled: Condvar::new(),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a command of about `rows` rows into its queue; gives it back with the reason when it cannot.
    pub(super) fn push(
        &self,
        lane: Lane,
        rows: usize,
        task: Box<dyn Task>,
    ) -> Result<(), (Box<dyn Task>, StoreError)> {
        let mut queues = self.lock();
        if queues.closed {
            return Err((task, StoreError::Closed));
        }
        let length = match lane {
            // The running fleet gets four times the room: refusing it would only make it ask again.
            Lane::Urgent => queues.urgent.len() / 4,
            Lane::Submit => queues.submit.len(),
        };
        if self.capacity <= length {
            return Err((task, StoreError::Busy));
        }
        match lane {
            Lane::Urgent => queues.urgent.push_back(task),
            Lane::Submit => queues.submit.push_back((rows, task)),
        }
        drop(queues);
        self.filled.notify_one();
        Ok(())
    }

    /// Commands that wait.
    pub(super) fn len(&self) -> usize {
        let queues = self.lock();
        queues.urgent.len() + queues.submit.len()
    }

    /// Lets what waits be done and takes nothing more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Waits for commands, at most so long.
    pub(super) fn next(&self, most: Duration) -> Next {
        let waiting =
            |queues: &mut Queues| queues.urgent.is_empty() && queues.submit.is_empty() && !queues.closed;
        let (mut queues, _) = self
            .filled
            .wait_timeout_while(self.lock(), most, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let mut batch = Vec::new();
        let mut rows = 0;
        while rows < ROWS
            && let Some(task) = queues.urgent.pop_front()
        {
            rows += 4;
            batch.push(task);
        }
        while rows < ROWS
            && let Some((more, task)) = queues.submit.pop_front()
        {
            rows += more;
            batch.push(task);
        }
        match (batch.is_empty(), queues.closed) {
            (false, _) => Next::Batch(batch),
            (true, true) => Next::Closed,
            (true, false) => Next::Idle,
        }
    }
}
