//! What commands have in common: a step of a job with its books, the end of an attempt, and what follows a failure.

use ffrtmp_api::{AttemptEnd, Epoch, FailureReason, JobState, NodeId};
use rusqlite::params;

use super::engine::Engine;
use super::rows::{self, Ending, JobRow, Move, Outcome, transition};
use crate::core::blocklist::NodeNumber;
use crate::core::failure::{self, Next};
use crate::core::lifecycle::Trigger;
use crate::core::live::{Live, Stop};
use crate::core::sla::{self, Times};
use crate::core::{Moment, failure::mix};
use crate::store::error::{Step, StoreError};

impl Engine {
    /// Number of a node that was just heard of.
    pub(super) fn heard(&mut self, node: &NodeId, now: Moment) -> Result<NodeNumber, StoreError> {
        let number = self
            .book
            .fleet
            .number(node)
            .ok_or_else(|| StoreError::NoNode(node.to_string()))?;
        if let Some(member) = self.book.fleet.get_mut(number) {
            member.heard = Some(now);
            member.lost = false;
        }
        Ok(number)
    }

    /// Moves a job along the table, on disk and then in the books.
    pub(super) fn step_job(
        &mut self,
        job: &mut JobRow,
        step: Move<'_>,
        now: Moment,
        hint: &'static str,
    ) -> Result<(), StoreError> {
        let before = job.standing();
        transition(&self.connection, job, step, now, hint)?;
        self.book.leave(before);
        let due_ms = job
            .retry_ms
            .map_or(0, |due| u64::try_from(due - now.wall_ms).unwrap_or(0));
        self.book.enter(job.standing(), now.boot_ms, now.boot_ms + due_ms);
        if job.state == JobState::Queued && !job.held {
            *self.fresh.entry(job.class).or_default() += 1;
        }
        Ok(())
    }

    /// Closes an attempt and frees its slots.
    pub(super) fn close_attempt(
        &mut self,
        epoch: Epoch,
        ending: &Ending<'_>,
        now: Moment,
    ) -> Result<(), StoreError> {
        rows::end_attempt(&self.connection, epoch, ending, now)?;
        if let Some(live) = self.book.vacate(epoch) {
            self.recheck.node(live.node);
            if self
                .book
                .tenants
                .get(&live.tenant)
                .is_some_and(|cap| cap.max_running.is_some())
            {
                self.recheck.everyone();
            }
        }
        self.show(|overlay| overlay.remove(epoch));
        Ok(())
    }

    /// Marks an attempt as one that is to be ended, and rings its node.
    pub(super) fn stop_attempt(&mut self, live: &Live, stop: Stop, now: Moment) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE attempts SET phase = 2, stop = ?2 WHERE epoch = ?1 AND phase < 3")
            .and_then(|mut statement| statement.execute(params![live.key.epoch.0 as i64, stop as i64]))
            .step("mark an attempt to be ended")?;
        self.book.stopping(live.key.epoch, stop, now);
        self.ring(live.node);
        Ok(())
    }

    /// What follows a failure of the job in `assigned`, `running` or `timed_out`: another try or the end.
    pub(super) fn after_failure(
        &mut self,
        job: &mut JobRow,
        reason: FailureReason,
        text: &str,
        now: Moment,
    ) -> Result<(), StoreError> {
        let salt = mix(job.seq as u64) ^ u64::from(job.attempts);
        let attempt = Some(job.attempts);
        let step = |trigger, reason| Move {
            trigger,
            reason,
            node: None,
            attempt,
        };
        job.failure = Some(reason);
        match failure::next(&self.book.policy, reason, job.used, job.max_retries, salt) {
            Next::Retry { delay_ms, used } => {
                job.used = used;
                job.retry_ms = Some(now.wall_ms + delay_ms as i64);
                self.step_job(
                    job,
                    step(Trigger::Retried, reason.as_str()),
                    now,
                    "it was to be retried",
                )?;
                let outcome = Outcome {
                    retry_reason: Some(text),
                    ..Outcome::default()
                };
                rows::note(&self.connection, job.seq, &outcome)?;
                self.book.count("retried", 1);
                if delay_ms == 0 {
                    self.step_job(job, step(Trigger::Due, "due at once"), now, "it was to be queued")?;
                }
                Ok(())
            }
            Next::Fail { exhausted } => {
                let why = if exhausted {
                    format!("{reason}; no try left")
                } else {
                    reason.to_string()
                };
                self.step_job(job, step(Trigger::Failed, &why), now, "it was to fail")?;
                self.book.count("failed", 1);
                self.judge(job, Some(text))
            }
        }
    }

    /// Notes a job's end for people, with the SLA's verdict where it counts.
    pub(super) fn judge(&mut self, job: &JobRow, error: Option<&str>) -> Result<(), StoreError> {
        let eligible = sla::eligible(&self.request_of(job)?);
        let elapsed = |from: i64, to: i64| u64::try_from(to - from).unwrap_or(0);
        let times = Times {
            wait_ms: job.started_ms.map(|start| elapsed(job.created_ms, start)),
            run_ms: job
                .started_ms
                .zip(job.ended_ms)
                .map(|(start, end)| elapsed(start, end)),
        };
        let target = self.book.policy.target(job.band.queue);
        let verdict = sla::verdict(job.state, job.failure, target, times).filter(|_| eligible);
        let outcome = Outcome {
            error,
            sla: verdict
                .as_ref()
                .map(|verdict| (verdict.compliant, verdict.reason.as_str())),
            ..Outcome::default()
        };
        rows::note(&self.connection, job.seq, &outcome)?;
        if let Some(verdict) = verdict {
            let what = if verdict.compliant {
                "sla_compliant"
            } else {
                "sla_violated"
            };
            self.book.count(what, 1);
        }
        if let (JobState::Completed, Some(run_ms)) = (job.state, times.run_ms) {
            self.book.learn(job.class, run_ms);
        }
        Ok(())
    }

    /// An attempt that was to be ended is gone: the job's history goes on from there.
    pub(super) fn stopped(
        &mut self,
        live: &Live,
        stop: Stop,
        result: Option<(&str, &[u8])>,
        now: Moment,
    ) -> Result<(), StoreError> {
        let end = match stop {
            Stop::Canceled => AttemptEnd::Canceled,
            Stop::Stalled => AttemptEnd::TimedOut,
        };
        let failure = (stop == Stop::Stalled).then_some(FailureReason::Stalled);
        let ending = Ending { end, failure, result };
        self.close_attempt(live.key.epoch, &ending, now)?;
        if stop == Stop::Stalled {
            let mut job = JobRow::load(&self.connection, live.key.job_id.into())?;
            if job.state == JobState::TimedOut {
                self.after_failure(&mut job, FailureReason::Stalled, "no progress for too long", now)?;
            }
        }
        Ok(())
    }

    /// A grant that never became a process: the job waits again, as if nothing had been.
    pub(super) fn take_back(&mut self, live: &Live, reason: &str, now: Moment) -> Result<(), StoreError> {
        let ending = Ending {
            end: AttemptEnd::Returned,
            failure: None,
            result: None,
        };
        self.close_attempt(live.key.epoch, &ending, now)?;
        let mut job = JobRow::load(&self.connection, live.key.job_id.into())?;
        let step = Move {
            trigger: Trigger::Returned,
            reason,
            node: Some(live.node),
            attempt: Some(live.key.attempt),
        };
        self.step_job(&mut job, step, now, "it was to be given back")
    }

    /// An attempt is over through no word of its own: its node was lost, or does not know.
    pub(super) fn lose(
        &mut self,
        live: &Live,
        reason: FailureReason,
        text: &str,
        now: Moment,
    ) -> Result<(), StoreError> {
        if let Some(stop) = live.stop {
            return self.stopped(live, stop, None, now);
        }
        let ending = Ending {
            end: AttemptEnd::Lost,
            failure: Some(reason),
            result: None,
        };
        self.close_attempt(live.key.epoch, &ending, now)?;
        let mut job = JobRow::load(&self.connection, live.key.job_id.into())?;
        self.after_failure(&mut job, reason, text, now)
    }

    /// Notes a failure of the platform on a node with a class of work.
    pub(super) fn strike(&mut self, node: NodeNumber, class: i64, now: Moment) -> Result<(), StoreError> {
        let strikes = self.book.blocklist.struck(&self.book.policy, node, class, now);
        let until_wall = match strikes.until_ms.saturating_sub(now.boot_ms) {
            0 => 0,
            left => now.wall_ms + left as i64,
        };
        self.connection
            .execute(
                "INSERT INTO strikes (node, class, count, until_ms) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (node, class) DO UPDATE SET count = ?3, until_ms = ?4",
                params![node, class, strikes.count, until_wall],
            )
            .step("note a failure of a node")?;
        self.book.blocklist.restore(node, class, strikes);
        Ok(())
    }

    /// Forgets a node's failures with a class, after a success.
    pub(super) fn forgive(&mut self, node: NodeNumber, class: i64) -> Result<(), StoreError> {
        if !self.book.blocklist.has(node, class) {
            return Ok(());
        }
        self.connection
            .execute(
                "DELETE FROM strikes WHERE node = ?1 AND class = ?2",
                params![node, class],
            )
            .step("forget failures of a node")?;
        self.book.blocklist.clear(node, class);
        Ok(())
    }
}
