//! The engine: one thread that owns all state, and the handle by which everybody else talks to it.
//!
//! The thread waits in one epoll for the kernel's ring, process descriptors, a timer and the command eventfd, without a
//! timeout: nothing happens here that was not announced. It never blocks on disk or network; the ledger and every
//! server run elsewhere and exchange messages with it.

pub mod brain;
pub mod clock;
mod command;
mod ends;
mod gate;
mod groups;
pub mod handle;
mod intake;
mod limit;
mod places;
mod policy;
mod scan;
mod scopes;
mod unprivileged;
mod watchdog;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use ffrtmp_abi::ProcessKey;

use crate::control::types::{JobEvent, JobView, RequestError};
use crate::core::event::{Effect, Event};
use crate::core::redact::Redactor;
use crate::core::rule::RuleSet;
use crate::core::{CoreSettings, Governor};
use crate::host::cgroup::{CgroupError, TreeOptions};
use crate::host::fast;
use crate::host::gate::{Gate, GateOptions};
use crate::host::kernel::KernelOptions;
use crate::host::linux::LinuxHost;
use crate::host::policy::Ceilings;
use crate::host::process::Pinned;
use crate::host::realtime;
use crate::host::source::{Source, SourceError, SourceOptions};
use crate::host::spares::Spares;
use crate::host::systemd;
use crate::ledger::LedgerHealth;
use crate::metrics::Instruments;

pub use handle::{AskSaved, Command, EngineHandle, SaveOrder, SaveQueue, Saved};
pub use policy::PolicyOrder;

use brain::{Brain, Outbox};
use watchdog::{Watchdog, Watched};

/// What the engine starts with.
#[derive(Debug, Default)]
pub struct EngineOptions {
    /// Rules of the configuration file.
    pub rules: RuleSet,
    /// What is replaced in arguments before anybody sees them.
    pub redactor: Redactor,
    /// How the kernel programs are loaded.
    pub kernel: KernelOptions,
    /// Which tiers may be used.
    pub source: SourceOptions,
    /// Where groups are made.
    pub tree: TreeOptions,
    /// How often a placement that failed is tried again; `None` is [`CoreSettings::PLACEMENT_RETRIES`].
    pub placement_retries: Option<u32>,
    /// Jobs an earlier governor of this boot left open.
    pub restore: Vec<JobView>,
    /// Tells which records are on disk already: a governor that was killed between a commit and its acknowledgement left
    /// them in the kernel.
    pub saved: Option<Saved>,
    /// Tells how far the ledger has written.
    pub ledger: Option<LedgerHealth>,
    /// The node's policy, and what the rules promise beyond the machine.
    pub policy: PolicyOrder,
    /// Where the files written above the jobs are noted; `None` notes nothing.
    pub ceilings: Option<std::path::PathBuf>,
    /// What is counted by class.
    pub instruments: Option<Arc<Instruments>>,
    /// Those who hear every event, those of the start included.
    pub listeners: Vec<tokio::sync::mpsc::Sender<JobEvent>>,
    /// What came of fast placement, once it is known.
    pub fast: Arc<OnceLock<fast::Outcome>>,
    /// The exec gate; `None` where rules that want it act right after the exec.
    pub gate: Option<GateOptions>,
    /// The ledger's file, for those who ask.
    pub ledger_file: Option<std::path::PathBuf>,
    /// Groups kept ready for each pair of class and limits that the rules name.
    pub spares: u32,
    /// True in a daemon: live processes that match a rule are adopted at start.
    pub discover: bool,
}

/// Why the engine does not run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing tells of processes.
    #[error("start the kernel programs")]
    Source(#[from] SourceError),
    /// The cgroup hierarchies could not be read.
    #[error("find the control group hierarchies")]
    Cgroup(#[from] CgroupError),
    /// A descriptor or thread could not be made.
    #[error("set up the event loop")]
    Setup(#[from] std::io::Error),
}

const RING: u64 = 0;
const WAKE: u64 = 1;
const TIMER: u64 = 2;
/// Tokens from here on are the gate's, and from [`FIRST_PROCESS`] on name watched processes.
const FIRST_GATE: u64 = 3;
const FIRST_PROCESS: u64 = 16;

/// Entries taken from the ring before commands and deadlines get their turn.
const BATCH: usize = 1024;
/// Commands that may wait; more are refused with "overloaded".
const COMMANDS: usize = 1024;

/// The running engine.
#[derive(Debug)]
pub struct Engine {
    handle: EngineHandle,
    thread: std::thread::JoinHandle<()>,
}

impl Engine {
    /// Loads the kernel programs, adopts what runs already, and starts the thread. `ledger` gets the handle, so that it
    /// can acknowledge what it stored, and gives the queue to store into.
    pub fn start(
        options: EngineOptions,
        ledger: impl FnOnce(EngineHandle) -> SaveQueue,
    ) -> Result<Self, EngineError> {
        let (source, tier_reason) = Source::choose(&options.kernel, &options.source)?;
        source.warn(tier_reason.as_deref());
        let (sender, commands) = sync_channel(COMMANDS);
        let wake = Arc::new(OwnedFd::from(
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .map_err(std::io::Error::from)?,
        ));
        let handle = EngineHandle::new(sender, Arc::clone(&wake));
        let mut outbox = Outbox::new(ledger(handle.clone()));
        if let Some(instruments) = &options.instruments {
            instruments.allow(options.rules.classes());
        }
        outbox.instruments = options.instruments;
        for listener in options.listeners {
            outbox.subscribe(listener);
        }
        let mut core = Governor::new(CoreSettings {
            redactor: options.redactor,
            placement_retries: options
                .placement_retries
                .unwrap_or(CoreSettings::PLACEMENT_RETRIES),
            no_scopes: systemd::absent(),
            ..CoreSettings::new(source.tier().name(), clock::boot_time())
        });
        let mut first = Vec::new();
        let rules = options.rules.clone();
        core.handle(clock::boot_ns(), Event::RulesReplaced(options.rules), &mut first);
        let ceilings = options.ceilings.map_or_else(Ceilings::default, Ceilings::open);
        let scopes = scopes::start(handle.clone())?;
        let spares = Spares::start(options.spares)?;
        let mut host = LinuxHost::new(source, options.tree, options.discover, ceilings, scopes, spares)?;
        host.gate = options.gate.map(Gate::new).transpose()?;
        let mut brain = Brain { core, host, outbox };
        brain.perform(first);
        let mut worker = Worker::new(brain, commands, wake, options.discover)?;
        worker.tier_reason = tier_reason;
        worker.ledger = options.ledger;
        worker.restore(&options.restore);
        worker.resume(options.saved);
        worker.set_policy(options.policy);
        worker.ledger_file = options.ledger_file;
        worker.fast = options.fast;
        worker.sync_filter();
        worker.watch_leftovers();
        worker.open_gate(handle.clone(), &rules)?;
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { handle, thread })
    }

    /// How to talk to it.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// True while its thread runs.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// The state of the thread.
struct Worker {
    brain: Brain<LinuxHost>,
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
    epoll: Epoll,
    timer: TimerFd,
    watchdog: Watchdog,
    intake: intake::Intake,
    /// What does not work on this machine beyond the kernel programs' own list, with the reason.
    off: Vec<String>,
    /// Why facts do not come from the best source there is.
    tier_reason: Option<String>,
    policy: policy::PolicyState,
    limits: limit::LimitWatch,
    /// How far the ledger has written; `None` where nobody tells.
    ledger: Option<LedgerHealth>,
    ledger_file: Option<std::path::PathBuf>,
    fast: Arc<OnceLock<fast::Outcome>>,
    /// The exec gate's side of the loop, where it may run.
    gate: Option<gate::GateWatch>,
    /// Sessions opened so far.
    sessions: u64,
    /// When the timer goes off; 0 for never.
    armed_ns: u64,
    /// Those who attached to a process whose scope is being made.
    attaching: HashMap<ProcessKey, Vec<handle::Reply<Result<JobView, RequestError>>>>,
    /// Those who want to know of the end; dropped with the thread.
    mourners: Vec<handle::Reply<()>>,
    /// Asked to stop; answered when the loop has ended.
    stop: Option<handle::Reply<()>>,
}

impl Worker {
    fn new(
        brain: Brain<LinuxHost>,
        commands: Receiver<Command>,
        wake: Arc<OwnedFd>,
        discover: bool,
    ) -> Result<Self, EngineError> {
        let io = std::io::Error::from;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_BOOTTIME,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )
        .map_err(io)?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        epoll.add(brain.host.kernel.ring(), readable(RING)).map_err(io)?;
        epoll.add(wake.as_fd(), readable(WAKE)).map_err(io)?;
        epoll.add(timer.as_fd(), readable(TIMER)).map_err(io)?;
        Ok(Self {
            brain,
            commands,
            wake,
            epoll,
            timer,
            watchdog: Watchdog::new(FIRST_PROCESS),
            intake: intake::Intake::new(discover),
            off: Vec::new(),
            tier_reason: None,
            policy: policy::PolicyState::default(),
            limits: limit::LimitWatch::default(),
            ledger: None,
            ledger_file: None,
            fast: Arc::default(),
            gate: None,
            sessions: 0,
            armed_ns: 0,
            attaching: HashMap::new(),
            mourners: Vec::new(),
            stop: None,
        })
    }

    fn run(&mut self) {
        if let Err(error) = realtime::raise_this_thread() {
            let why = format!(
                "real-time priority of the placing thread: {error}; on busy CPUs it waits for a tick, so grant CAP_SYS_NICE"
            );
            tracing::info!("off: {why}");
            self.off.push(why);
        }
        let mut ready = [EpollEvent::empty(); 64];
        while self.stop.is_none() {
            self.arm_timer();
            let patience = self.patience();
            let count = match self.epoll.wait(&mut ready, patience) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "epoll failed; the engine stops, workloads run on");
                    return;
                }
            };
            if count == 0 {
                self.watch_limits_of_one();
            }
            for event in &ready[..count] {
                match event.data() {
                    RING => self.on_ring(),
                    WAKE => self.on_wake(),
                    TIMER => self.on_timer(),
                    token @ FIRST_GATE..FIRST_PROCESS => self.on_gate(token),
                    token => self.on_watched(token, event.events()),
                }
            }
            self.take_ends();
            self.watch_groups();
            self.forget_limits();
            self.watch_pressure();
            self.arm_gate_timer();
            if std::mem::take(&mut self.brain.outbox.sync_filter) {
                self.sync_filter();
            }
        }
        self.finish_ends();
        let live = self.brain.core.live() > 0;
        self.brain.host.tidy(live);
        if let Some(reply) = self.stop.take() {
            // The asker may be gone already.
            let _gone = reply.send(());
        }
    }

    /// Sets the timer to what the core asked for, if that changed.
    fn arm_timer(&mut self) {
        let Some(wanted) = self.brain.outbox.wake_at_ns.take() else {
            return;
        };
        if wanted == self.armed_ns {
            return;
        }
        self.armed_ns = wanted;
        // A time of zero would disarm the timer instead of firing at once.
        let at = Expiration::OneShot(Duration::from_nanos(wanted.max(1)).into());
        if let Err(error) = self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            tracing::error!(%error, "the timer cannot be set; time limits of jobs are not enforced");
        }
    }

    fn on_timer(&mut self) {
        // Reading clears it; a spurious wake-up has nothing to read.
        let _spurious = nix::unistd::read(&self.timer, &mut [0; 8]);
        self.armed_ns = 0;
        self.brain.feed(clock::boot_ns(), Event::DeadlinePassed);
    }

    fn on_wake(&mut self) {
        // As above.
        let _spurious = nix::unistd::read(self.wake.as_fd(), &mut [0; 8]);
        while let Ok(command) = self.commands.try_recv() {
            self.on_command(command);
        }
    }

    /// Watches a process whose exit the programs may not tell, because it was admitted while it ran.
    fn watch_process(&mut self, process: Pinned) {
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, self.watchdog.next_token());
        match self.epoll.add(&process, readable) {
            Ok(()) => self.watchdog.add(Watched::Process(process)),
            Err(error) => {
                let pid = process.pid();
                tracing::warn!(%error, pid, "cannot watch the process; its exit record alone will tell");
            }
        }
    }

    fn on_watched(&mut self, token: u64, what: EpollFlags) {
        match self.watchdog.take(token) {
            Some(Watched::Process(process)) => {
                self.forget(&process);
                self.on_process_end(&process);
            }
            Some(Watched::Group(key, events)) => {
                self.forget(&events);
                self.brain.perform(vec![Effect::Retire { key }]);
            }
            Some(Watched::Leftover(events)) => {
                self.forget(&events);
                self.watch_leftovers();
            }
            Some(Watched::Limit(key, announcer)) => self.on_limit(token, key, announcer),
            Some(Watched::Pressure(rule, trigger)) => self.on_pressure(token, rule, trigger, what),
            None => {}
        }
    }

    /// Takes a descriptor out of the epoll before it is closed.
    fn forget(&self, descriptor: &impl AsFd) {
        if let Err(error) = self.epoll.delete(descriptor) {
            tracing::debug!(%error, "a descriptor had left the epoll already");
        }
    }
}
