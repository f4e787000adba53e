//! Gives work out: to a node that asks, and to one that has been waiting, in the same commit as the submission.

use std::collections::{BTreeMap, VecDeque};

use ffrtmp_api::{
    AttemptKey, AttemptPhase, ClaimRequest, ClaimResponse, Epoch, Grant, JobRef, JobRequest, JobState,
    NodeId, Progress, output_suffix,
};
use rusqlite::params;
use tokio::sync::oneshot;

use super::engine::{Engine, Task};
use super::rows::{JobRow, Move};
use crate::core::blocklist::NodeNumber;
use crate::core::choose::Choice;
use crate::core::lifecycle::Trigger;
use crate::core::live::Live;
use crate::core::{ClassId, Moment, needs};
use crate::store::error::{Step, StoreError};

/// Where a claim's answer goes.
pub(super) type ClaimReply = oneshot::Sender<Result<ClaimResponse, StoreError>>;

/// A claim that waits for work.
pub(super) struct Waiter {
    node: NodeNumber,
    request: ClaimRequest,
    until_ms: u64,
    reply: ClaimReply,
}

impl Waiter {
    /// Answers it. A node that has gone meanwhile never lists the grant, which is then taken back.
    pub(super) fn answer(self, response: ClaimResponse) {
        let _gone = self.reply.send(Ok(response)).is_err();
    }
}

/// A claim as a command of the writer.
pub(super) struct ClaimTask {
    pub(super) node: NodeId,
    pub(super) request: ClaimRequest,
    pub(super) reply: Option<ClaimReply>,
    pub(super) response: Option<ClaimResponse>,
}

impl Task for ClaimTask {
    fn run(&mut self, engine: &mut Engine, now: Moment) -> Result<(), StoreError> {
        let response = engine.claim(&self.node, &self.request, now)?;
        if !response.grants.is_empty() || self.request.wait_sec == 0 {
            self.response = Some(response);
            return Ok(());
        }
        if let (Some(node), Some(reply)) = (engine.book.fleet.number(&self.node), self.reply.take()) {
            engine.waiters.push(Waiter {
                node,
                request: self.request.clone(),
                until_ms: now.boot_ms + u64::from(self.request.wait_sec) * 1000,
                reply,
            });
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { reply, response, .. } = *self;
        if let Some(reply) = reply {
            let answer = outcome.map(|()| response.unwrap_or_default());
            let _gone = reply.send(answer).is_err();
        }
    }
}

impl Engine {
    /// Gives a node up to `request.max` jobs, without waiting. The same claim again gets its grants again.
    pub fn claim(
        &mut self,
        node: &NodeId,
        request: &ClaimRequest,
        now: Moment,
    ) -> Result<ClaimResponse, StoreError> {
        request
            .validate()
            .map_err(|error| StoreError::Invalid(vec![error]))?;
        let number = self.heard(node, now)?;
        let again = self.granted_before(number, request)?;
        if !again.is_empty() {
            return Ok(ClaimResponse { grants: again });
        }
        self.grant_up_to(number, request, now)
    }

    fn grant_up_to(
        &mut self,
        node: NodeNumber,
        request: &ClaimRequest,
        now: Moment,
    ) -> Result<ClaimResponse, StoreError> {
        let mut grants: Vec<Grant> = Vec::new();
        while (grants.len() as u32) < request.max {
            let Some(choice) = self.book.choose(node, now) else {
                break;
            };
            grants.push(self.grant(node, choice, now)?);
        }
        if !grants.is_empty() && !request.claim_id.is_empty() {
            let epochs = grants.iter().map(|grant| grant.key.epoch).collect();
            self.last_claims.insert(node, (request.claim_id.clone(), epochs));
        }
        Ok(ClaimResponse { grants })
    }

    /// The grants of the same claim, should its answer have been lost on the way.
    fn granted_before(&self, node: NodeNumber, request: &ClaimRequest) -> Result<Vec<Grant>, StoreError> {
        let Some((claim_id, epochs)) = self.last_claims.get(&node) else {
            return Ok(Vec::new());
        };
        if request.claim_id.is_empty() || *claim_id != request.claim_id {
            return Ok(Vec::new());
        }
        let live = epochs.iter().filter_map(|epoch| self.book.live.get(*epoch));
        live.filter(|live| live.phase == AttemptPhase::Granted)
            .map(|live| {
                let job = JobRow::load(&self.connection, JobRef::Sequence(live.seq))?;
                self.grant_of(&job, live.key)
            })
            .collect()
    }

    fn grant(&mut self, node: NodeNumber, choice: Choice, now: Moment) -> Result<Grant, StoreError> {
        let mut job = JobRow::load(&self.connection, JobRef::Sequence(choice.seq))?;
        if job.state != JobState::Queued || job.held {
            return Err(StoreError::Damaged(format!(
                "job {} as {} while the books have it ready",
                job.seq, job.state
            )));
        }
        let epoch = self.fence()?;
        job.attempts += 1;
        job.epoch = epoch;
        job.node = Some(node);
        job.started_ms = None;
        let key = AttemptKey {
            job_id: job.id,
            attempt: job.attempts,
            epoch,
        };
        let step = Move {
            trigger: Trigger::Granted,
            reason: "granted",
            node: Some(node),
            attempt: Some(job.attempts),
        };
        self.connection
            .prepare_cached(
                "INSERT INTO attempts (epoch, seq, attempt, node, phase, granted_ms) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
            )
            .and_then(|mut statement| {
                statement.execute(params![epoch.0 as i64, job.seq, key.attempt, node, now.wall_ms])
            })
            .step("write an attempt")?;
        self.step_job(&mut job, step, now, "it was to be waiting")?;
        let slots = self.book.classes.get(&job.class).map_or(1, needs::slots);
        self.book.occupy(Live {
            key,
            seq: job.seq,
            node,
            slots,
            phase: AttemptPhase::Granted,
            stop: None,
            queue: job.band.queue,
            tenant: job.tenant,
            class: job.class,
            paused: false,
            granted_ms: now.boot_ms,
            moved_ms: now.boot_ms,
            missing_ms: None,
            progress: Progress::default(),
        });
        let policy = self.book.policy.clone();
        self.book.chooser.granted(&policy, choice);
        self.book.count("granted", 1);
        self.grant_of(&job, key)
    }

    fn grant_of(&self, job: &JobRow, key: AttemptKey) -> Result<Grant, StoreError> {
        let request = self.request_of(job)?;
        let limits = request
            .limits()
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok(Grant {
            key,
            sequence_number: job.seq,
            job: request,
            limits,
            lease_sec: (self.book.policy.lease_ms / 1000) as u32,
            output_suffix: output_suffix(&key),
        })
    }

    /// The submission of a job.
    pub(super) fn request_of(&self, job: &JobRow) -> Result<JobRequest, StoreError> {
        let body: String = self
            .connection
            .prepare_cached("SELECT body FROM specs WHERE seq = ?1")
            .and_then(|mut statement| statement.query_row([job.seq], |row| row.get(0)))
            .step("read a submission")?;
        serde_json::from_str(&body).step("read a submission")
    }

    /// Gives what became ready in this batch to claims that wait.
    pub(super) fn serve_waiters(&mut self, now: Moment) -> Result<(), StoreError> {
        let mut fresh = std::mem::take(&mut self.fresh);
        let recheck = std::mem::take(&mut self.recheck);
        if self.waiters.is_empty() || (fresh.is_empty() && recheck.is_empty()) {
            return Ok(());
        }
        let mut waiting: VecDeque<Waiter> = std::mem::take(&mut self.waiters).into();
        let mut kept = Vec::with_capacity(waiting.len());
        let mut outcome = Ok(());
        while let Some(waiter) = waiting.pop_front() {
            let concerned = !self.book.ready.is_empty()
                && (recheck.concerns(waiter.node)
                    || fresh
                        .keys()
                        .any(|class| self.book.would_take(waiter.node, *class, now)));
            if !concerned || waiter.reply.is_closed() {
                kept.push(waiter);
                continue;
            }
            match self.grant_up_to(waiter.node, &waiter.request, now) {
                Ok(response) if response.grants.is_empty() => kept.push(waiter),
                Ok(response) => {
                    for grant in &response.grants {
                        self.used_up(&mut fresh, grant.key.epoch);
                    }
                    self.granted.push((waiter, response));
                }
                Err(error) => {
                    // What this round granted is rolled back, so those claims go on waiting too.
                    kept.extend(self.granted.drain(..).map(|(waiter, _)| waiter));
                    kept.push(waiter);
                    outcome = Err(error);
                    break;
                }
            }
        }
        kept.extend(waiting);
        self.waiters = kept;
        outcome
    }

    /// One fresh job of the granted attempt's class less to look for.
    fn used_up(&self, fresh: &mut BTreeMap<ClassId, u64>, epoch: Epoch) {
        let Some(class) = self.book.live.get(epoch).map(|live| live.class) else {
            return;
        };
        if let Some(count) = fresh.get_mut(&class) {
            *count -= 1;
            if *count == 0 {
                fresh.remove(&class);
            }
        }
    }

    /// Answers claims whose wait has passed, and drops those whose node has gone.
    pub(super) fn expire_waiters(&mut self, now: Moment) {
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.reply.is_closed() {
                continue;
            }
            if waiter.until_ms <= now.boot_ms {
                waiter.answer(ClaimResponse::default());
            } else {
                self.waiters.push(waiter);
            }
        }
    }

    /// When the next claim's wait passes.
    pub(super) fn next_waiter_ms(&self) -> Option<u64> {
        self.waiters.iter().map(|waiter| waiter.until_ms).min()
    }
}
