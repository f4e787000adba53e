//! Takes a node's word on its attempts, behind the fence.
//!
//! The fence is (job, attempt, epoch, node) and the attempt's phase on disk. A result is taken once; the same result
//! again is answered as before, and any other word on an attempt that is over is refused.

use ffrtmp_api::{
    AttemptEnd, AttemptKey, AttemptPhase, AttemptReport, AttemptResult, FailureReason, JobRef, NodeId,
    Progress, ReportAnswer, ResultStatus, StaleAdvice,
};
use rusqlite::params;
use sha2::{Digest, Sha256};

use super::engine::Engine;
use super::rows::{AttemptRow, Ending, JobRow, Move};
use crate::core::lifecycle::Trigger;
use crate::core::live::Live;
use crate::core::{Moment, failure};
use crate::store::error::{Step, StoreError};

impl Engine {
    /// Takes a node's word on one of its attempts.
    pub fn report(
        &mut self,
        node: &NodeId,
        key: AttemptKey,
        report: &AttemptReport,
        now: Moment,
    ) -> Result<ReportAnswer, StoreError> {
        let number = self.heard(node, now)?;
        let finished = matches!(report, AttemptReport::Finished { .. });
        let row = AttemptRow::load(&self.connection, key.epoch)?;
        let Some(row) = row.filter(|row| row.key == key && row.node == number) else {
            return Err(self.stale(finished, "this node was never given it, or its job was forgotten"));
        };
        let live = self.book.live.get(key.epoch).cloned();
        match (report, live) {
            (AttemptReport::Finished { result }, live) => self.finished(&row, live.as_ref(), result, now),
            (_, None) => self.over(&row, report),
            (AttemptReport::Returned { reason }, Some(live)) => self.returned(&live, reason, now),
            (_, Some(live)) if !live.in_force() => {
                Err(self.stale(false, "its job was cancelled or has timed out"))
            }
            (AttemptReport::Started { .. }, Some(live)) => match live.phase {
                AttemptPhase::Granted => {
                    self.started(&live, now)?;
                    Ok(ReportAnswer::Accepted)
                }
                _ => Ok(ReportAnswer::AlreadyAccepted),
            },
            (AttemptReport::Progressed { progress }, Some(live)) => {
                if live.phase == AttemptPhase::Granted {
                    self.started(&live, now)?;
                }
                self.progressed(&live, progress.clone(), now);
                Ok(ReportAnswer::Accepted)
            }
        }
    }

    fn stale(&mut self, finished: bool, why: &str) -> StoreError {
        self.book.count("stale_writes", 1);
        let advice = if finished {
            StaleAdvice::Discard
        } else {
            StaleAdvice::Stop
        };
        StoreError::Stale {
            advice,
            why: why.to_owned(),
        }
    }

    /// A word other than a result on an attempt that is over.
    fn over(&mut self, row: &AttemptRow, report: &AttemptReport) -> Result<ReportAnswer, StoreError> {
        let repeated =
            matches!(report, AttemptReport::Returned { .. }) && row.ending == Some(AttemptEnd::Returned);
        if repeated {
            return Ok(ReportAnswer::AlreadyAccepted);
        }
        Err(self.stale(false, ended_text(row.ending)))
    }

    /// Its process runs.
    pub(super) fn started(&mut self, live: &Live, now: Moment) -> Result<(), StoreError> {
        let mut job = JobRow::load(&self.connection, JobRef::Sequence(live.seq))?;
        job.started_ms = Some(now.wall_ms);
        let step = Move {
            trigger: Trigger::Started,
            reason: "started",
            node: Some(live.node),
            attempt: Some(live.key.attempt),
        };
        self.connection
            .prepare_cached("UPDATE attempts SET phase = 1, started_ms = ?2 WHERE epoch = ?1 AND phase = 0")
            .and_then(|mut statement| statement.execute(params![live.key.epoch.0 as i64, now.wall_ms]))
            .step("note a start")?;
        self.step_job(&mut job, step, now, "it was to start")?;
        if let Some(live) = self.book.live.get_mut(live.key.epoch) {
            live.phase = AttemptPhase::Running;
            live.moved_ms = now.boot_ms;
        }
        Ok(())
    }

    /// How far it is. Only memory knows; the disk has better to do.
    pub(super) fn progressed(&mut self, live: &Live, progress: Progress, now: Moment) {
        let epoch = live.key.epoch;
        self.show(|overlay| overlay.set(epoch, progress.clone(), now.wall_ms));
        self.book.live.progressed(epoch, progress, now);
    }

    fn returned(&mut self, live: &Live, reason: &str, now: Moment) -> Result<ReportAnswer, StoreError> {
        if let Some(stop) = live.stop {
            self.stopped(live, stop, None, now)?;
            return Ok(ReportAnswer::Accepted);
        }
        if live.phase != AttemptPhase::Granted {
            return Err(StoreError::Conflict(
                "the attempt has started and cannot be given back; report how it ended".to_owned(),
            ));
        }
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
        self.take_back(live, &format!("returned: {reason}"), now)?;
        Ok(ReportAnswer::Accepted)
    }

    fn finished(
        &mut self,
        row: &AttemptRow,
        live: Option<&Live>,
        result: &AttemptResult,
        now: Moment,
    ) -> Result<ReportAnswer, StoreError> {
        result
            .validate()
            .map_err(|error| StoreError::Invalid(vec![error.within("result")]))?;
        let text = serde_json::to_string(result).step("serialise a result")?;
        let digest: [u8; 32] = Sha256::digest(&text).into();
        let Some(live) = live else {
            return self.finished_again(row, &digest);
        };
        let kept = (text.as_str(), digest.as_slice());
        if let Some(stop) = live.stop {
            self.stopped(live, stop, Some(kept), now)?;
            return Ok(ReportAnswer::Noted {
                advice: StaleAdvice::Discard,
            });
        }
        if live.phase == AttemptPhase::Granted && result.status != ResultStatus::Canceled {
            // The word of its start was lost on the way.
            self.started(live, now)?;
        }
        self.accept(live, result, kept, now)?;
        Ok(ReportAnswer::Accepted)
    }

    /// The answer to a result that was taken before, or came too late.
    fn finished_again(&mut self, row: &AttemptRow, digest: &[u8]) -> Result<ReportAnswer, StoreError> {
        let same = row.phase == AttemptPhase::Ended && row.digest.as_deref() == Some(digest);
        if !same {
            return Err(self.stale(true, ended_text(row.ending)));
        }
        // The first answer decided: what was to be ended was noted, and everything else was taken.
        Ok(if row.stopped {
            ReportAnswer::Noted {
                advice: StaleAdvice::Discard,
            }
        } else {
            ReportAnswer::AlreadyAccepted
        })
    }

    /// Takes the result of an attempt in force.
    fn accept(
        &mut self,
        live: &Live,
        result: &AttemptResult,
        kept: (&str, &[u8]),
        now: Moment,
    ) -> Result<(), StoreError> {
        let (end, failure) = verdict(result);
        let ending = Ending {
            end,
            failure,
            result: Some(kept),
        };
        self.close_attempt(live.key.epoch, &ending, now)?;
        let mut job = JobRow::load(&self.connection, JobRef::Sequence(live.seq))?;
        let error = result
            .error
            .as_deref()
            .or(result.log_tail.last().map(String::as_str));
        let step = match result.status {
            ResultStatus::Completed => Some((Trigger::Succeeded, "result accepted")),
            ResultStatus::Canceled => Some((Trigger::Canceled, "cancelled on its node")),
            ResultStatus::TimedOut => Some((Trigger::TimedOut, "its own time limit passed")),
            // What follows a failure is decided below.
            ResultStatus::Failed => None,
        };
        if result.status == ResultStatus::Completed {
            job.failure = None;
        }
        if let Some((trigger, reason)) = step {
            let step = Move {
                trigger,
                reason,
                node: Some(live.node),
                attempt: Some(live.key.attempt),
            };
            self.step_job(&mut job, step, now, "it was to run")?;
        }
        if let Some(reason) = failure {
            if failure::strikes(reason) {
                self.strike(live.node, live.class, now)?;
            }
            return self.after_failure(&mut job, reason, error.unwrap_or(reason.as_str()), now);
        }
        if result.status == ResultStatus::Completed {
            self.book.count("completed", 1);
            self.forgive(live.node, live.class)?;
            return self.judge(&job, None);
        }
        self.book.count("canceled", 1);
        self.judge(&job, error)
    }
}

/// What a result means for its attempt, and why it failed where it did.
fn verdict(result: &AttemptResult) -> (AttemptEnd, Option<FailureReason>) {
    match result.status {
        ResultStatus::Completed => (AttemptEnd::Accepted, None),
        ResultStatus::Failed => (
            AttemptEnd::Failed,
            Some(result.failure_reason.unwrap_or(FailureReason::RuntimeError)),
        ),
        ResultStatus::TimedOut => (AttemptEnd::TimedOut, Some(FailureReason::Timeout)),
        ResultStatus::Canceled => (AttemptEnd::Canceled, None),
    }
}

fn ended_text(ending: Option<AttemptEnd>) -> &'static str {
    match ending {
        Some(AttemptEnd::Accepted) => "another result of it was accepted",
        Some(AttemptEnd::Failed) => "it was reported as failed",
        Some(AttemptEnd::Canceled) => "its job was cancelled",
        Some(AttemptEnd::TimedOut) => "it had timed out",
        Some(AttemptEnd::Lost) => "its node was taken for lost and the job went elsewhere",
        Some(AttemptEnd::Returned) => "it was taken back",
        None => "it is being ended",
    }
}
