//! What is due: lost nodes, attempts that make no progress, pauses that are over, and old jobs.
//!
//! Each sweep does a bounded amount and is called again; nothing here waits.

use ffrtmp_api::{AttemptPhase, Band, JobRef, JobState, Priority, Queue};
use rusqlite::params;

use super::engine::Engine;
use super::rows::{JobRow, Move, word};
use crate::core::Moment;
use crate::core::lifecycle::Trigger;
use crate::core::live::{Live, Stop};
use crate::store::Swept;
use crate::store::error::{Step, StoreError};

/// Rows one sweep touches of each kind at most, so that it never holds the writer for long.
const MOST: usize = 500;

impl Engine {
    /// Does what is due.
    pub fn sweep(&mut self, now: Moment) -> Result<Swept, StoreError> {
        // Blocks that end, reservations and caps are looked at once a sweep.
        self.recheck.everyone();
        self.swept_ms = now.boot_ms;
        let nodes_lost = self.lose_nodes(now)?;
        let (stalled, returned) = self.overdue(now)?;
        self.reject_hopeless(now)?;
        Ok(Swept {
            nodes_lost,
            stalled,
            returned,
            due: self.requeue_due(now)?,
            forgotten: self.forget_old(now)?,
        })
    }

    /// Attempts that took too long for a step: to start, to make progress, to be ended.
    fn overdue(&mut self, now: Moment) -> Result<(u32, u32), StoreError> {
        let (mut stalled, mut returned) = (0, 0);
        for live in self.overdue_attempts(now) {
            match (live.stop, live.phase) {
                (Some(stop), _) => self.stopped(&live, stop, None, now)?,
                (None, AttemptPhase::Granted) => {
                    self.take_back(&live, "its start was not reported in time", now)?;
                    returned += 1;
                }
                (None, _) => {
                    self.stall(&live, now)?;
                    stalled += 1;
                }
            }
        }
        Ok((stalled, returned))
    }

    fn overdue_attempts(&self, now: Moment) -> Vec<Live> {
        let policy = &self.book.policy;
        let overdue = |live: &&Live| {
            let most = match (live.stop, live.phase) {
                (Some(_), _) => policy.stop_ms,
                (None, AttemptPhase::Granted) => policy.start_ms,
                (None, _) if live.paused => return false,
                (None, _) => policy.stale_ms(live.queue),
            };
            most < now.since(live.moved_ms)
        };
        self.book
            .live
            .iter()
            .filter(overdue)
            .take(MOST)
            .cloned()
            .collect()
    }

    fn stall(&mut self, live: &Live, now: Moment) -> Result<(), StoreError> {
        let mut job = JobRow::load(&self.connection, JobRef::Sequence(live.seq))?;
        let step = Move {
            trigger: Trigger::TimedOut,
            reason: "no progress for too long",
            node: Some(live.node),
            attempt: Some(live.key.attempt),
        };
        self.step_job(&mut job, step, now, "it was to run")?;
        self.stop_attempt(live, Stop::Stalled, now)
    }

    fn requeue_due(&mut self, now: Moment) -> Result<u32, StoreError> {
        let due = self.book.due(now, MOST);
        for seq in &due {
            let mut job = JobRow::load(&self.connection, JobRef::Sequence(*seq))?;
            let step = Move {
                trigger: Trigger::Due,
                reason: "due",
                node: None,
                attempt: None,
            };
            self.step_job(&mut job, step, now, "it was to be retried")?;
        }
        Ok(due.len() as u32)
    }

    /// Live jobs that no node can run are told so instead of waiting for ever.
    fn reject_hopeless(&mut self, now: Moment) -> Result<(), StoreError> {
        let mut hopeless = Vec::new();
        for priority in Priority::ALL {
            let band = Band {
                queue: Queue::Live,
                priority: *priority,
            };
            for (_, class, bucket) in self.book.ready.buckets(band) {
                let Some(needs) = self.book.classes.get(&class) else {
                    continue;
                };
                if self.book.fleet.iter().any(|(_, member)| member.can(class, needs)) {
                    continue;
                }
                let old = bucket
                    .iter()
                    .filter(|(_, since)| self.book.policy.reject_live_ms < now.since(**since));
                hopeless.extend(old.map(|(seq, _)| *seq).take(MOST));
            }
        }
        for seq in hopeless {
            let mut job = JobRow::load(&self.connection, JobRef::Sequence(seq))?;
            let step = Move {
                trigger: Trigger::Rejected,
                reason: "no node can run it",
                node: None,
                attempt: None,
            };
            self.step_job(&mut job, step, now, "it was to be waiting")?;
            self.judge(
                &job,
                Some("no registered node can run it; see `ffrtmp jobs explain`"),
            )?;
        }
        Ok(())
    }

    /// Deletes jobs that were over for long enough, with all that belongs to them.
    fn forget_old(&mut self, now: Moment) -> Result<u32, StoreError> {
        let Some(kept_ms) = self.retention.jobs_ms else {
            return Ok(0);
        };
        let step = "find old jobs";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT seq, state FROM jobs WHERE state >= 5 AND ended_ms < ?1 ORDER BY ended_ms LIMIT ?2",
            )
            .step(step)?;
        let old = statement
            .query_map(params![now.wall_ms - kept_ms, MOST as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .step(step)?;
        drop(statement);
        let mut forgotten = 0;
        for (seq, state) in old {
            // A cancelled job whose process is still being ended waits for that.
            if self.book.live.of_job(seq).is_some() {
                continue;
            }
            let step = "forget an old job";
            self.connection
                .prepare_cached(
                    "UPDATE meta SET value = max(value, (SELECT coalesce(max(id), 0) FROM events WHERE seq = ?1)) \
                     WHERE key = 'events_forgotten'",
                )
                .and_then(|mut statement| statement.execute([seq]))
                .step(step)?;
            self.connection
                .prepare_cached("DELETE FROM jobs WHERE seq = ?1")
                .and_then(|mut statement| statement.execute([seq]))
                .step(step)?;
            let state: JobState = word(JobState::ALL, state, "a state")?;
            if let Some(count) = self.book.counts.get_mut(&state) {
                *count = count.saturating_sub(1);
            }
            forgotten += 1;
        }
        Ok(forgotten)
    }
}
