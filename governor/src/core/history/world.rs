//! A machine for the histories: processes, the kernel's record map, a host that answers orders, a ledger.
//!
//! The map is the truth and loses nothing; the ring may lose, double and swap. The host is honest: it answers each
//! order, for one job in the order they were given. Every effect is checked when it is ordered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ffrtmp_abi::ProcessKey;

use super::invariant;
use crate::control::types::{AttachRequest, Happened, JobView, ReleaseRequest};
use crate::core::Governor;
use crate::core::event::{Effect, Event, ExitFacts, GroupUsage, PlaceOrder, Placement, Whereabouts};
use crate::core::facts::{Found, ProcessFacts};
use crate::core::fixture::{TestRules, settings, sums};

/// One process and its descendants, as the kernel has them.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) facts: ProcessFacts,
    pub(super) live: u32,
    pub(super) exit: Option<ExitFacts>,
    drained_ns: u64,
}

/// The machine and the governor on it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) governor: Governor,
    pub(super) rules: TestRules,
    /// Every process tree of which something lives, recorded or not.
    pub(super) trees: BTreeMap<ProcessKey, Tree>,
    /// Keys of the kernel's records; a record of a dead tree keeps its tree.
    pub(super) records: BTreeSet<ProcessKey>,
    pub(super) ring: VecDeque<Event>,
    orders: VecDeque<Effect>,
    answers: VecDeque<Event>,
    saving: VecDeque<ProcessKey>,
    committed: VecDeque<ProcessKey>,
    /// Open records on disk, of every life of the governor.
    open: BTreeMap<ProcessKey, JobView>,
    /// Final records on disk.
    ledger: BTreeSet<ProcessKey>,
    wake: Option<u64>,
    /// Jobs somebody wanted to end, in this life of the governor.
    may_signal: BTreeSet<ProcessKey>,
    /// Jobs opened in this life, and how often their final record was handed to the ledger.
    opened: BTreeMap<ProcessKey, u32>,
    rescan: bool,
}

impl World {
    pub(super) fn new(rules: TestRules) -> Self {
        let mut world = Self {
            now: 1_000,
            governor: Governor::new(settings()),
            rules: TestRules::default(),
            trees: BTreeMap::new(),
            records: BTreeSet::new(),
            ring: VecDeque::new(),
            orders: VecDeque::new(),
            answers: VecDeque::new(),
            saving: VecDeque::new(),
            committed: VecDeque::new(),
            open: BTreeMap::new(),
            ledger: BTreeSet::new(),
            wake: None,
            may_signal: BTreeSet::new(),
            opened: BTreeMap::new(),
            rescan: false,
        };
        world.replace_rules(rules);
        world
    }

    /// One event for the governor, with every check after it.
    pub(super) fn tell(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.governor.handle(self.now, event, &mut effects);
        self.absorb(effects);
    }

    fn absorb(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.perform(effect);
        }
        invariant::check_all(&self.governor, self.now, self.wake);
        if std::mem::take(&mut self.rescan) {
            self.scan();
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Forget { key } => {
                assert!(!self.governor.jobs.contains_key(&key), "forgot the job {key:?}");
                self.drop_record(key);
            }
            Effect::Place(ref order) => {
                self.opened.entry(order.key).or_default();
                self.orders.push_back(effect);
            }
            Effect::Retire { .. } | Effect::Recheck { .. } | Effect::Release { .. } => {
                self.orders.push_back(effect);
            }
            Effect::Signal { key, .. } => {
                assert!(self.may_signal.contains(&key), "nobody asked to end {key:?}");
            }
            Effect::Save { job, closed } => {
                let count = self.opened.entry(job.key.0).or_default();
                assert_eq!(*count, 0, "saved after its final record: {job:?}");
                if closed {
                    *count += 1;
                    assert!(job.report.exit.is_some(), "closed without an end: {job:?}");
                    self.saving.push_back(job.key.0);
                } else {
                    self.open.insert(job.key.0, *job);
                }
            }
            Effect::DropRecord { key } => {
                assert!(self.ledger.contains(&key), "dropped before its commit: {key:?}");
                self.drop_record(key);
            }
            Effect::Publish { what, job } => {
                let ended = matches!(what, Happened::Exited | Happened::Closed);
                assert!(!ended || job.report.exit.is_some(), "{what:?} without an end");
            }
            Effect::SyncFilter => self.rescan = true,
            Effect::WatchPressure { .. } | Effect::LimitClass { .. } => {}
            Effect::WakeAt { at_ns } => {
                assert!(at_ns >= self.now, "woken in the past");
                self.wake = Some(at_ns);
            }
        }
    }

    fn drop_record(&mut self, key: ProcessKey) {
        self.records.remove(&key);
        self.trees.retain(|other, tree| *other != key || tree.live > 0);
    }

    /// A program is executed; the pre-filter knows only names that some rule has.
    pub(super) fn exec(&mut self, pid: u32, name: &str, container: bool) {
        if self
            .trees
            .values()
            .any(|tree| tree.facts.key.pid == pid && tree.exit.is_none())
        {
            return;
        }
        let facts = ProcessFacts {
            container: container.then(|| "docker".to_owned()),
            ..crate::core::fixture::facts(pid, self.now, name)
        };
        let (key, admitted) = (facts.key, self.governor.names().contains(&facts.basename));
        let tree = Tree {
            facts: facts.clone(),
            live: 1,
            exit: None,
            drained_ns: 0,
        };
        self.trees.insert(key, tree);
        if admitted {
            self.records.insert(key);
            self.ring.push_back(Event::Appeared(facts));
        }
    }

    /// One process of a tree ends: the first, or a child.
    pub(super) fn end(&mut self, key: ProcessKey, first: bool, status: i32) {
        let now = self.now;
        let Some(tree) = self.trees.get_mut(&key) else {
            return;
        };
        let children = tree.live - u32::from(tree.exit.is_none());
        if first && tree.exit.is_none() {
            tree.exit = Some(crate::core::fixture::exit(now, status));
        } else if children == 0 {
            return;
        }
        tree.live -= 1;
        let drained = tree.live == 0;
        tree.drained_ns = if drained { now } else { 0 };
        let told = if first {
            tree.exit.clone().map(|exit| (exit, tree.live))
        } else {
            None
        };
        if !self.records.contains(&key) {
            self.trees.retain(|other, tree| *other != key || tree.live > 0);
            return;
        }
        if let Some((exit, live)) = told {
            self.ring.push_back(Event::Exited { key, exit, live });
        }
        if drained {
            self.ring.push_back(Event::Drained {
                key,
                usage: sums(),
                at_ns: now,
            });
        }
    }

    /// The host carries out one order.
    pub(super) fn work(&mut self, succeed: bool) {
        let Some(order) = self.orders.pop_front() else {
            return;
        };
        let answer = match order {
            Effect::Place(order) => self.place(&order, succeed),
            Effect::Retire { key } => Event::Retired {
                key,
                group: GroupUsage {
                    oom_kills: succeed.then_some(0),
                    ..GroupUsage::default()
                },
                warnings: Vec::new(),
            },
            Effect::Recheck { key, moved, restore } => {
                let outside = (!(restore && succeed)).then(|| "/ffrtmp.slice/media/s1".to_owned());
                let found = Whereabouts {
                    outside: outside.into_iter().collect(),
                    restored: usize::from(restore && succeed),
                    failed: (restore && !succeed).then(|| "no such process".to_owned()),
                };
                Event::Rechecked { key, moved, found }
            }
            Effect::Release { key } => Event::Released {
                key,
                undone: vec!["moved back".to_owned()],
                warnings: Vec::new(),
            },
            other => panic!("{other:?} is no order"),
        };
        self.answers.push_back(answer);
    }

    fn place(&self, order: &PlaceOrder, succeed: bool) -> Event {
        let key = order.key;
        let alive = self.trees.get(&key).is_some_and(|tree| tree.live > 0);
        if succeed && alive {
            let placement = Placement {
                groups: vec![format!("/ffrtmp.slice/{}/{}", order.class, order.name)],
                at_ns: self.now,
                ..Placement::default()
            };
            Event::Placed { key, placement }
        } else {
            Event::PlaceFailed {
                key,
                why: "no such process".to_owned(),
                placement: Placement::default(),
            }
        }
    }

    /// The governor hears one answer.
    pub(super) fn answer(&mut self) {
        if let Some(event) = self.answers.pop_front() {
            self.tell(event);
        }
    }

    /// The ledger commits one record.
    pub(super) fn commit(&mut self) {
        if let Some(key) = self.saving.pop_front() {
            assert!(self.ledger.insert(key), "a second final record of {key:?}");
            self.committed.push_back(key);
        }
    }

    /// The governor hears of one commit.
    pub(super) fn acknowledge(&mut self) {
        if let Some(key) = self.committed.pop_front() {
            self.tell(Event::Saved { key });
        }
    }

    /// Time goes on, and the timer fires when it is due.
    pub(super) fn pass(&mut self, ns: u64) {
        self.now += ns;
        if self.wake.is_some_and(|wake| wake <= self.now) {
            self.wake = None;
            self.tell(Event::DeadlinePassed);
        }
    }

    /// Live processes that some rule names and that have no record are admitted and told of.
    fn scan(&mut self) {
        let names = self.governor.names();
        let candidates: Vec<ProcessFacts> = self
            .trees
            .values()
            .filter(|tree| tree.exit.is_none() && names.contains(&tree.facts.basename))
            .filter(|tree| !self.records.contains(&tree.facts.key))
            .map(|tree| tree.facts.clone())
            .collect();
        for facts in candidates {
            self.records.insert(facts.key);
            let adopted = ProcessFacts {
                found: Found::Adopted,
                ..facts
            };
            self.tell(Event::Appeared(adopted));
        }
    }

    /// Walks the kernel map once and tells everything in it again. A live job without a record has lost its end.
    pub(super) fn resync(&mut self) {
        for key in self.records.clone() {
            let Some(tree) = self.trees.get(&key).cloned() else {
                continue;
            };
            let facts = ProcessFacts {
                found: Found::Adopted,
                ..tree.facts
            };
            self.tell(Event::Appeared(facts));
            if let Some(exit) = tree.exit {
                let live = tree.live;
                self.tell(Event::Exited { key, exit, live });
            }
            if tree.live == 0 {
                let at_ns = tree.drained_ns;
                self.tell(Event::Drained {
                    key,
                    usage: sums(),
                    at_ns,
                });
            }
        }
        let live = self.governor.jobs.values().filter(|job| job.state.live());
        let orphans: Vec<ProcessKey> = live
            .map(|job| job.key)
            .filter(|key| !self.records.contains(key))
            .collect();
        for key in orphans {
            let (usage, at_ns) = (sums(), self.now);
            self.tell(Event::Drained { key, usage, at_ns });
        }
    }

    pub(super) fn replace_rules(&mut self, rules: TestRules) {
        self.rules = rules.clone();
        let mut effects = Vec::new();
        self.governor
            .replace_rules(self.now, Box::new(rules), &mut effects);
        self.absorb(effects);
    }

    pub(super) fn open_session(&mut self, rules: TestRules) {
        let mut effects = Vec::new();
        self.governor
            .open_session(self.now, 7, Box::new(rules), &mut effects);
        self.absorb(effects);
    }

    pub(super) fn attach(&mut self, key: ProcessKey, request: &AttachRequest) {
        let Some(tree) = self.trees.get(&key).filter(|tree| tree.exit.is_none()) else {
            return;
        };
        let facts = tree.facts.clone();
        let mut effects = Vec::new();
        if self
            .governor
            .attach(self.now, request, facts, &mut effects)
            .is_ok()
        {
            self.records.insert(key);
            if request.timeout_ms.is_some() {
                self.may_signal.insert(key);
            }
        } else {
            assert!(effects.is_empty(), "a refused request had effects: {effects:?}");
        }
        self.absorb(effects);
    }

    pub(super) fn release(&mut self, request: &ReleaseRequest) {
        let mut effects = Vec::new();
        let _ = self.governor.release(self.now, request, &mut effects);
        self.absorb(effects);
    }

    pub(super) fn cancel(&mut self, key: ProcessKey) {
        self.may_signal.insert(key);
        let mut effects = Vec::new();
        let _ = self.governor.cancel(self.now, key, &mut effects);
        self.absorb(effects);
    }

    /// The governor is killed and started again: whatever was in its memory and queues is gone. The new one drops what
    /// the ledger has, takes up the jobs it knows of, and is told of the rest.
    pub(super) fn restart(&mut self) {
        self.governor = Governor::new(settings());
        self.ring.clear();
        self.orders.clear();
        self.answers.clear();
        self.saving.clear();
        self.committed.clear();
        self.wake = None;
        self.may_signal.clear();
        self.opened.clear();
        for key in self.records.clone() {
            if self.ledger.contains(&key) {
                self.drop_record(key);
            }
        }
        for (key, view) in self.open.clone() {
            if !self.ledger.contains(&key) {
                let mut effects = Vec::new();
                self.governor.restore(self.now, &view, &mut effects);
                self.opened.insert(key, 0);
                self.absorb(effects);
            }
        }
        self.replace_rules(self.rules.clone());
        self.resync();
    }

    /// Everything ends, everything is delivered; then the books must balance.
    pub(super) fn settle(&mut self) {
        for key in self.trees.keys().copied().collect::<Vec<_>>() {
            self.end(key, true, 9);
            while self.trees.get(&key).is_some_and(|tree| tree.live > 0) {
                self.end(key, false, 0);
            }
        }
        self.drain_queues();
        self.pass(100_000_000_000);
        self.resync();
        self.drain_queues();
        assert_eq!(self.governor.live(), 0, "{:?}", self.governor.jobs());
        assert!(self.governor.jobs.is_empty(), "{:?}", self.governor.jobs);
        assert!(self.governor.waiting.is_empty());
        assert!(self.records.is_empty(), "records nobody took: {:?}", self.records);
        for (key, closed) in &self.opened {
            assert_eq!(*closed, 1, "final records of {key:?}");
            assert!(self.ledger.contains(key));
        }
        for key in self.open.keys() {
            assert!(self.ledger.contains(key), "{key:?} is open on disk for ever");
        }
    }

    fn drain_queues(&mut self) {
        while let Some(event) = self.ring.pop_front() {
            self.tell(event);
        }
        while !(self.orders.is_empty()
            && self.answers.is_empty()
            && self.saving.is_empty()
            && self.committed.is_empty())
        {
            self.work(true);
            self.answer();
            self.commit();
            self.acknowledge();
        }
    }
}
