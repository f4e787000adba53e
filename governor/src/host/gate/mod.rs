//! The exec gate: `ffrtmp-gate` ([`hold`]) and the governor's end of it ([`Gate`]).
//!
//! The governor says which files are held and lends groups whose limits stand; the gate moves a process into one and
//! lets its exec go on. What is lent, what is held and what was marked is kept here; what becomes of a process is the
//! engine's to say, once it hears of the exec itself.

mod armour;
mod event;
mod files;
mod holder;
mod lend;
mod marks;
mod moves;
mod note;
mod status;
mod supervisor;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use procfs::{FromRead, ProcessCGroups};

use super::cgroup::{Prepared, Tree};
use crate::core::gate::Kind;
use crate::core::rule::Rule;
use crate::engine::clock;
use files::{DIRECTORIES, Watch};
use moves::Moves;
use wire::{Channel, Counts, FileId, Order, Report};

pub use holder::hold;
pub use note::Note;
pub use supervisor::GateNews;

/// How long an exec may be held unless the configuration says otherwise.
const BUDGET: Duration = Duration::from_millis(10);
/// How long a process that was moved may take to execute the file, before it is put back.
const EXEC_WITHIN: Duration = Duration::from_millis(100);
/// How long the governor waits for the end of its gate when it ends itself. A move that the gate is in takes a second at most.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// How the gate is set up.
#[derive(Debug, Clone)]
pub struct GateOptions {
    /// The program `ffrtmp-gate`.
    pub program: PathBuf,
    /// File that names the running gate, for a clean-up.
    pub note: PathBuf,
    /// What users may set.
    pub settings: GateSettings,
}

/// What users may set of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSettings {
    /// Directories where programs are looked for by their basenames.
    pub directories: Vec<PathBuf>,
    /// Groups kept ready for each class and its limits.
    pub ready: u32,
    /// How long an exec may be held, from the read of its event.
    pub budget: Duration,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            directories: DIRECTORIES.map(PathBuf::from).to_vec(),
            ready: 16,
            budget: BUDGET,
        }
    }
}

/// A process that the gate moved, and that is no job yet.
#[derive(Debug)]
pub struct Taken {
    /// Class and limits of its group.
    pub kind: Kind,
    /// Its group.
    pub prepared: Prepared,
    /// Where it was before; `None` where the gate could not say.
    pub groups: Option<ProcessCGroups>,
    /// When it sat in its group; boot-time clock, ns.
    pub at_ns: u64,
    /// What it executes; `None` where the gate could not say.
    pub file: Option<FileId>,
}

/// The governor's end.
#[derive(Debug)]
pub struct Gate {
    options: GateOptions,
    channel: Option<Channel>,
    stop: Arc<AtomicBool>,
    /// Who starts it, waits for its end and removes its group then.
    supervisor: Option<JoinHandle<()>>,
    watch: Watch,
    rules: Vec<Rule>,
    /// Only ever grows, so that a number means one kind for as long as we run.
    kinds: Vec<Kind>,
    wanted: BTreeSet<u32>,
    lent: BTreeMap<(u32, u64), Prepared>,
    seq: u64,
    taken: HashMap<u32, Taken>,
    marked: BTreeMap<FileId, (PathBuf, Option<String>)>,
    never: Vec<FileId>,
    pid: Option<u32>,
    restarts: u64,
    off: Option<String>,
    lacks: Vec<String>,
    counts: Counts,
    /// Of the gates before this one.
    earlier: Counts,
    /// Processes it moved that were put back.
    put_back: u64,
    /// How long its last moves took.
    moves: Moves,
}

impl Gate {
    /// A gate that does not run yet.
    pub fn new(options: GateOptions) -> io::Result<Self> {
        let own = std::env::current_exe().ok().and_then(|path| files::id_of(&path));
        let never = own.into_iter().chain(files::id_of(&options.program)).collect();
        Ok(Self {
            options,
            channel: None,
            stop: Arc::default(),
            supervisor: None,
            watch: Watch::new()?,
            rules: Vec::new(),
            kinds: Vec::new(),
            wanted: BTreeSet::new(),
            lent: BTreeMap::new(),
            seq: 0,
            taken: HashMap::new(),
            marked: BTreeMap::new(),
            never,
            pid: None,
            restarts: 0,
            off: None,
            lacks: Vec::new(),
            counts: Counts::default(),
            earlier: Counts::default(),
            put_back: 0,
            moves: Moves::default(),
        })
    }

    /// Takes new rules: starts, changes or ends the gate.
    pub fn set_rules(&mut self, rules: &[Rule], tree: &Tree, tell: impl Fn(GateNews) + Send + 'static) {
        self.rules = rules.to_vec();
        let paths = files::paths(&self.rules, &self.options.settings.directories);
        self.watch.follow(&paths);
        if paths.is_empty() {
            self.close(tree);
            return;
        }
        self.sync(tree);
        if self.supervisor.is_none() {
            self.start(tree, tell);
        }
    }

    fn start(&mut self, tree: &Tree, tell: impl Fn(GateNews) + Send + 'static) {
        let post = supervisor::Post {
            program: self.options.program.clone(),
            note: self.options.note.clone(),
            layout: tree.layout().clone(),
        };
        self.stop = Arc::default();
        self.off = None;
        match supervisor::start(post, Arc::clone(&self.stop), tell) {
            Ok(supervisor) => self.supervisor = Some(supervisor),
            Err(error) => self.off = Some(error.to_string()),
        }
    }

    /// Hears of the gate's life. A channel that it gives is to be watched.
    pub fn hear(&mut self, news: GateNews, tree: &Tree) {
        match news {
            GateNews::Started { pid, channel, lacks } => {
                tracing::info!(pid, "the exec gate runs");
                self.pid = Some(pid);
                self.lacks = lacks;
                self.channel = Some(channel);
                let settings = Order::Settings {
                    ours: tree.listed_slices(),
                    systemd: crate::host::systemd::absent().is_none(),
                    budget: self.options.settings.budget,
                };
                self.send(&settings, &[]);
                let lent: Vec<((u32, u64), Prepared)> =
                    self.lent.iter().map(|(key, one)| (*key, one.clone())).collect();
                for ((kind, seq), prepared) in lent {
                    self.lend(kind, seq, &prepared);
                }
                self.sync(tree);
            }
            GateNews::Ended { why } => {
                let asked = self.stop.load(Ordering::Relaxed);
                if !asked {
                    tracing::warn!(
                        why,
                        "the exec gate ended; held execs run, and it is started again"
                    );
                    self.restarts += 1;
                }
                self.drain(tree);
                self.ended(tree);
                if asked {
                    self.supervisor = None;
                }
            }
            GateNews::Off { why } => {
                tracing::warn!(
                    why,
                    "the exec gate is off; its rules act right after the exec until they are read again"
                );
                self.supervisor = None;
                self.restarts = self.restarts.saturating_sub(1);
                self.off = Some(why);
            }
        }
    }

    /// The gate is gone: groups that it used without saying so are found by who sits in them.
    fn ended(&mut self, tree: &Tree) {
        self.channel = None;
        self.pid = None;
        self.marked.clear();
        self.earlier = self.all_counts();
        self.counts = Counts::default();
        let used: Vec<((u32, u64), u32)> = self
            .lent
            .iter()
            .filter_map(|(key, one)| Some((*key, *one.group.pids().ok()?.first()?)))
            .collect();
        for (key, pid) in used {
            let taken = self.lent.remove(&key);
            if let (Some(prepared), Some(kind)) = (taken, self.kinds.get(key.0 as usize)) {
                let taken = Taken {
                    kind: kind.clone(),
                    prepared,
                    groups: None,
                    at_ns: clock::boot_ns(),
                    file: None,
                };
                self.keep(pid, taken, tree);
            }
        }
    }

    /// True when rules want it and nobody watches over one, though it was not given up.
    pub fn is_closed(&self) -> bool {
        self.supervisor.is_none() && self.off.is_none() && self.stop.load(Ordering::Relaxed)
    }

    fn send(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) {
        if let Some(channel) = &self.channel
            && let Err(error) = channel.send(order, descriptors)
        {
            // One that is gone is told by its supervisor.
            tracing::debug!(%error, ?order, "the gate was not told");
        }
    }

    /// Takes what the gate reported.
    pub fn drain(&mut self, tree: &Tree) {
        let mut used = false;
        while let Some(channel) = &mut self.channel {
            match channel.receive::<Report>() {
                Ok(Some((report, _))) => used |= self.on_report(report, tree),
                Ok(None) => break,
                // Its end is told by the supervisor.
                Err(_ended) => self.channel = None,
            }
        }
        if used {
            self.refill(tree);
        }
    }

    fn on_report(&mut self, report: Report, tree: &Tree) -> bool {
        match report {
            Report::Armed { lacks } => {
                for lack in &lacks {
                    tracing::info!("the exec gate is not {lack}");
                }
                self.lacks.extend(lacks);
            }
            Report::Marked { file, error } => {
                let why = error.map(|error| nix::errno::Errno::from_raw(error).to_string());
                if let Some((path, state)) = self.marked.get_mut(&file) {
                    if let Some(why) = &why {
                        tracing::warn!(path = %path.display(), why, "execs of this file are not held");
                    }
                    *state = why;
                }
            }
            Report::Counts(counts) => self.counts = counts,
            Report::Placed(placed) => {
                self.counts = placed.counts;
                placed.previous_ns.into_iter().for_each(|ns| self.moves.push(ns));
                let lent = self.lent.remove(&(placed.kind, placed.seq));
                if let (Some(prepared), Some(kind)) = (lent, self.kinds.get(placed.kind as usize)) {
                    let taken = Taken {
                        kind: kind.clone(),
                        prepared,
                        groups: ProcessCGroups::from_read(placed.groups.as_bytes()).ok(),
                        at_ns: placed.at_ns,
                        file: Some(placed.file),
                    };
                    self.keep(placed.pid, taken, tree);
                    return true;
                }
            }
        }
        false
    }

    fn keep(&mut self, pid: u32, taken: Taken, tree: &Tree) {
        // A pid that comes again: the first process ended before its exec.
        if let Some(earlier) = self.taken.insert(pid, taken) {
            tree.retire(&earlier.prepared.group);
        }
    }

    /// The process that the gate moved, for whoever knows its exec.
    pub fn take(&mut self, pid: u32) -> Option<Taken> {
        self.taken.remove(&pid)
    }

    /// The same, for whoever puts it back.
    pub fn take_to_put_back(&mut self, pid: u32) -> Option<Taken> {
        let taken = self.take(pid);
        self.put_back += u64::from(taken.is_some());
        taken
    }

    /// The same, left here.
    pub fn taken(&self, pid: u32) -> Option<&Taken> {
        self.taken.get(&pid)
    }

    /// When the first of them must have executed; boot-time clock, ns.
    pub fn due_ns(&self) -> Option<u64> {
        let due = |taken: &Taken| taken.at_ns + EXEC_WITHIN.as_nanos() as u64;
        self.taken.values().map(due).min()
    }

    /// Those whose time is over.
    pub fn overdue(&self, now_ns: u64) -> Vec<u32> {
        let limit = now_ns.saturating_sub(EXEC_WITHIN.as_nanos() as u64);
        let late = self.taken.iter().filter(|(_, taken)| taken.at_ns <= limit);
        late.map(|(pid, _)| *pid).collect()
    }

    /// Descriptors to watch: reports, and changes of files.
    pub fn descriptors(&self) -> (Option<BorrowedFd<'_>>, BorrowedFd<'_>) {
        (self.channel.as_ref().map(AsFd::as_fd), self.watch.as_fd())
    }

    /// Ends the gate and removes what was lent to it.
    pub fn close(&mut self, tree: &Tree) {
        self.stop.store(true, Ordering::Relaxed);
        self.drain(tree);
        // The gate ends when its channel does, and its marks with it.
        self.ended(tree);
        // Its group goes after it. One that cannot end, because a v1 freezer holds it, is left to a clean-up.
        let until = Instant::now() + LAST_WAIT;
        while self
            .supervisor
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        for (_, prepared) in std::mem::take(&mut self.lent) {
            tree.retire(&prepared.group);
        }
    }
}
