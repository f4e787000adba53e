//! The world: a clock, a network, clients, nodes, and the engine that is asked, checked, and started again.

mod clients;
mod faults;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffrtmp_api::{Epoch, JobUuid};
use ffrtmp_scheduler::core::Moment;
use ffrtmp_scheduler::core::policy::Policy;
use ffrtmp_scheduler::store::sqlite::{Durability, Engine, Options, Retention};
use ffrtmp_scheduler::store::{Clock, ManualClock, StoreError};

use crate::invariant;
use crate::model::Node;
use crate::random::Random;
use crate::tally::Tally;
use network::Message;

/// Turns with faults, and turns without in which everything must come to an end.
const TURNS: u64 = 200;
const CALM_TURNS: u64 = 4_000;

pub(crate) struct World {
    random: Random,
    loud: bool,
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    free: Arc<AtomicU64>,
    engine: Option<Engine>,
    nodes: Vec<Node>,
    wire: Vec<(u64, Message)>,
    /// Jobs that a client was told of, by key.
    pub(crate) acknowledged: BTreeMap<String, JobUuid>,
    /// Jobs whose cancel was acknowledged and that were not retried since.
    pub(crate) canceled: BTreeSet<JobUuid>,
    /// Attempts whose output was published, by job.
    pub(crate) published: BTreeMap<JobUuid, BTreeSet<Epoch>>,
    granted: BTreeSet<Epoch>,
    /// What had been written, cancelled and published when everything was last checked.
    checked: Option<(i64, usize, u64)>,
    told: u64,
    checked_event: i64,
    made: u64,
    calm: bool,
    tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64, loud: bool) -> Self {
        let mut random = Random::new(seed);
        let nodes = 1 + random.below(4);
        let nodes = (0..nodes).map(|number| Node::new(number, &mut random)).collect();
        Self {
            nodes,
            random,
            loud,
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(Moment {
                wall_ms: 1_700_000_000_000,
                boot_ms: 1_000_000,
            })),
            free: Arc::new(AtomicU64::new(u64::MAX)),
            engine: None,
            wire: Vec::new(),
            acknowledged: BTreeMap::new(),
            canceled: BTreeSet::new(),
            published: BTreeMap::new(),
            granted: BTreeSet::new(),
            checked: None,
            told: 0,
            checked_event: 0,
            made: 0,
            calm: false,
            tally: Tally::default(),
        }
    }

    pub(crate) fn tally(self) -> Tally {
        self.tally
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>9} {}", self.now().boot_ms, text());
        }
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.open()?;
        for _ in 0..TURNS {
            self.turn()?;
        }
        self.calm_down()?;
        for _ in 0..CALM_TURNS {
            self.turn()?;
            if self.finished() {
                return Ok(());
            }
        }
        Err("jobs are left although nothing bad happens any more".to_owned())
    }

    /// Opens the engine, as after a start.
    fn open(&mut self) -> Result<(), String> {
        let free = Arc::clone(&self.free);
        let options = Options {
            // Quick enough that stalls, blocks and reservations happen in a short history.
            policy: Policy {
                stale_live_ms: 20_000,
                stale_batch_ms: 40_000,
                block_ms: 15_000,
                reserve_ms: 10_000,
                start_ms: 40_000,
                stop_ms: 60_000,
                reject_live_ms: 30_000,
                max_node_losses: 3,
                ..Policy::default()
            },
            retention: Retention { jobs_ms: None },
            durability: Durability::Volatile,
            clock: self.clock.clone(),
            free_space: Some(Box::new(move || Some(free.load(Ordering::SeqCst)))),
            ..Options::new(self.directory.path().join("queue.db"))
        };
        self.engine = Some(Engine::open(options).map_err(|error| format!("open: {error}"))?);
        Ok(())
    }

    /// Does one command; `None` while the scheduler is down.
    fn command<T>(
        &mut self,
        work: impl FnOnce(&mut Engine, Moment) -> Result<T, StoreError>,
    ) -> Result<Option<Result<T, StoreError>>, String> {
        let now = self.now();
        let Some(engine) = &mut self.engine else {
            return Ok(None);
        };
        let answer = engine.command(now, |engine| work(engine, now));
        match &answer {
            Err(StoreError::Full) if self.free.load(Ordering::SeqCst) == 0 => self.tally.count("nearly full"),
            Err(StoreError::Full) => self.tally.count("full"),
            Err(StoreError::Damaged(text)) => return Err(format!("damaged: {text}")),
            Err(StoreError::Database { step, text }) => return Err(format!("{step}: {text}")),
            Err(StoreError::Stale { .. }) => self.tally.count("stale"),
            _ => {}
        }
        self.check()?;
        Ok(Some(answer))
    }

    fn check(&mut self) -> Result<(), String> {
        let Some(engine) = self.engine.take() else {
            return Ok(());
        };
        // Nothing was written, heard of or published since: what held still holds.
        let stamp = (invariant::writes(&engine), self.canceled.len(), self.told);
        if self.checked == Some(stamp) {
            self.engine = Some(engine);
            return Ok(());
        }
        self.checked = Some(stamp);
        let checked = invariant::check(&engine, self, self.checked_event);
        self.engine = Some(engine);
        self.checked_event = checked?;
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        let pass = 100 + self.random.below(1_500);
        self.clock.pass(pass);
        let now = self.now().boot_ms;
        if !self.calm {
            self.faults()?;
            self.clients()?;
        } else if self.engine.is_none() {
            self.open()?;
        }
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if now < node.asleep_until {
                continue;
            }
            node.work(pass, &mut self.random);
            for request in node.requests(now) {
                self.send(Message::ToScheduler(at, request));
            }
        }
        self.deliver()?;
        if let Some(Ok(swept)) = self.command(Engine::sweep)? {
            for (count, what) in [
                (swept.stalled, "stalled"),
                (swept.nodes_lost, "node lost"),
                (swept.returned, "returned"),
            ] {
                if 0 < count {
                    self.tally.count(what);
                }
            }
        }
        Ok(())
    }

    /// True when no job waits that some node could run, and none runs.
    fn finished(&self) -> bool {
        let Some(engine) = &self.engine else {
            return false;
        };
        let nodes: Vec<_> = self.nodes.iter().map(|node| &node.info).collect();
        engine.book().live.is_empty() && invariant::nothing_left(engine, &nodes)
    }
}
