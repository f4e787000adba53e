//! The network between the nodes and the scheduler: it drops, delays, doubles and reorders.

use ffrtmp_api::{AttemptReport, Queue};
use ffrtmp_scheduler::store::StoreError;

use super::World;
use crate::invariant;
use crate::model::{Request, Response};
use crate::random::Random;

/// What is on its way, and which node sent it or is to have it.
pub(super) enum Message {
    ToScheduler(usize, Request),
    ToNode(usize, Response),
}

impl World {
    /// Puts a message on the wire, where it may be lost, late or doubled.
    pub(super) fn send(&mut self, message: Message) {
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
    pub(super) fn deliver(&mut self) -> Result<(), String> {
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
}
