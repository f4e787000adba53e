//! The pure core: facts in, decisions out. No file, socket, clock, process or thread is touched here.
//!
//! ```text
//!  Appeared ──rules──▶ ignore ──▶ Forget
//!     │                later  ──▶ WakeAt … DeadlinePassed ──▶ judged again
//!     ▼ govern
//!  Placing ──Placed──────▶ Governed ──Released──▶ Observed
//!     │  └───PlaceFailed─▶ Unplaced                  │      (containers start as Observed)
//!     ▼        ▼                ▼                    ▼
//!  Exited: Draining ──Drained──▶ Retiring ──Retired──▶ Closed ──Saved──▶ gone, DropRecord
//! ```
//!
//! [`Governor::handle`] turns one event into effects; requests that need an answer at once ([`Governor::attach`],
//! [`Governor::release`], [`Governor::cancel`]) are methods. The host answers the orders for one job in the order they
//! were given. What may happen in which state is the table in [`job`]; everything else is a stray, counted and without
//! consequence, because a duplicate or a late answer must never do harm.

use std::collections::{BTreeMap, HashMap};

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::JobId;
use jiff::Timestamp;

use crate::control::types::{Happened, JobView};

pub mod chain;
pub mod event;
pub mod exit;
pub mod facts;
pub mod gate;
pub mod job;
pub mod origin;
pub mod plan;
pub mod policy;
pub mod pressure;
pub mod readback;
pub mod redact;
pub mod rule;
pub mod tier;
pub mod unit;

mod answer;
mod breach;
mod deadline;
mod explain;
#[cfg(test)]
mod fixture;
mod foreign;
#[cfg(test)]
mod history;
mod mode;
mod observe;
mod process;
mod query;
mod recent;
mod record;
mod request;
mod restore;
#[cfg(test)]
mod story;
mod usage;
mod view;

use chain::{Chain, Rules};
use deadline::{Deadlines, Due};
use event::{Effect, Event, ExitFacts, KernelUsage, Whom};
use exit::EndOrder;
use facts::ProcessFacts;
use job::State;
use pressure::Pressure;
use recent::Recent;
use record::Job;
use redact::Redactor;
use rule::{Needs, Pair};

/// SIGTERM: asks a job to end.
const SIGTERM: i32 = 15;
/// SIGKILL: ends it.
const SIGKILL: i32 = 9;

/// What the core is told once, at its making.
#[derive(Debug, Clone)]
pub struct CoreSettings {
    /// Where the facts come from: `kernel`, `connector` or `scan`.
    pub tier: String,
    /// Wall time when the boot-time clock stood at zero.
    pub boot: Timestamp,
    /// Class of jobs that somebody asked for by pid.
    pub default_class: String,
    /// How many closed jobs are remembered.
    pub keep_closed: usize,
    /// How many processes no rule wanted are remembered, with the reason.
    pub keep_ignored: usize,
    /// Replaces secrets in the arguments a job shows; rules see them unchanged.
    pub redactor: Redactor,
    /// How long after SIGTERM a job that was to end is killed, ns.
    pub kill_grace_ns: u64,
    /// How often a placement that failed is ordered again while the process lives: after 1 s, 2 s, 4 s and so on.
    pub placement_retries: u32,
    /// Why no systemd scope can be had on this machine; `None` where one can.
    pub no_scopes: Option<String>,
}

impl CoreSettings {
    /// How often a placement is tried again unless somebody says otherwise.
    pub const PLACEMENT_RETRIES: u32 = 3;

    /// The defaults: class `default`, 1000 closed jobs and 1000 ignored processes remembered, 5 s from SIGTERM to
    /// SIGKILL, three retries of a placement.
    pub fn new(tier: &str, boot: Timestamp) -> Self {
        Self {
            tier: tier.to_owned(),
            boot,
            default_class: "default".to_owned(),
            keep_closed: 1_000,
            keep_ignored: 1_000,
            redactor: Redactor::default(),
            kill_grace_ns: 5_000_000_000,
            placement_retries: Self::PLACEMENT_RETRIES,
            no_scopes: Some("nobody looked for systemd".to_owned()),
        }
    }
}

/// A process no rule wanted.
#[derive(Debug)]
struct Ignored {
    appearance: String,
    why: String,
    judged_us: u64,
    /// It has ended. A late or doubled word of its exec must not make a job of it that nobody ever ends.
    ended: bool,
}

/// The end of a process we have not been told of yet.
#[derive(Debug, Default)]
struct Early {
    exit: Option<(ExitFacts, u32)>,
    drain: Option<(KernelUsage, u64)>,
}

/// How many ends are kept for processes that have not appeared yet. Each is in the kernel map too, so one that is
/// pushed out comes back with the next resync.
const KEEP_EARLY: usize = 1_024;

/// The whole brain: every job, the rules, the deadlines.
#[derive(Debug)]
pub struct Governor {
    settings: CoreSettings,
    rules: Chain,
    jobs: BTreeMap<ProcessKey, Job>,
    /// Job ids of jobs that are not closed; "unknown" is nobody's.
    ids: HashMap<JobId, ProcessKey>,
    waiting: BTreeMap<ProcessKey, ProcessFacts>,
    closed: Recent<Job>,
    ignored: Recent<Ignored>,
    early: Recent<Early>,
    deadlines: Deadlines,
    pressure: Pressure,
    strays: u64,
    /// Processes that a rule took, since the start.
    discovered: u64,
}

impl Governor {
    /// A governor without rules and jobs.
    pub fn new(settings: CoreSettings) -> Self {
        Self {
            closed: Recent::new(settings.keep_closed),
            ignored: Recent::new(settings.keep_ignored),
            early: Recent::new(KEEP_EARLY),
            settings,
            rules: Chain::default(),
            jobs: BTreeMap::new(),
            ids: HashMap::new(),
            waiting: BTreeMap::new(),
            deadlines: Deadlines::default(),
            pressure: Pressure::default(),
            strays: 0,
            discovered: 0,
        }
    }

    /// Takes one event in and says what is to be done. `now_ns` is the boot-time clock and never runs backwards.
    pub fn handle(&mut self, now_ns: u64, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Appeared(facts) => self.on_appeared(now_ns, facts, effects),
            Event::Reexeced { root, facts } => self.on_reexeced(now_ns, root, facts, effects),
            Event::Placed { key, placement } => self.on_placed(now_ns, key, placement, effects),
            Event::PlaceFailed { key, why, placement } => {
                self.on_place_failed(now_ns, key, why, placement, effects);
            }
            Event::Exited { key, exit, live } => self.on_exited(now_ns, key, exit, live, effects),
            Event::Drained { key, usage, at_ns } => self.on_drained(now_ns, key, usage, at_ns, effects),
            Event::Retired { key, group, warnings } => {
                self.on_retired(now_ns, key, group, &warnings, effects);
            }
            Event::Moved { root, moved } => self.on_moved(now_ns, root, moved, effects),
            Event::Rechecked { key, moved, found } => {
                self.on_rechecked(now_ns, key, &moved, found, effects);
            }
            Event::LimitReached { key, breach } => self.on_limit_reached(now_ns, key, breach, effects),
            Event::Released {
                key,
                undone,
                warnings,
            } => {
                self.on_released(now_ns, key, &undone, &warnings, effects);
            }
            Event::Saved { key } => self.on_saved(key, effects),
            Event::DeadlinePassed => self.on_deadline(now_ns, effects),
            Event::RulesReplaced(rules) => self.replace_rules(now_ns, Box::new(rules), effects),
            Event::SessionOpened { session, rules } => {
                self.open_session(now_ns, session, Box::new(rules), effects);
            }
            Event::SessionClosed { session } => self.close_session(now_ns, session, effects),
            Event::PolicyReplaced(rules) => self.on_policy_replaced(now_ns, rules, effects),
            Event::PressureRose { rule } => self.on_pressure_rose(now_ns, &rule, effects),
            Event::ClassLimited { class, outcome } => self.on_class_limited(class, outcome),
        }
        self.order_wake(now_ns, effects);
    }

    /// Puts other rules in the place of the file's. Jobs that are governed keep what they have.
    fn replace_rules(&mut self, now_ns: u64, rules: Box<dyn Rules>, effects: &mut Vec<Effect>) {
        self.rules.replace_file(rules);
        self.on_rules_changed(now_ns, effects);
    }

    fn open_session(&mut self, now_ns: u64, session: u64, rules: Box<dyn Rules>, effects: &mut Vec<Effect>) {
        self.rules.open(session, rules);
        self.on_rules_changed(now_ns, effects);
    }

    fn close_session(&mut self, now_ns: u64, session: u64, effects: &mut Vec<Effect>) {
        if self.rules.close(session) {
            self.on_rules_changed(now_ns, effects);
        }
    }

    /// Whoever waits for an age is judged anew; whoever was left alone comes back through the host's own pass.
    fn on_rules_changed(&mut self, now_ns: u64, effects: &mut Vec<Effect>) {
        effects.push(Effect::SyncFilter);
        for facts in std::mem::take(&mut self.waiting).into_values() {
            self.judge(now_ns, facts, effects);
        }
    }

    fn on_deadline(&mut self, now_ns: u64, effects: &mut Vec<Effect>) {
        self.deadlines.fired();
        self.lift_calm_classes(now_ns, effects);
        while let Some((key, due)) = self.deadlines.pop(now_ns) {
            match due {
                Due::Judge => {
                    if let Some(facts) = self.waiting.remove(&key) {
                        self.judge(now_ns, facts, effects);
                    }
                }
                // Somebody may have placed or released it meanwhile.
                Due::Place => {
                    if self
                        .jobs
                        .get(&key)
                        .is_some_and(|job| job.state == State::Unplaced)
                    {
                        self.order_placement(now_ns, key, None, effects);
                    }
                }
                Due::End => self.order_end(now_ns, key, EndOrder::Timeout, effects),
                Due::Kill => self.order_kill(now_ns, key, effects),
            }
        }
    }

    /// Asks a job to end, and arms the kill that follows if it does not.
    fn order_end(&mut self, now_ns: u64, key: ProcessKey, order: EndOrder, effects: &mut Vec<Effect>) {
        let Some(job) = self.advanced(key, job::Trigger::EndOrdered) else {
            return;
        };
        let why = match order {
            EndOrder::Timeout => "its time limit passed",
            EndOrder::Cancel => "it was cancelled",
        };
        job.note(now_ns, format!("{why}: SIGTERM to every process of it"));
        job.end_order.get_or_insert((now_ns, order));
        self.deadlines
            .set(key, now_ns.saturating_add(self.settings.kill_grace_ns), Due::Kill);
        effects.push(Effect::Signal {
            key,
            signal: SIGTERM,
            whom: Whom::Everyone,
        });
    }

    fn order_kill(&mut self, now_ns: u64, key: ProcessKey, effects: &mut Vec<Effect>) {
        let Some(job) = self.advanced(key, job::Trigger::EndOrdered) else {
            return;
        };
        job.note(
            now_ns,
            "it lived on after SIGTERM: SIGKILL to every process of it",
        );
        effects.push(Effect::Signal {
            key,
            signal: SIGKILL,
            whom: Whom::Everyone,
        });
    }

    fn order_wake(&mut self, now_ns: u64, effects: &mut Vec<Effect>) {
        if let Some(at_ns) = self.deadlines.order(now_ns, self.pressure.earliest()) {
            effects.push(Effect::WakeAt { at_ns });
        }
    }

    /// Tells subscribers what happened, with the job as it is now.
    fn publish(&self, key: ProcessKey, what: Happened, effects: &mut Vec<Effect>) {
        if let Some(job) = self.view(key) {
            effects.push(Effect::Publish {
                what,
                job: Box::new(job),
            });
        }
    }

    /// Hands the record to the ledger.
    fn save(&self, key: ProcessKey, closed: bool, effects: &mut Vec<Effect>) {
        if let Some(job) = self.view(key) {
            effects.push(Effect::Save {
                job: Box::new(job),
                closed,
            });
        }
    }

    /// Learns of a process whose record is on disk already. A late word of its exec makes no job of it again.
    pub fn forget_saved(&mut self, key: ProcessKey) {
        let ignored = Ignored {
            appearance: format!("pid {} of an earlier governor", key.pid),
            why: "its record is closed; see the ledger".to_owned(),
            judged_us: 0,
            ended: true,
        };
        self.ignored.insert(key, ignored);
    }

    /// One job, live or remembered.
    pub fn view(&self, key: ProcessKey) -> Option<JobView> {
        let job = self.jobs.get(&key).or_else(|| self.closed.get(key))?;
        Some(view::view(job, &self.settings))
    }

    /// Every live job and the closed ones still remembered, by start.
    pub fn jobs(&self) -> Vec<JobView> {
        let mut jobs: Vec<&Job> = self.jobs.values().chain(self.closed.values()).collect();
        jobs.sort_by_key(|job| (job.started_ns, job.key));
        jobs.into_iter()
            .map(|job| view::view(job, &self.settings))
            .collect()
    }

    /// Number of jobs of which some process may live.
    pub fn live(&self) -> usize {
        self.jobs.values().filter(|job| job.state.live()).count()
    }

    /// Basenames the kernel's pre-filter must let through, for the rules of the file and of every session.
    pub fn names(&self) -> Vec<String> {
        self.rules.names()
    }

    /// What groups of their own the rules' jobs may need.
    pub fn pairs(&self) -> Vec<Pair> {
        self.rules.pairs()
    }

    /// True when some rule has no name, so that the kernel must tell of every exec.
    pub fn wide(&self) -> bool {
        self.rules.wide()
    }

    /// Facts some rule tests beyond the kernel's own.
    pub fn needs(&self) -> Needs {
        self.rules.needs()
    }

    /// Events that fitted no state: duplicates and late answers. They changed nothing.
    pub fn strays(&self) -> u64 {
        self.strays
    }
}
