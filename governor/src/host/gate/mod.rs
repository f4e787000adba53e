//! The exec gate: `ffrtmp-gate` ([`hold`]) and the governor's end of it ([`Gate`]).
//!
//! The governor says which files are held and lends groups whose limits stand; the gate moves a process into one and
//! lets its exec go on. What is lent, what is held and what was marked is kept here; what becomes of a process is the
//! engine's to say, once it hears of the exec itself.

mod armour;
mod event;
mod files;
mod holder;
mod note;
mod status;
mod supervisor;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::unistd::User;
use procfs::{FromRead, ProcessCGroups};

use super::cgroup::{CgroupError, Prepared, Tree};
use crate::core::gate::{Choice, Kind, choices};
use crate::core::rule::Rule;
use crate::engine::clock;
use files::{Program, Watch};
use wire::{Channel, Counts, FileId, Order, Report};

pub use files::DIRECTORIES;
pub use holder::hold;
pub use note::Note;
pub use supervisor::GateNews;

/// How long an exec may be held unless the configuration says otherwise, from the read of its event.
pub const BUDGET: Duration = Duration::from_millis(10);
/// How long a process that was moved may take to execute the file, before it is put back.
const EXEC_WITHIN: Duration = Duration::from_millis(100);

/// How the gate is set up.
#[derive(Debug, Clone)]
pub struct GateOptions {
    /// The program `ffrtmp-gate`.
    pub program: PathBuf,
    /// File that names the running gate, for a clean-up.
    pub note: PathBuf,
    /// Where programs are looked for by their basenames.
    pub directories: Vec<PathBuf>,
    /// Groups kept ready for each class and its limits.
    pub ready: usize,
    /// How long an exec may be held.
    pub budget: Duration,
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
    /// Whether a supervisor runs.
    watched: bool,
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
            watched: false,
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
        })
    }

    /// Takes new rules: starts, changes or ends the gate.
    pub fn set_rules(&mut self, rules: &[Rule], tree: &Tree, tell: impl Fn(GateNews) + Send + 'static) {
        self.rules = rules.to_vec();
        let paths = files::paths(&self.rules, &self.options.directories);
        self.watch.follow(&paths);
        if paths.is_empty() {
            self.close(tree);
            return;
        }
        self.sync(tree);
        if !self.watched {
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
            Ok(()) => self.watched = true,
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
                    budget: self.options.budget,
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
                self.watched &= !asked;
            }
            GateNews::Off { why } => {
                tracing::warn!(
                    why,
                    "the exec gate is off; its rules act right after the exec until they are read again"
                );
                self.watched = false;
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
        !self.watched && self.off.is_none() && self.stop.load(Ordering::Relaxed)
    }

    /// Brings files and groups to what the rules want now.
    pub fn sync(&mut self, tree: &Tree) {
        let paths = files::paths(&self.rules, &self.options.directories);
        self.watch.follow(&paths);
        let programs = files::programs(&paths);
        self.wanted.clear();
        let mut gone: BTreeSet<FileId> = self.marked.keys().copied().collect();
        for program in programs {
            gone.remove(&program.id);
            self.mark(&program);
        }
        for file in gone {
            if let Some((path, _)) = self.marked.remove(&file) {
                // A file that was replaced has no name left to open it by, and nobody executes it anew.
                let open = files::open(&path).ok().filter(|program| program.id == file);
                let open = open.as_ref().map(|program| program.open.as_fd());
                self.send(&Order::Unmark { file }, open.as_slice());
            }
        }
        let wanted = self.wanted.clone();
        self.take_back(tree, |kind| !wanted.contains(&kind));
        self.refill(tree);
    }

    fn mark(&mut self, program: &Program) {
        let Program { path, id, open } = program;
        if self.never.contains(id) {
            let why = "it is the governor or the gate itself".to_owned();
            self.marked.insert(*id, (path.clone(), Some(why)));
            return;
        }
        let choices = self.choices(path);
        self.wanted
            .extend(choices.iter().filter_map(|choice| choice.kind));
        if choices.is_empty() {
            return;
        }
        self.marked
            .insert(*id, (path.clone(), Some("not answered yet".to_owned())));
        self.send(&Order::Mark { file: *id, choices }, &[open.as_fd()]);
    }

    fn choices(&mut self, path: &Path) -> Vec<Choice> {
        let uid_of = |name: &str| Some(User::from_name(name).ok()??.uid.as_raw());
        choices(&self.rules, &path.to_string_lossy(), &mut self.kinds, uid_of)
    }

    /// An exec was told that the gate did not hold: its file is marked for the next time.
    pub fn learn(&mut self, pid: u32, filename: &str, tree: &Tree) {
        if self.channel.is_none() || self.taken.contains_key(&pid) {
            return;
        }
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let known = files::id_of(&exe).is_none_or(|id| self.marked.contains_key(&id));
        if known || self.choices(filename.as_ref()).is_empty() {
            return;
        }
        if let Ok(program) = files::open(&exe) {
            self.mark(&Program {
                path: filename.into(),
                ..program
            });
            self.refill(tree);
        }
    }

    /// Takes all groups back, because what stands above them changes. New ones come with [`Self::refill`].
    pub fn discard(&mut self, tree: &Tree) {
        self.take_back(tree, |_| true);
    }

    /// Takes groups back. One that was used this instant stays, and is told of.
    fn take_back(&mut self, tree: &Tree, which: impl Fn(u32) -> bool) {
        let kinds: BTreeSet<u32> = self.lent.keys().map(|key| key.0).filter(|kind| which(*kind)).collect();
        for kind in &kinds {
            self.send(&Order::Forget { kind: *kind }, &[]);
        }
        self.lent
            .retain(|key, prepared| !kinds.contains(&key.0) || !tree.retire(&prepared.group).left.is_empty());
    }

    /// Lends groups until the gate has as many as it should.
    pub fn refill(&mut self, tree: &Tree) {
        if self.channel.is_none() {
            return;
        }
        for kind in self.wanted.clone() {
            let lent = self.lent.range((kind, 0)..=(kind, u64::MAX)).count();
            for _ in lent..self.options.ready {
                match self.make_ready(kind, tree) {
                    Ok(Some((seq, prepared))) => {
                        self.lend(kind, seq, &prepared);
                        self.lent.insert((kind, seq), prepared);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(error = %super::file::chain(&error), "no group can be made ready for the gate");
                        break;
                    }
                }
            }
        }
    }

    /// A group under the limits of this kind, in which nobody was yet.
    fn make_ready(&mut self, kind: u32, tree: &Tree) -> Result<Option<(u64, Prepared)>, CgroupError> {
        let Some(Kind { class, limits }) = self.kinds.get(kind as usize) else {
            return Ok(None);
        };
        self.seq += 1;
        let prepared = tree.prepare(class, &format!("g{}", self.seq), limits)?;
        Ok(Some((self.seq, prepared)))
    }

    fn lend(&mut self, kind: u32, seq: u64, prepared: &Prepared) {
        match prepared.group.open_procs() {
            Ok(procs) => {
                let procs: Vec<BorrowedFd<'_>> = procs.iter().map(AsFd::as_fd).collect();
                self.send(&Order::Ready { kind, seq }, &procs);
            }
            Err(error) => tracing::warn!(error = %super::file::chain(&error), "a ready group cannot be lent"),
        }
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

    /// Where a file is meant by, when it is one that the gate holds.
    pub fn path_of(&self, file: FileId) -> Option<&Path> {
        self.marked.get(&file).map(|(path, _)| path.as_path())
    }

    /// The file that a process runs.
    pub fn runs(pid: u32) -> Option<FileId> {
        files::id_of(Path::new(&format!("/proc/{pid}/exe")))
    }

    /// Descriptors to watch: reports, and changes of files.
    pub fn descriptors(&self) -> (Option<BorrowedFd<'_>>, BorrowedFd<'_>) {
        (self.channel.as_ref().map(AsFd::as_fd), self.watch.as_fd())
    }

    /// A name changed in a directory of ours.
    pub fn on_change(&mut self, tree: &Tree) {
        if self.watch.take_changes() {
            self.sync(tree);
        }
    }

    /// Ends the gate and removes what was lent to it.
    pub fn close(&mut self, tree: &Tree) {
        self.stop.store(true, Ordering::Relaxed);
        self.drain(tree);
        // The gate ends when its channel does, and its marks with it.
        self.ended(tree);
        for (_, prepared) in std::mem::take(&mut self.lent) {
            tree.retire(&prepared.group);
        }
    }
}
