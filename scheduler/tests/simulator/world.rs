//! The world: a clock, a network that drops, delays and doubles, clients, nodes, and the engine that crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffrtmp_api::{AttemptReport, Epoch, ItemOutcome, JobEdit, JobRef, JobRequest, JobUuid, Priority, Queue};
use ffrtmp_scheduler::core::Moment;
use ffrtmp_scheduler::core::policy::Policy;
use ffrtmp_scheduler::store::sqlite::{Durability, Engine, Options, Retention};
use ffrtmp_scheduler::store::{Clock, Control, ManualClock, NewJob, StoreError};

use crate::invariant;
use crate::model::{Node, Request, Response};
use crate::random::Random;

/// Turns with faults, and turns without in which everything must come to an end.
const TURNS: u64 = 200;
const CALM_TURNS: u64 = 4_000;

/// What happened, so that a quiet simulation is noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    pub(crate) fn assert_eventful(&self) {
        for what in [
            "submitted",
            "nearly full",
            "existing",
            "full",
            "no page left",
            "granted",
            "published",
            "stale",
            "lost answer",
            "dropped",
            "doubled",
            "cut",
            "crash of a node",
            "restart of a node",
            "sleep",
            "crash of the scheduler",
            "cancel",
            "retry",
            "stalled",
            "node lost",
            "returned",
            "clock jump",
            "edit",
            "pause",
        ] {
            assert!(
                self.counts.contains_key(what),
                "no {what} ever happened: {self:?}"
            );
        }
    }
}

enum Message {
    ToScheduler(usize, Request),
    ToNode(usize, Response),
}

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

    /// Puts a message on the wire, where it may be lost, late or doubled.
    fn send(&mut self, message: Message) {
        let now = self.now().boot_ms;
        let (Message::ToScheduler(at, _) | Message::ToNode(at, _)) = &message;
        if now < self.nodes[*at].cut_until || (!self.calm && self.random.one_in(20)) {
            self.tally.count("dropped");
            return;
        }
        let delay = |random: &mut Random| match random.below(10) {
            0 => random.below(15_000),
            _ => random.below(50),
        };
        let at = if self.calm {
            now
        } else {
            now + delay(&mut self.random)
        };
        if let Message::ToScheduler(node, request) = &message
            && !self.calm
            && self.random.one_in(20)
        {
            let again = Message::ToScheduler(*node, request.clone());
            let at = now + delay(&mut self.random);
            self.tally.count("doubled");
            self.wire.push((at, again));
        }
        self.wire.push((at, message));
    }

    /// Delivers what has arrived, in an order of chance.
    fn deliver(&mut self) -> Result<(), String> {
        // An answer may arrive in the same turn as its question.
        for _ in 0..2 {
            let now = self.now().boot_ms;
            let mut arrived: Vec<(u64, Message)> = Vec::new();
            for (at, message) in std::mem::take(&mut self.wire) {
                if at <= now {
                    arrived.push((self.random.next(), message));
                } else {
                    self.wire.push((at, message));
                }
            }
            arrived.sort_by_key(|(order, _)| *order);
            for (_, message) in arrived {
                match message {
                    Message::ToScheduler(at, request) => self.serve(at, request)?,
                    Message::ToNode(at, response) => self.hear(at, response)?,
                }
            }
        }
        Ok(())
    }

    /// The scheduler does what a node asks.
    fn serve(&mut self, at: usize, request: Request) -> Result<(), String> {
        let id = self.nodes[at].id.clone();
        self.say(|| format!("{id} asks {request:?}"));
        let response = match request {
            Request::Register(info) => {
                self.command(|engine, now| engine.register(&id, info, now))?;
                return Ok(());
            }
            Request::Claim(claim) => {
                let urgent = self
                    .engine
                    .as_ref()
                    .and_then(|engine| invariant::urgent(engine, &id, self.now()));
                match self.command(|engine, now| engine.claim(&id, &claim, now))? {
                    Some(Ok(answer)) => {
                        for grant in &answer.grants {
                            // A repeated claim repeats an earlier answer and is no decision.
                            if !self.granted.insert(grant.key.epoch) {
                                continue;
                            }
                            self.tally.count("granted");
                            if let Some(live) = urgent
                                && grant.job.queue != Queue::Live
                            {
                                return Err(format!(
                                    "11: job {} went to {id} before live job {live}",
                                    grant.sequence_number
                                ));
                            }
                        }
                        Some(Response::Granted(answer.grants))
                    }
                    Some(Err(StoreError::NoNode(_))) => Some(Response::Unknown),
                    _ => None,
                }
            }
            Request::Report(key, report) => {
                let finished = matches!(report, AttemptReport::Finished { .. });
                let answer = self.command(|engine, now| engine.report(&id, key, &report, now))?;
                answer.map(|answer| Response::Reported(key, finished, answer))
            }
            Request::Beat(heartbeat) => {
                match self.command(|engine, now| engine.heartbeat(&id, &heartbeat, now))? {
                    Some(Ok(answer)) => Some(Response::Beaten(answer)),
                    Some(Err(StoreError::NoNode(_))) => Some(Response::Unknown),
                    _ => None,
                }
            }
        };
        let Some(response) = response else {
            return Ok(());
        };
        self.say(|| format!("{id} is answered {response:?}"));
        if !self.calm && self.random.one_in(30) {
            // Committed, and then the connection broke.
            self.tally.count("lost answer");
            return Ok(());
        }
        self.send(Message::ToNode(at, response));
        Ok(())
    }

    fn hear(&mut self, at: usize, response: Response) -> Result<(), String> {
        let now = self.now().boot_ms;
        if now < self.nodes[at].asleep_until {
            // The socket's buffer keeps it until the node wakes.
            self.wire
                .push((self.nodes[at].asleep_until, Message::ToNode(at, response)));
            return Ok(());
        }
        if let Some(key) = self.nodes[at].hear(response, &mut self.random) {
            self.tally.count("published");
            self.told += 1;
            self.published.entry(key.job_id).or_default().insert(key.epoch);
            self.say(|| format!("{} publishes {key}", self.nodes[at].id));
            self.check()?;
        }
        Ok(())
    }

    fn faults(&mut self) -> Result<(), String> {
        let now = self.now().boot_ms;
        let node = self.random.below(self.nodes.len() as u64) as usize;
        match self.random.below(150) {
            0..=2 => {
                self.tally.count("cut");
                self.nodes[node].cut_until = now + self.random.below(90_000);
            }
            3..=4 => {
                self.tally.count("sleep");
                self.nodes[node].asleep_until = now + self.random.below(90_000);
            }
            5 => {
                self.tally.count("crash of a node");
                self.say(|| format!("node-{node} crashes with {} attempts", self.nodes[node].holds()));
                self.nodes[node].crash();
            }
            6 => {
                self.tally.count("restart of a node");
                self.nodes[node].restart();
            }
            7..=9 => {
                self.tally.count("crash of the scheduler");
                self.say(|| "the scheduler crashes".to_owned());
                self.engine = None;
                self.checked = None;
                self.wire
                    .retain(|(_, message)| matches!(message, Message::ToNode(..)));
                if self.random.one_in(2) {
                    self.clock.pass(self.random.below(120_000));
                }
                self.open()?;
                self.check()?;
            }
            10 => {
                // The scheduler's machine sleeps, or its wall clock is set.
                self.tally.count("clock jump");
                self.clock.pass(self.random.below(40_000));
            }
            11..=12 => {
                let free = if self.random.one_in(2) { 0 } else { u64::MAX };
                self.free.store(free, Ordering::SeqCst);
            }
            13..=14 => self.limit_pages(self.random_limit())?,
            _ => {}
        }
        Ok(())
    }

    /// Pages that the database may still grow by; `None` for as many as it likes.
    fn random_limit(&self) -> Option<u32> {
        let text = self.now().boot_ms;
        text.is_multiple_of(2).then_some((text / 2 % 3) as u32)
    }

    /// Makes the disk really full: SQLite itself refuses to grow the file.
    fn limit_pages(&mut self, more: Option<u32>) -> Result<(), String> {
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        let broken = |error: rusqlite::Error| error.to_string();
        let connection = engine.connection();
        let pages: u32 = connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .map_err(broken)?;
        let most = more.map_or(1_000_000, |more| pages + more);
        connection
            .query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))
            .map_err(broken)?;
        if more.is_some() {
            self.tally.count("no page left");
        }
        Ok(())
    }

    fn calm_down(&mut self) -> Result<(), String> {
        self.say(|| "calm".to_owned());
        self.calm = true;
        self.free.store(u64::MAX, Ordering::SeqCst);
        self.limit_pages(None)?;
        for node in &mut self.nodes {
            node.cut_until = 0;
            node.asleep_until = 0;
        }
        for id in self.acknowledged.values().copied().collect::<Vec<_>>() {
            self.command(|engine, now| engine.control(id.into(), Control::Resume, now))?;
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

    fn clients(&mut self) -> Result<(), String> {
        if self.random.one_in(4) {
            self.submit()?;
        }
        if self.random.one_in(12) && !self.acknowledged.is_empty() {
            let jobs: Vec<JobUuid> = self.acknowledged.values().copied().collect();
            let id = *self.random.pick(&jobs);
            self.touch(id)?;
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), String> {
        // One in five repeats a key that was used before.
        let number = match self.random.below(5) {
            0 if 0 < self.made => 1 + self.random.below(self.made),
            _ => {
                self.made += 1;
                self.made
            }
        };
        let key = format!("key-{number}");
        let request = request(number, &key);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.random.next().to_be_bytes());
        let id = JobUuid::from_parts(self.now().wall_ms as u64, random);
        let job = NewJob::new(id, &request).map_err(|error| error.to_string())?;
        let Some(answer) = self.command(|engine, now| engine.submit("client", &[job], now))? else {
            return Ok(());
        };
        if self.random.one_in(20) {
            self.tally.count("lost answer");
            return Ok(());
        }
        match answer.as_deref() {
            Ok([ItemOutcome::Created { id, .. }]) => {
                self.tally.count("submitted");
                self.told += 1;
                if let Some(before) = self.acknowledged.insert(key.clone(), *id) {
                    return Err(format!("13: {key} made {before} and {id}"));
                }
            }
            Ok([ItemOutcome::Existing { id, .. }]) => {
                self.tally.count("existing");
                let before = self.acknowledged.insert(key.clone(), *id);
                if before.is_some_and(|before| before != *id) {
                    return Err(format!("13: {key} made {before:?} and {id}"));
                }
            }
            Err(StoreError::Full) => {}
            other => return Err(format!("a submission was answered {other:?}")),
        }
        Ok(())
    }

    /// A client does something to a job.
    fn touch(&mut self, id: JobUuid) -> Result<(), String> {
        let job = JobRef::Id(id);
        let control = match self.random.below(8) {
            0..=2 => Control::Cancel,
            3..=4 => Control::Retry,
            5 => Control::Pause,
            6 => Control::Resume,
            _ => {
                self.tally.count("edit");
                let priority = Some(*self.random.pick(Priority::ALL));
                let edit = JobEdit {
                    priority,
                    ..JobEdit::default()
                };
                self.command(|engine, now| engine.edit(job, edit, now))?;
                return Ok(());
            }
        };
        self.say(|| format!("{control:?} of {id}"));
        if control == Control::Retry {
            // Whatever the answer, and whether it arrives: from here on the job may succeed.
            self.canceled.remove(&id);
        }
        let answer = self.command(|engine, now| engine.control(job, control, now))?;
        let Some(Ok(_)) = answer else {
            return Ok(());
        };
        match control {
            Control::Cancel => {
                self.tally.count("cancel");
                self.canceled.insert(id);
                self.check()?;
            }
            Control::Retry => self.tally.count("retry"),
            Control::Pause => self.tally.count("pause"),
            Control::Resume | Control::Hold => {}
        }
        Ok(())
    }
}

/// The job that belongs to a key: the same key always asks for the same.
fn request(number: u64, key: &str) -> JobRequest {
    let mut random = Random::new(number);
    JobRequest {
        scenario: "transcode".to_owned(),
        queue: *random.pick(Queue::ALL),
        priority: *random.pick(Priority::ALL),
        encoder: random.one_in(5).then(|| "h264_nvenc".to_owned()),
        slots: random.one_in(6).then_some(2),
        hold: random.one_in(15),
        tenant_id: random.one_in(3).then(|| format!("tenant-{}", random.below(2))),
        idempotency_key: Some(key.to_owned()),
        ..JobRequest::default()
    }
}
