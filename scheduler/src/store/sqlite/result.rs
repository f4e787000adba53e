//! Takes the result of an attempt, once: the same again is answered as before, any other is refused.

use ffrtmp_api::{
    AttemptEnd, AttemptPhase, AttemptResult, FailureReason, JobRef, ReportAnswer, ResultStatus, StaleAdvice,
};
use sha2::{Digest, Sha256};

use super::engine::Engine;
use super::report::ended_text;
use super::rows::{AttemptRow, Ending, JobRow, Move};
use crate::core::lifecycle::Trigger;
use crate::core::live::Live;
use crate::core::{Moment, failure};
use crate::store::error::{Step, StoreError};

impl Engine {
    /// The word that an attempt is over. `live` is the attempt where it is still in the books.
    pub(super) fn finished(
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
