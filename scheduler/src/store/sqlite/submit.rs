//! Takes jobs in.

use ffrtmp_api::{Epoch, ItemOutcome, JobState, JobUuid, Needs};
use rusqlite::{OptionalExtension, params};

use super::engine::Engine;
use crate::core::book::Standing;
use crate::core::ready::Place;
use crate::core::{ClassId, Moment, Seq, TenantId};
use crate::store::error::{Step, StoreError};
use crate::store::submission::{NewJob, key_hash};

impl Engine {
    /// Takes jobs, each on its own.
    pub fn submit(
        &mut self,
        scope: &str,
        jobs: &[NewJob],
        now: Moment,
    ) -> Result<Vec<ItemOutcome>, StoreError> {
        if self.disk.full(now) {
            return Err(StoreError::Full);
        }
        jobs.iter().map(|job| self.submit_one(scope, job, now)).collect()
    }

    fn submit_one(&mut self, scope: &str, job: &NewJob, now: Moment) -> Result<ItemOutcome, StoreError> {
        if !job.refused.is_empty() {
            return Ok(ItemOutcome::Refused {
                errors: job.refused.clone(),
            });
        }
        let key = job.key.as_ref().map(|key| key_hash(scope, key));
        if let Some(key) = &key
            && let Some(before) = self.job_of_key(key, job)?
        {
            return Ok(before);
        }
        let class = self.class(&job.needs)?;
        let tenant = self.tenant(job.tenant.as_deref())?;
        let seq = self.insert(job, class, tenant, now)?;
        if let Some(key) = &key {
            self.connection
                .prepare_cached("INSERT INTO idempotency (key, digest, seq) VALUES (?1, ?2, ?3)")
                .and_then(|mut statement| statement.execute(params![key, job.digest, seq]))
                .step("note an idempotency key")?;
        }
        let standing = Standing {
            seq,
            state: JobState::Queued,
            place: Place {
                band: job.band,
                tenant,
                class,
            },
            held: job.hold,
        };
        self.book.enter(standing, now.boot_ms, 0);
        self.book.count("submitted", 1);
        if !job.hold {
            *self.fresh.entry(class).or_default() += 1;
        }
        Ok(ItemOutcome::Created {
            id: job.id,
            sequence_number: seq,
        })
    }

    /// The job that this key made before, or that it made another.
    fn job_of_key(&self, key: &[u8; 32], job: &NewJob) -> Result<Option<ItemOutcome>, StoreError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT i.digest, i.seq, j.id FROM idempotency i JOIN jobs j ON j.seq = i.seq WHERE i.key = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([key.as_slice()], |row| {
                        Ok((
                            row.get::<_, [u8; 32]>(0)?,
                            row.get::<_, Seq>(1)?,
                            row.get::<_, [u8; 16]>(2)?,
                        ))
                    })
                    .optional()
            })
            .step("look an idempotency key up")?;
        Ok(found.map(|(digest, sequence_number, id)| {
            let id = JobUuid::from_bytes(id);
            if digest == job.digest {
                ItemOutcome::Existing { id, sequence_number }
            } else {
                ItemOutcome::KeyReused { id }
            }
        }))
    }

    fn insert(&self, job: &NewJob, class: ClassId, tenant: TenantId, now: Moment) -> Result<Seq, StoreError> {
        let step = "write a new job";
        self.connection
            .prepare_cached(
                "INSERT INTO jobs (id, state, band, class, tenant, held, max_retries, events, engine, scenario, \
                 created_ms, active_ms) VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?9)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    job.id.as_bytes(),
                    job.band.index() as i64,
                    class,
                    Some(tenant).filter(|tenant| *tenant != 0),
                    job.hold,
                    job.max_retries.unwrap_or(self.book.policy.max_retries),
                    job.engine as i64,
                    job.scenario,
                    now.wall_ms
                ])
            })
            .step(step)?;
        let seq = self.connection.last_insert_rowid();
        self.connection
            .prepare_cached("INSERT INTO specs (seq, body) VALUES (?1, ?2)")
            .and_then(|mut statement| statement.execute(params![seq, job.body]))
            .step(step)?;
        self.connection
            .prepare_cached(
                "INSERT INTO events (seq, n, at_ms, before, after, reason) VALUES (?1, 1, ?2, NULL, 0, 'submitted')",
            )
            .and_then(|mut statement| statement.execute(params![seq, now.wall_ms]))
            .step(step)?;
        Ok(seq)
    }

    /// Number of a class, which is written down when it is new.
    fn class(&mut self, needs: &Needs) -> Result<ClassId, StoreError> {
        if let Some(class) = self.book.class_of(needs) {
            return Ok(class);
        }
        let text = serde_json::to_string(needs).step("serialise a class")?;
        self.connection
            .execute("INSERT INTO classes (needs) VALUES (?1)", [text])
            .step("write a class")?;
        let class = self.connection.last_insert_rowid();
        self.book.add_class(class, needs.clone());
        Ok(class)
    }

    /// Number of a tenant, who is written down when new; a new tenant has no cap.
    pub(super) fn tenant(&mut self, name: Option<&str>) -> Result<TenantId, StoreError> {
        if let Some(tenant) = self.book.tenant_of(name) {
            return Ok(tenant);
        }
        let name = name.unwrap_or_default().to_owned();
        self.connection
            .execute("INSERT INTO tenants (name) VALUES (?1)", [&name])
            .step("write a tenant")?;
        let tenant = self.connection.last_insert_rowid();
        self.book.add_tenant(tenant, name, None);
        Ok(tenant)
    }

    /// A fence that no attempt ever had.
    pub(super) fn fence(&mut self) -> Result<Epoch, StoreError> {
        let epoch = self.next_epoch;
        self.connection
            .prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'next_epoch'")
            .and_then(|mut statement| statement.execute([epoch as i64 + 1]))
            .step("draw a fence")?;
        self.next_epoch += 1;
        Ok(Epoch(epoch))
    }
}
