//! The exec gate in the engine's loop: its reports, its files, and the processes it moved that never executed.

use std::os::fd::AsFd;
use std::time::Duration;

use ffrtmp_abi::decode;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::handle::{Command, EngineHandle};
use super::{EngineError, FIRST_GATE, Worker, clock};
use crate::control::types::GateStatus;
use crate::core::event::Event;
use crate::core::facts::{Found, ProcessFacts};
use crate::core::rule::RuleSet;
use crate::host::gate::{Gate, GateNews};
use crate::host::procfs::main_group;

const REPORTS: u64 = FIRST_GATE;
const FILES: u64 = FIRST_GATE + 1;
const TIMER: u64 = FIRST_GATE + 2;

/// What the loop keeps for it.
#[derive(Debug)]
pub(super) struct GateWatch {
    timer: TimerFd,
    armed_ns: u64,
    handle: EngineHandle,
    /// The file's rules; those of sessions come after them and are never held.
    rules: RuleSet,
}

impl Worker {
    /// Sets up what the gate needs of the loop, and starts it where a rule wants it.
    pub(super) fn open_gate(&mut self, handle: EngineHandle, rules: &RuleSet) -> Result<(), EngineError> {
        let io = std::io::Error::from;
        let Some(gate) = &self.brain.host.gate else {
            return Ok(());
        };
        let timer = TimerFd::new(
            ClockId::CLOCK_BOOTTIME,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )
        .map_err(io)?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        self.epoll.add(timer.as_fd(), readable(TIMER)).map_err(io)?;
        self.epoll
            .add(gate.descriptors().1, readable(FILES))
            .map_err(io)?;
        self.gate = Some(GateWatch {
            timer,
            armed_ns: 0,
            handle,
            rules: RuleSet::default(),
        });
        self.set_gate_rules(rules);
        Ok(())
    }

    /// Takes the file's rules.
    pub(super) fn set_gate_rules(&mut self, rules: &RuleSet) {
        /// The queue is full only while the engine is busy; the news must not be lost.
        const PAUSE: Duration = Duration::from_millis(20);
        let (Some(watch), Some(gate)) = (&mut self.gate, &mut self.brain.host.gate) else {
            return;
        };
        watch.rules = rules.clone();
        let handle = watch.handle.clone();
        let tell = move |news| {
            let mut command = Command::Gate(Box::new(news));
            while let Err(refused) = handle.offer(command) {
                let Some(again) = refused else { return };
                command = again;
                std::thread::sleep(PAUSE);
            }
        };
        gate.set_rules(rules.rules(), &self.brain.host.tree, tell);
    }

    pub(super) fn on_gate(&mut self, token: u64) {
        match token {
            REPORTS => self.drain_gate(),
            FILES => self.on_gate_files(),
            TIMER => self.on_gate_timer(),
            _ => {}
        }
    }

    pub(super) fn on_gate_news(&mut self, news: GateNews) {
        let host = &mut self.brain.host;
        let Some(gate) = &mut host.gate else { return };
        let started = matches!(news, GateNews::Started { .. });
        gate.hear(news, &host.tree);
        if started
            && let (Some(channel), _) = gate.descriptors()
            && let Err(error) = self
                .epoll
                .add(channel, EpollEvent::new(EpollFlags::EPOLLIN, REPORTS))
        {
            tracing::error!(%error, "the exec gate's reports cannot be waited for");
        }
        if gate.is_closed() {
            // Rules that came while the last one was on its way out.
            let rules = self.gate.as_ref().map(|watch| watch.rules.clone());
            self.set_gate_rules(&rules.unwrap_or_default());
        }
    }

    /// Takes the gate's reports.
    pub(super) fn drain_gate(&mut self) {
        let host = &mut self.brain.host;
        if let Some(gate) = &mut host.gate {
            gate.drain(&host.tree);
        }
    }

    fn on_gate_files(&mut self) {
        let host = &mut self.brain.host;
        if let Some(gate) = &mut host.gate {
            gate.on_change(&host.tree);
        }
    }

    /// Sets the timer to the moment at which the first process must have executed.
    pub(super) fn arm_gate_timer(&mut self) {
        let (Some(watch), Some(gate)) = (&mut self.gate, &self.brain.host.gate) else {
            return;
        };
        let wanted = gate.due_ns().unwrap_or(0);
        if wanted == watch.armed_ns {
            return;
        }
        watch.armed_ns = wanted;
        // Zero disarms it.
        let at = Expiration::OneShot(Duration::from_nanos(wanted).into());
        if let Err(error) = watch.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            tracing::error!(%error, "the timer cannot be set; what the gate moved in vain stays in its group");
        }
    }

    /// Whoever was moved and is no job by now executed under another name, or not at all.
    fn on_gate_timer(&mut self) {
        if let Some(watch) = &mut self.gate {
            // Reading clears it; a spurious wake-up has nothing to read.
            let _spurious = nix::unistd::read(&watch.timer, &mut [0; 8]);
            watch.armed_ns = 0;
        }
        // Their execs may be told and not read yet.
        self.on_ring();
        let overdue = self
            .brain
            .host
            .gate
            .as_ref()
            .map(|gate| gate.overdue(clock::boot_ns()));
        for pid in overdue.unwrap_or_default() {
            self.take_by_file(pid);
            self.brain.host.put_back(pid);
        }
    }

    /// A link or an interpreter's script executes a held file by a name no rule knows: it is the rule's all the same.
    fn take_by_file(&mut self, pid: u32) {
        let Some(gate) = &self.brain.host.gate else { return };
        let file = gate.taken(pid).and_then(|taken| taken.file);
        let Some(path) = file
            .filter(|file| Gate::runs(pid) == Some(*file))
            .and_then(|file| gate.path_of(file))
        else {
            return;
        };
        let filename = path.display().to_string();
        let rows = self.brain.host.kernel.all_tasks().unwrap_or_default();
        let Some(row) = rows.iter().find(|row| row.key.pid == pid && row.member == 0) else {
            return;
        };
        let Some(mut facts) = self.live_facts(row, Found::Adopted) else {
            return;
        };
        tracing::debug!(
            pid,
            comm = decode::text(&row.comm),
            filename,
            "executed by another name"
        );
        filename
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .clone_into(&mut facts.basename);
        facts.filename = filename;
        self.before_the_gate(&mut facts);
        match self.admit(row, 0) {
            Ok(true) => self.brain.feed(clock::boot_ns(), Event::Appeared(facts)),
            Ok(false) => {}
            Err(why) => tracing::warn!(pid, why, "a process that the gate moved could not be adopted"),
        }
    }

    /// Rules ask where a process was before the gate moved it.
    pub(super) fn before_the_gate(&self, facts: &mut ProcessFacts) {
        let gate = self.brain.host.gate.as_ref();
        let taken = gate.and_then(|gate| gate.taken(facts.key.pid));
        if let Some(groups) = taken.and_then(|taken| taken.groups.as_ref()) {
            facts.cgroup = main_group(groups);
            // The gate moves nobody out of a container.
            facts.container = None;
        }
    }

    /// An exec that was not held though a rule wants that: a program put in place since, or in another directory.
    pub(super) fn learn_program(&mut self, facts: &ProcessFacts) {
        let host = &mut self.brain.host;
        if facts.container.is_none()
            && let Some(gate) = &mut host.gate
        {
            gate.learn(facts.key.pid, &facts.filename, &host.tree);
        }
    }

    pub(super) fn gate_status(&self) -> Option<GateStatus> {
        let gate = self.brain.host.gate.as_ref()?;
        gate.is_wanted().then(|| gate.status())
    }
}
