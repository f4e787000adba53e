//! Lends the terminal to an interactive workload, and takes it back.

use std::io;

use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// A terminal in whose foreground we were started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    ours: Pid,
}

impl Terminal {
    /// Our terminal; `None` when standard input is none, or somebody else has it.
    pub(super) fn own() -> Option<Self> {
        let ours = getpgrp();
        (tcgetpgrp(io::stdin()) == Ok(ours)).then_some(Self { ours })
    }

    /// Makes the workload's process group the one that reads, and that Ctrl-C and Ctrl-Z reach.
    #[expect(
        clippy::unused_self,
        reason = "only who was in the foreground may give it away"
    )]
    pub(super) fn lend(self, workload: u32) {
        set_foreground(Pid::from_raw(workload as i32));
    }

    /// Makes ours that group again.
    pub(super) fn take_back(self) {
        set_foreground(self.ours);
    }

    /// Ctrl-Z stopped the workload: stops us too, so that the shell prompts, and goes on when the shell says so.
    pub(super) fn stop_with(self, workload: u32) {
        self.take_back();
        // Returns once somebody continued us. A failure leaves us running, which is the next line's business anyway.
        let _continued = kill(Pid::this(), Signal::SIGSTOP);
        // After `bg` the terminal is the shell's; only `fg` gives it to us and so to the workload.
        if tcgetpgrp(io::stdin()) == Ok(self.ours) {
            self.lend(workload);
        }
        let _ended = killpg(Pid::from_raw(workload as i32), Signal::SIGCONT);
    }
}

/// A background group that sets the foreground is stopped by SIGTTOU unless it blocks it (tcsetpgrp(3)).
fn set_foreground(group: Pid) {
    let mut output = SigSet::empty();
    output.add(Signal::SIGTTOU);
    let blocked = output.thread_block();
    // The group may have ended meanwhile, and the terminal may have hung up; then nobody needs it.
    let _nobody_left = tcsetpgrp(io::stdin(), group);
    if blocked.is_ok() {
        let _stays_blocked = output.thread_unblock();
    }
}
