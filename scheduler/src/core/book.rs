//! The books: everything the scheduler keeps in memory so as not to ask the disk.
//!
//! The disk is the truth; the books are an index over it, rebuilt at start and whenever a commit failed. The store
//! calls a method here only after the row is written. [`Book::place_of`] and the counters let an audit compare both.

use std::collections::{BTreeMap, BTreeSet};

use ffrtmp_api::{Band, Epoch, JobState, Needs, NodeStatus};

use super::blocklist::{Blocklist, NodeNumber};
use super::choose::{Choice, Chooser, Offer};
use super::fleet::Fleet;
use super::live::{Live, LiveSet, Stop};
use super::policy::Policy;
use super::ready::{Place, Ready};
use super::{ClassId, Moment, Seq, TenantId, needs};

/// What a tenant may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantCap {
    /// Its name.
    pub name: String,
    /// Jobs at once; `None` for no cap.
    pub max_running: Option<u32>,
    /// Slots-taking attempts it has.
    pub running: u32,
}

/// Run time of finished jobs of one class: a mean that forgets, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunTime {
    /// The mean.
    pub mean_ms: f64,
    /// Jobs it was made of.
    pub samples: u32,
}

/// The books.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// The operator's numbers.
    pub policy: Policy,
    /// Boot time of our start.
    pub started_ms: u64,
    /// Jobs that may be given out.
    pub ready: Ready,
    /// Jobs in `retrying`: due time on the boot clock, then number.
    delayed: BTreeSet<(u64, Seq)>,
    due: BTreeMap<Seq, u64>,
    /// Attempts that take slots.
    pub live: LiveSet,
    /// Nodes.
    pub fleet: Fleet,
    /// Kinds of work nodes are not given.
    pub blocklist: Blocklist,
    /// Fairness.
    pub chooser: Chooser,
    /// Classes of needs.
    pub classes: BTreeMap<ClassId, Needs>,
    /// Tenants.
    pub tenants: BTreeMap<TenantId, TenantCap>,
    /// Jobs in each state.
    pub counts: BTreeMap<JobState, u64>,
    /// Waiting jobs that are held.
    pub held: u64,
    /// Run times by class.
    pub run_times: BTreeMap<ClassId, RunTime>,
    /// Totals since our start.
    pub totals: BTreeMap<&'static str, u64>,
    class_by_needs: BTreeMap<Needs, ClassId>,
    tenant_by_name: BTreeMap<String, TenantId>,
}

/// What a transition needs to know of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub seq: Seq,
    /// Where it stands.
    pub state: JobState,
    /// Where it waits when it waits.
    pub place: Place,
    /// Not given out.
    pub held: bool,
}

impl Book {
    /// Empty books that begin now.
    pub fn new(policy: Policy, now: Moment) -> Self {
        Self {
            policy,
            started_ms: now.boot_ms,
            ..Self::default()
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str, more: u64) {
        *self.totals.entry(what).or_default() += more;
    }

    /// Adds a class as the disk numbers it.
    pub fn add_class(&mut self, class: ClassId, needs: Needs) {
        self.class_by_needs.insert(needs.clone(), class);
        self.classes.insert(class, needs);
    }

    /// Number of the class with these needs.
    pub fn class_of(&self, needs: &Needs) -> Option<ClassId> {
        self.class_by_needs.get(needs).copied()
    }

    /// Adds a tenant as the disk numbers it, or changes its cap.
    pub fn add_tenant(&mut self, tenant: TenantId, name: String, max_running: Option<u32>) {
        self.tenant_by_name.insert(name.clone(), tenant);
        let running = self.tenants.get(&tenant).map_or(0, |cap| cap.running);
        let cap = TenantCap {
            name,
            max_running,
            running,
        };
        self.tenants.insert(tenant, cap);
    }

    /// Number of a tenant; no name is tenant 0.
    pub fn tenant_of(&self, name: Option<&str>) -> Option<TenantId> {
        match name {
            None => Some(0),
            Some(name) => self.tenant_by_name.get(name).copied(),
        }
    }

    /// A job entered `standing.state` (it is new, or was read from the disk). `since_ms` is when it began to wait,
    /// `due_ms` when its next try is due, both on the boot clock.
    pub fn enter(&mut self, standing: Standing, since_ms: u64, due_ms: u64) {
        *self.counts.entry(standing.state).or_default() += 1;
        match standing.state {
            JobState::Queued if standing.held => self.held += 1,
            JobState::Queued => self.ready.insert(standing.seq, standing.place, since_ms),
            JobState::Retrying => {
                self.delayed.insert((due_ms, standing.seq));
                self.due.insert(standing.seq, due_ms);
            }
            _ => {}
        }
    }

    /// A job leaves `standing.state`.
    pub fn leave(&mut self, standing: Standing) {
        if let Some(count) = self.counts.get_mut(&standing.state) {
            *count = count.saturating_sub(1);
        }
        match standing.state {
            JobState::Queued if standing.held => self.held = self.held.saturating_sub(1),
            JobState::Queued => {
                self.ready.remove(standing.seq, standing.place);
            }
            JobState::Retrying => {
                if let Some(due_ms) = self.due.remove(&standing.seq) {
                    self.delayed.remove(&(due_ms, standing.seq));
                }
            }
            _ => {}
        }
    }

    /// A job changed its place without a step of its state; it keeps the time since which it waits.
    pub fn shift(&mut self, before: Standing, after: Standing, now: Moment) {
        let due_ms = self.due.get(&before.seq).copied().unwrap_or(now.boot_ms);
        let since_ms = self.ready.since(before.seq, before.place).unwrap_or(now.boot_ms);
        self.leave(before);
        self.enter(after, since_ms, due_ms);
    }

    /// Jobs whose pause is over, at most `most`.
    pub fn due(&self, now: Moment, most: usize) -> Vec<Seq> {
        let ripe = self.delayed.range(..=(now.boot_ms, Seq::MAX));
        ripe.take(most).map(|(_, seq)| *seq).collect()
    }

    /// Every job in `retrying`.
    pub fn delayed(&self) -> impl Iterator<Item = Seq> {
        self.due.keys().copied()
    }

    /// The rest of a job's pause in milliseconds.
    pub fn due_in(&self, seq: Seq, now: Moment) -> u64 {
        self.due
            .get(&seq)
            .map_or(0, |due| due.saturating_sub(now.boot_ms))
    }

    /// An attempt takes its slots.
    pub fn occupy(&mut self, live: Live) {
        if let Some(member) = self.fleet.get_mut(live.node) {
            member.used += live.slots;
        }
        if let Some(cap) = self.tenants.get_mut(&live.tenant) {
            cap.running += 1;
        }
        self.live.insert(live);
    }

    /// An attempt is over and its slots are free.
    pub fn vacate(&mut self, epoch: Epoch) -> Option<Live> {
        let live = self.live.remove(epoch)?;
        if let Some(member) = self.fleet.get_mut(live.node) {
            member.used = member.used.saturating_sub(live.slots);
        }
        if let Some(cap) = self.tenants.get_mut(&live.tenant) {
            cap.running = cap.running.saturating_sub(1);
        }
        Some(live)
    }

    /// An attempt is to be ended.
    pub fn stopping(&mut self, epoch: Epoch, stop: Stop, now: Moment) {
        if let Some(live) = self.live.get_mut(epoch) {
            live.phase = ffrtmp_api::AttemptPhase::Stopping;
            live.stop = Some(stop);
            live.moved_ms = now.boot_ms;
        }
    }

    /// True when the node may be given anything at all.
    pub fn may_claim(&self, node: NodeNumber, now: Moment) -> bool {
        self.fleet
            .get(node)
            .is_some_and(|member| member.status(&self.policy, now) == NodeStatus::Available)
    }

    /// True when the node, were it free, would be given this class.
    pub fn would_take(&self, node: NodeNumber, class: ClassId, now: Moment) -> bool {
        let member = self.fleet.get(node);
        let needs = self.classes.get(&class);
        member
            .zip(needs)
            .is_some_and(|(member, needs)| member.can(class, needs))
            && !self.blocklist.blocked(node, class, now)
    }

    /// The job the node gets next.
    pub fn choose(&mut self, node: NodeNumber, now: Moment) -> Option<Choice> {
        if !self.may_claim(node, now) {
            return None;
        }
        let mut chooser = std::mem::take(&mut self.chooser);
        let takes = |class: ClassId| {
            self.would_take(node, class, now)
                .then(|| self.classes.get(&class).map(needs::slots))
                .flatten()
        };
        let capped = |tenant: TenantId| self.capped(tenant);
        let offer = Offer {
            node,
            free: self.fleet.get(node).map_or(0, super::fleet::Member::free),
            takes: &takes,
            capped: &capped,
        };
        let choice = chooser.choose(&self.policy, &self.ready, &offer, now);
        self.chooser = chooser;
        choice
    }

    /// True when the tenant runs as many jobs as it may.
    pub fn capped(&self, tenant: TenantId) -> bool {
        self.tenants
            .get(&tenant)
            .is_some_and(|cap| cap.max_running.is_some_and(|most| most <= cap.running))
    }

    /// Learns how long jobs of a class run. The weight of the newest of many is one tenth.
    pub fn learn(&mut self, class: ClassId, run_ms: u64) {
        let entry = self.run_times.entry(class).or_insert(RunTime {
            mean_ms: 0.0,
            samples: 0,
        });
        entry.samples = entry.samples.saturating_add(1);
        let weight = 1.0 / f64::from(entry.samples.min(10));
        entry.mean_ms += weight * (run_ms as f64 - entry.mean_ms);
    }

    /// Waiting jobs of every band that has some.
    pub fn depths(&self) -> Vec<(Band, u64)> {
        (0..Band::COUNT)
            .filter_map(Band::from_index)
            .map(|band| (band, self.ready.depth(band) as u64))
            .collect()
    }
}
