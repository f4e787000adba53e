//! The clients: they submit, repeat their keys, cancel, retry, pause and edit.

use ffrtmp_api::{ItemOutcome, JobEdit, JobRef, JobRequest, JobUuid, Priority, Queue};
use ffrtmp_scheduler::store::{Control, NewJob, StoreError};

use super::World;
use crate::random::Random;

impl World {
    pub(super) fn clients(&mut self) -> Result<(), String> {
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
