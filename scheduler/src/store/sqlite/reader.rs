//! Threads that answer questions beside the writer, each with a connection that can only read.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::open::{self, OpenError};
use crate::store::error::StoreError;

/// A question; it answers by itself.
type Question = Box<dyn FnOnce(&Connection) + Send>;

/// Questions that may wait. A list takes well below a millisecond, so this is a fraction of a second's work.
const WAITING: usize = 1024;

/// The threads.
pub(super) struct Readers {
    questions: Option<SyncSender<Question>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts them.
    pub(super) fn start(path: &Path, count: usize) -> Result<Self, OpenError> {
        let (sender, receiver) = sync_channel::<Question>(WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::new();
        for number in 0..count.max(1) {
            let connection = open::reader(path).map_err(|source| OpenError::Database {
                path: path.to_owned(),
                source,
            })?;
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&connection, &receiver))
                .map_err(open::io("start a reading thread for", path))?;
            threads.push(thread);
        }
        Ok(Self {
            questions: Some(sender),
            threads,
        })
    }

    /// Puts a question. It is dropped unanswered when the store is closing.
    pub(super) fn ask(&self, question: Question) -> Result<(), StoreError> {
        let Some(questions) = &self.questions else {
            return Err(StoreError::Closed);
        };
        questions.try_send(question).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }
}

fn serve(connection: &Connection, questions: &Mutex<Receiver<Question>>) {
    loop {
        // The lock is held while waiting: one thread waits for the next question, the others for the lock.
        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(question) => question(connection),
            Err(_) => return,
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.questions = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _panicked = thread.join().is_err();
        }
    }
}
