//! Model nodes: they do what the protocol asks of a node, and nothing it does not promise.
//!
//! A node runs what it is granted, reports until it is answered, publishes an output only after its result was accepted,
//! and obeys orders. A crash of the machine loses its processes; a restart of its governor does not.

use std::collections::BTreeMap;

use ffrtmp_api::{
    Action, AttemptKey, AttemptReport, AttemptResult, ClaimRequest, Epoch, FailureReason, Grant, Heartbeat,
    HeartbeatAnswer, HeldAttempt, NodeId, NodeInfo, Progress, ReportAnswer, ResultStatus,
};
use ffrtmp_scheduler::store::StoreError;

use crate::random::Random;

/// What a node sends.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Register(NodeInfo),
    Claim(ClaimRequest),
    Report(AttemptKey, AttemptReport),
    Beat(Heartbeat),
}

/// What it gets back.
#[derive(Debug, Clone)]
pub(crate) enum Response {
    Granted(Vec<Grant>),
    Reported(AttemptKey, bool, Result<ReportAnswer, StoreError>),
    Beaten(HeartbeatAnswer),
    Unknown,
}

#[derive(Debug, Clone)]
struct Held {
    key: AttemptKey,
    started: bool,
    told_start: bool,
    left_ms: u64,
    /// It makes no progress and never ends by itself.
    stuck: bool,
    result: Option<AttemptResult>,
    frame: u64,
    paused: bool,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) info: NodeInfo,
    held: BTreeMap<Epoch, Held>,
    /// Until when it neither sends nor hears.
    pub(crate) cut_until: u64,
    /// Until when it stands still altogether.
    pub(crate) asleep_until: u64,
    next_beat: u64,
    next_claim: u64,
    next_report: u64,
    claims: u64,
    registered: bool,
}

impl Node {
    pub(crate) fn new(number: u64, random: &mut Random) -> Self {
        let has_gpu = random.one_in(3);
        let info = NodeInfo {
            slots: Some(1 + random.below(4) as u32),
            has_gpu,
            ..NodeInfo::default()
        };
        Self {
            id: NodeId::parse(&format!("node-{number}")).unwrap(),
            info,
            held: BTreeMap::new(),
            cut_until: 0,
            asleep_until: 0,
            next_beat: 0,
            next_claim: 0,
            next_report: 0,
            claims: 0,
            registered: false,
        }
    }

    pub(crate) fn holds(&self) -> usize {
        self.held.len()
    }

    /// Its machine goes down and comes back: every process is gone, and every result that was not sent.
    pub(crate) fn crash(&mut self) {
        self.held.clear();
        self.registered = false;
    }

    /// Its governor restarts: it announces what runs before it asks for anything.
    pub(crate) fn restart(&mut self) {
        self.registered = false;
    }

    /// Lets its processes run on for so long.
    pub(crate) fn work(&mut self, ms: u64, random: &mut Random) {
        for held in self.held.values_mut() {
            held.started = true;
            if held.stuck || held.paused || held.result.is_some() {
                continue;
            }
            held.frame += ms / 100;
            held.left_ms = held.left_ms.saturating_sub(ms);
            if held.left_ms == 0 {
                held.result = Some(outcome(random));
            }
        }
    }

    /// What it sends now.
    pub(crate) fn requests(&mut self, now: u64) -> Vec<Request> {
        let mut requests = Vec::new();
        if !self.registered {
            self.registered = true;
            self.next_beat = now;
            requests.push(Request::Register(self.info.clone()));
        }
        if self.next_beat <= now {
            self.next_beat = now + 10_000;
            requests.push(Request::Beat(self.heartbeat()));
        }
        if self.next_report <= now {
            self.next_report = now + 2_000;
            requests.extend(self.reports());
        }
        if self.next_claim <= now && self.held.len() < self.info.slots() as usize {
            self.next_claim = now + 1_500;
            self.claims += 1;
            requests.push(Request::Claim(ClaimRequest {
                // Every second claim repeats the one before, as a node does that heard no answer.
                claim_id: format!("{}-{}", self.id, self.claims / 2),
                max: 1,
                wait_sec: 0,
            }));
        }
        requests
    }

    fn heartbeat(&self) -> Heartbeat {
        let held = self.held.values().map(|held| HeldAttempt {
            key: held.key,
            started: held.started,
            finished: held.result.is_some(),
            progress: Progress {
                frame: Some(held.frame),
                ..Progress::default()
            },
            paused: held.paused,
        });
        Heartbeat {
            held: held.collect(),
            ..Heartbeat::default()
        }
    }

    fn reports(&mut self) -> Vec<Request> {
        let mut reports = Vec::new();
        for held in self.held.values_mut() {
            if let Some(result) = &held.result {
                let result = Box::new(result.clone());
                reports.push(Request::Report(held.key, AttemptReport::Finished { result }));
            } else if held.started && !held.told_start {
                held.told_start = true;
                reports.push(Request::Report(
                    held.key,
                    AttemptReport::Started {
                        pid: None,
                        engine: None,
                    },
                ));
            }
        }
        reports
    }

    /// Takes an answer in; the attempt whose output it publishes now, if it does.
    pub(crate) fn hear(&mut self, response: Response, random: &mut Random) -> Option<AttemptKey> {
        match response {
            Response::Granted(grants) => {
                for grant in grants {
                    self.launch(&grant, random);
                }
                None
            }
            Response::Unknown => {
                self.registered = false;
                None
            }
            Response::Beaten(answer) => {
                for order in answer.orders {
                    self.obey(order.key, order.action);
                }
                None
            }
            Response::Reported(key, finished, answer) => self.answered(key, finished, &answer),
        }
    }

    fn launch(&mut self, grant: &Grant, random: &mut Random) {
        // A repeated answer is no second launch.
        self.held.entry(grant.key.epoch).or_insert_with(|| Held {
            key: grant.key,
            started: false,
            told_start: false,
            left_ms: 500 + random.below(60_000),
            stuck: random.one_in(25),
            result: None,
            frame: 0,
            paused: false,
        });
    }

    fn obey(&mut self, key: AttemptKey, action: Action) {
        let Some(held) = self.held.get_mut(&key.epoch) else {
            return;
        };
        match action {
            Action::Pause => held.paused = true,
            Action::Resume => held.paused = false,
            Action::Cancel | Action::Stop | Action::Discard => {
                // Killed at once; a cancelled process ends with a result of its own, a stopped one is forgotten.
                if action == Action::Cancel && held.result.is_none() {
                    held.result = Some(AttemptResult::new(ResultStatus::Canceled));
                } else {
                    self.held.remove(&key.epoch);
                }
            }
        }
    }

    fn answered(
        &mut self,
        key: AttemptKey,
        finished: bool,
        answer: &Result<ReportAnswer, StoreError>,
    ) -> Option<AttemptKey> {
        let over = match answer {
            Ok(ReportAnswer::Accepted | ReportAnswer::AlreadyAccepted) => finished,
            Ok(ReportAnswer::Noted { .. }) | Err(StoreError::Stale { .. }) => {
                self.held.remove(&key.epoch);
                return None;
            }
            // Not taken for another reason: it is sent again.
            Err(_) => false,
        };
        if !over {
            return None;
        }
        let held = self.held.remove(&key.epoch)?;
        let done = held
            .result
            .is_some_and(|result| result.status == ResultStatus::Completed);
        done.then_some(key)
    }
}

fn outcome(random: &mut Random) -> AttemptResult {
    let failed = |reason| AttemptResult {
        failure_reason: Some(reason),
        ..AttemptResult::new(ResultStatus::Failed)
    };
    match random.below(20) {
        0 => failed(FailureReason::RuntimeError),
        1 => failed(FailureReason::NetworkError),
        2 => failed(FailureReason::PlatformError),
        3 => AttemptResult::new(ResultStatus::TimedOut),
        _ => AttemptResult::new(ResultStatus::Completed),
    }
}
