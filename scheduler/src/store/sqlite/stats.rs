//! Figures and explanations that the books can give without asking the disk for more than one row.

use ffrtmp_api::{BandDepth, Explanation, JobRef, NodeStatus, Stats, Tenant};
use rusqlite::params;

use super::engine::Engine;
use super::rows::JobRow;
use crate::core::{Moment, explain};
use crate::store::Health;
use crate::store::error::{Step, StoreError};

impl Engine {
    /// Figures of the whole queue.
    pub fn stats(&self, now: Moment) -> Stats {
        let mut stats = Stats {
            jobs_by_state: self.book.counts.clone(),
            held: self.book.held,
            live_attempts: self.book.live.len() as u64,
            waiting_claims: self.waiters.len() as u64,
            ..Stats::default()
        };
        let depths = self.book.depths().into_iter();
        stats.waiting = depths
            .map(|(band, jobs)| BandDepth {
                queue: band.queue,
                priority: band.priority,
                jobs,
            })
            .collect();
        for (status, member) in self.statuses(now) {
            *stats
                .nodes_by_status
                .entry(status.as_str().to_owned())
                .or_default() += 1;
            if status != NodeStatus::Offline {
                stats.slots += u64::from(member.info.slots());
                stats.slots_used += u64::from(member.used);
            }
        }
        let totals = self.book.totals.iter();
        stats.totals = totals.map(|(what, count)| ((*what).to_owned(), *count)).collect();
        stats
    }

    /// Why a job waits and when it may start.
    pub fn explain(&self, job: JobRef, now: Moment) -> Result<Explanation, StoreError> {
        let job = JobRow::load(&self.connection, job)?;
        let due_in_ms = self.book.due_in(job.seq, now);
        let why = explain::why(&self.book, job.standing(), due_in_ms, now);
        Ok(Explanation {
            job_id: job.id,
            sequence_number: job.seq,
            status: job.state,
            reasons: why.reasons,
            ahead: why.ahead,
            nodes: why.nodes,
            start_estimate_sec: why.estimate_sec,
            estimate_basis: why.basis,
        })
    }

    /// Sets how many jobs a tenant may run at once.
    pub fn set_tenant(&mut self, name: &str, max_running: Option<u32>) -> Result<Tenant, StoreError> {
        let tenant = self.tenant(Some(name))?;
        self.connection
            .execute(
                "UPDATE tenants SET max_running = ?2 WHERE id = ?1",
                params![tenant, max_running],
            )
            .step("write a tenant's cap")?;
        self.book.add_tenant(tenant, name.to_owned(), max_running);
        self.recheck.everyone();
        Ok(Tenant {
            name: name.to_owned(),
            max_running,
            running: self.book.tenants.get(&tenant).map_or(0, |cap| cap.running),
        })
    }

    /// All tenants.
    pub fn tenants(&self) -> Vec<Tenant> {
        let tenants = self.book.tenants.values();
        tenants
            .map(|cap| Tenant {
                name: cap.name.clone(),
                max_running: cap.max_running,
                running: cap.running,
            })
            .collect()
    }

    /// How the store is, as far as the engine knows.
    pub(super) fn health(&mut self, now: Moment) -> Health {
        let full = self.disk.full(now);
        Health {
            accepts_jobs: !full,
            trouble: full.then(|| StoreError::Full.to_string()),
            disk_free_bytes: self.disk.last,
            commits: self.commits,
            commands: self.commands,
            ..Health::default()
        }
    }
}
