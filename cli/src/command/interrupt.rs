//! Signals to the wrapper. They end the wrapper and nothing else: no signal is ever passed on to a workload.

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Signals that end a wrapper.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Tells of signals to this process.
#[derive(Debug)]
pub(super) struct Interrupts {
    arrived: mpsc::Receiver<Signal>,
}

impl Interrupts {
    /// Listens from now on. Call it after the fork: a child inherits which signals are ignored (`nohup`), but would
    /// lose that to a handler.
    ///
    /// A signal that was ignored when we started stays ignored, for the same reason.
    pub(super) fn listen() -> Result<Self, Failure> {
        let ignored = ignored_mask();
        let (sender, arrived) = mpsc::channel(ENDING.len());
        for ending in ENDING {
            // Bit n-1 of SigIgn stands for signal n (proc(5)).
            if ignored & (1 << (ending as i32 - 1)) != 0 {
                continue;
            }
            let mut stream =
                signal(SignalKind::from_raw(ending as i32)).map_err(|source| Failure::Machine {
                    step: "listen for signals",
                    source,
                })?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(ending).await.is_err() {
                        return;
                    }
                }
            });
        }
        // With every signal ignored the receiver must still wait rather than report the end of its senders.
        tokio::spawn(async move { sender.closed().await });
        Ok(Self { arrived })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Signal {
        match self.arrived.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

fn ignored_mask() -> u64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.map_or(0, |status| status.sigign)
}
