//! Takes a node's word on its attempts, behind the fence.
//!
//! The fence is (job, attempt, epoch, node) and the attempt's phase on disk. Any word but a result on an attempt that is
//! over is refused; what becomes of results is in `result`.

use ffrtmp_api::{
    AttemptEnd, AttemptKey, AttemptPhase, AttemptReport, JobRef, NodeId, Progress, ReportAnswer, StaleAdvice,
};
use rusqlite::params;

use super::engine::Engine;
use super::rows::{AttemptRow, JobRow, Move};
use crate::core::Moment;
use crate::core::lifecycle::Trigger;
use crate::core::live::Live;
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

    pub(super) fn stale(&mut self, finished: bool, why: &str) -> StoreError {
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
}

/// How an attempt ended, for whoever comes too late.
pub(super) fn ended_text(ending: Option<AttemptEnd>) -> &'static str {
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
