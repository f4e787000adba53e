//! What clients do to one job: cancel, retry, pause, resume, hold, edit.

use ffrtmp_api::{FieldError, JobEdit, JobRef, JobState};

use super::engine::Engine;
use super::rows::{self, JobRow, Move};
use crate::core::Moment;
use crate::core::failure::Used;
use crate::core::lifecycle::Trigger;
use crate::core::live::Stop;
use crate::store::Control;
use crate::store::error::StoreError;

impl Engine {
    /// Does it; the number of the job.
    pub fn control(&mut self, job: JobRef, control: Control, now: Moment) -> Result<i64, StoreError> {
        let mut job = JobRow::load(&self.connection, job)?;
        match control {
            Control::Cancel => self.cancel(&mut job, now)?,
            Control::Retry => self.retry(&mut job, now)?,
            Control::Pause => self.pause(&mut job, now)?,
            Control::Resume => self.resume(&mut job, now)?,
            Control::Hold => self.set_held(&mut job, true, now)?,
        }
        Ok(job.seq)
    }

    fn cancel(&mut self, job: &mut JobRow, now: Moment) -> Result<(), StoreError> {
        if job.state == JobState::Canceled {
            return Ok(());
        }
        let live = self.book.live.of_job(job.seq).cloned();
        let step = Move {
            trigger: Trigger::Canceled,
            reason: "cancelled",
            node: live.as_ref().map(|live| live.node),
            attempt: live.as_ref().map(|live| live.key.attempt),
        };
        self.step_job(job, step, now, "only a job that is not over can be cancelled")?;
        self.book.count("canceled", 1);
        if let Some(live) = live {
            self.stop_attempt(&live, Stop::Canceled, now)?;
        }
        self.judge(job, None)
    }

    fn retry(&mut self, job: &mut JobRow, now: Moment) -> Result<(), StoreError> {
        if let Some(live) = self.book.live.of_job(job.seq)
            && job.state.terminal()
        {
            return Err(StoreError::Conflict(format!(
                "attempt {} of job {} is still being ended; try again in a moment",
                live.key.attempt, job.id
            )));
        }
        job.used = Used::default();
        job.failure = None;
        job.started_ms = None;
        job.held = false;
        let step = Move {
            trigger: Trigger::Reopened,
            reason: "retried by request",
            node: None,
            attempt: None,
        };
        self.step_job(
            job,
            step,
            now,
            "only a failed, cancelled or rejected job can be retried",
        )?;
        rows::forget_outcome(&self.connection, job.seq)
    }

    fn pause(&mut self, job: &mut JobRow, now: Moment) -> Result<(), StoreError> {
        match job.state {
            JobState::Assigned | JobState::Running => self.set_paused(job, true),
            _ => self.set_held(job, true, now),
        }
    }

    fn resume(&mut self, job: &mut JobRow, now: Moment) -> Result<(), StoreError> {
        match job.state {
            JobState::Assigned | JobState::Running => self.set_paused(job, false),
            _ => self.set_held(job, false, now),
        }
    }

    fn set_paused(&mut self, job: &mut JobRow, paused: bool) -> Result<(), StoreError> {
        if job.paused == paused {
            return Ok(());
        }
        job.paused = paused;
        rows::save(&self.connection, job)?;
        if let Some(epoch) = self.book.live.of_job(job.seq).map(|live| live.key.epoch)
            && let Some(live) = self.book.live.get_mut(epoch)
        {
            live.paused = paused;
            let node = live.node;
            self.ring(node);
        }
        Ok(())
    }

    fn set_held(&mut self, job: &mut JobRow, held: bool, now: Moment) -> Result<(), StoreError> {
        if !matches!(job.state, JobState::Queued | JobState::Retrying) {
            return Err(StoreError::WrongState {
                job: job.id.to_string(),
                state: job.state,
                hint: "only a job that waits can be held, and only one that waits or runs can be paused or resumed",
            });
        }
        self.change(job, now, |job| job.held = held)
    }

    /// Changes a job that waits; the number of the job.
    pub fn edit(&mut self, job: JobRef, edit: JobEdit, now: Moment) -> Result<i64, StoreError> {
        let mut job = JobRow::load(&self.connection, job)?;
        if edit.max_retries.is_some_and(|tries| tries > 100) {
            let error = FieldError::new("max_retries", "write 0 to 100");
            return Err(StoreError::Invalid(vec![error]));
        }
        let moves = edit.queue.is_some() || edit.priority.is_some();
        if moves && !matches!(job.state, JobState::Queued | JobState::Retrying) {
            return Err(StoreError::WrongState {
                job: job.id.to_string(),
                state: job.state,
                hint: "only a job that waits can change its queue or priority",
            });
        }
        self.change(&mut job, now, |job| {
            job.band.queue = edit.queue.unwrap_or(job.band.queue);
            job.band.priority = edit.priority.unwrap_or(job.band.priority);
            job.max_retries = edit.max_retries.unwrap_or(job.max_retries);
        })?;
        Ok(job.seq)
    }

    /// Changes a row without a step of its state, and its place in the books. It keeps its number, so a job that is
    /// moved stands where its age puts it.
    fn change(
        &mut self,
        job: &mut JobRow,
        now: Moment,
        change: impl FnOnce(&mut JobRow),
    ) -> Result<(), StoreError> {
        let before = job.standing();
        change(job);
        rows::save(&self.connection, job)?;
        self.book.shift(before, job.standing(), now);
        if job.state == JobState::Queued && !job.held {
            *self.fresh.entry(job.class).or_default() += 1;
        }
        Ok(())
    }
}
