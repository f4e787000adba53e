//! A queue of a few lines for tests of the routes: it knows no rules, only the shapes of the store's answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use ffrtmp_api::{
    AttemptKey, AttemptReport, ClaimRequest, ClaimResponse, Epoch, Explanation, Grant, Heartbeat,
    HeartbeatAnswer, ItemOutcome, Job, JobEdit, JobEvent, JobFilter, JobList, JobRef, JobRequest, JobState,
    JobUuid, Node, NodeId, NodeInfo, NodeIntent, Orders, Paging, ReportAnswer, StaleAdvice, StateTransition,
    Stats, Tenant, output_suffix,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::store::{Answer, Control, Health, NewJob, Store, StoreError, Swept};

#[derive(Debug, Default)]
struct Inside {
    jobs: Vec<Job>,
    requests: BTreeMap<JobUuid, JobRequest>,
    keys: BTreeMap<(String, String), (JobUuid, i64, [u8; 32])>,
    nodes: BTreeMap<NodeId, Node>,
    events: Vec<JobEvent>,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct FakeStore {
    inside: Mutex<Inside>,
    clock: watch::Sender<i64>,
    /// What [`Store::health`] complains of.
    pub(crate) trouble: Mutex<Option<String>>,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self {
            inside: Mutex::default(),
            clock: watch::Sender::new(0),
            trouble: Mutex::default(),
        }
    }
}

fn now<'a, T: Send + 'a>(answer: Result<T, StoreError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(answer))
}

fn job(new: &NewJob, request: &JobRequest, number: i64) -> Job {
    let mut value: Value = serde_json::to_value(request).unwrap();
    let more = json!({
        "id": new.id(), "sequence_number": number, "tenant_id": request.tenant_id, "user_id": null, "confidence": "auto",
        "encoder": request.encoder, "sla_eligible": request.sla_eligible.unwrap_or(true), "wrapper_enabled": null,
        "limits": request.limits().unwrap(), "status": "queued", "held": request.hold, "paused": false, "progress": null,
        "progress_detail": null, "node_id": null, "node_name": null, "epoch": null, "attempt": 0,
        "created_at": Timestamp::now(), "started_at": null, "last_activity_at": Timestamp::now(), "completed_at": null,
        "retry_at": null, "retry_count": 0, "max_retries": 3, "node_losses": 0, "retry_reason": null, "error": null,
        "failure_reason": null, "platform_sla_compliant": null, "platform_sla_reason": null,
    });
    value
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

impl FakeStore {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    fn step(&self, inside: &mut Inside, index: usize, to: JobState) {
        let job = &mut inside.jobs[index];
        let step = StateTransition {
            from: Some(job.status),
            to,
            timestamp: Timestamp::now(),
            reason: "told".to_owned(),
        };
        job.status = to;
        let event = JobEvent {
            id: inside.events.len() as i64 + 1,
            n: 1,
            job_id: job.id,
            sequence_number: job.sequence_number,
            node_id: None,
            attempt: None,
            step,
        };
        inside.events.push(event);
        self.clock.send_replace(inside.events.len() as i64);
    }

    fn find(inside: &Inside, job: JobRef) -> Result<usize, StoreError> {
        let hit = |known: &&Job| match job {
            JobRef::Id(id) => known.id == id,
            JobRef::Sequence(number) => known.sequence_number == number,
        };
        let found = inside.jobs.iter().position(|known| hit(&known));
        found.ok_or_else(|| StoreError::NoJob(job.to_string()))
    }
}

impl Store for FakeStore {
    fn submit(&self, scope: String, jobs: Vec<NewJob>) -> Answer<'_, Vec<ItemOutcome>> {
        let mut inside = self.inside();
        let mut outcomes = Vec::new();
        for new in jobs {
            if !new.refused().is_empty() {
                outcomes.push(ItemOutcome::Refused {
                    errors: new.refused().to_vec(),
                });
                continue;
            }
            let key = new.key.clone().map(|key| (scope.clone(), key));
            if let Some((id, sequence_number, digest)) =
                key.as_ref().and_then(|key| inside.keys.get(key)).copied()
            {
                outcomes.push(if digest == new.digest {
                    ItemOutcome::Existing { id, sequence_number }
                } else {
                    ItemOutcome::KeyReused { id }
                });
                continue;
            }
            let request: JobRequest = serde_json::from_str(&new.body).unwrap();
            let sequence_number = inside.jobs.len() as i64 + 1;
            inside.jobs.push(job(&new, &request, sequence_number));
            inside.requests.insert(new.id(), request);
            if let Some(key) = key {
                inside.keys.insert(key, (new.id(), sequence_number, new.digest));
            }
            let index = inside.jobs.len() - 1;
            self.step(&mut inside, index, JobState::Queued);
            outcomes.push(ItemOutcome::Created {
                id: new.id(),
                sequence_number,
            });
        }
        now(Ok(outcomes))
    }

    fn claim(&self, _: NodeId, request: ClaimRequest) -> Answer<'_, ClaimResponse> {
        Box::pin(async move {
            let mut clock = self.clock.subscribe();
            let wait = std::time::Duration::from_secs(u64::from(request.wait_sec));
            let deadline = tokio::time::Instant::now() + wait;
            loop {
                {
                    let mut inside = self.inside();
                    if let Some(index) = inside.jobs.iter().position(|job| job.status == JobState::Queued) {
                        self.step(&mut inside, index, JobState::Assigned);
                        let job = &inside.jobs[index];
                        let key = AttemptKey {
                            job_id: job.id,
                            attempt: 1,
                            epoch: Epoch(1),
                        };
                        let grant = Grant {
                            key,
                            sequence_number: job.sequence_number,
                            job: inside.requests[&job.id].clone(),
                            limits: job.limits.clone(),
                            lease_sec: 30,
                            output_suffix: output_suffix(&key),
                        };
                        return Ok(ClaimResponse { grants: vec![grant] });
                    }
                }
                if tokio::time::timeout_at(deadline, clock.changed()).await.is_err() {
                    return Ok(ClaimResponse::default());
                }
            }
        })
    }

    fn report(&self, _: NodeId, key: AttemptKey, report: AttemptReport) -> Answer<'_, ReportAnswer> {
        let mut inside = self.inside();
        if key.epoch != Epoch(1) {
            return now(Err(StoreError::Stale {
                advice: StaleAdvice::Stop,
                why: "superseded".to_owned(),
            }));
        }
        let index = Self::find(&inside, JobRef::Id(key.job_id));
        now(index.map(|index| {
            let to = if matches!(report, AttemptReport::Finished { .. }) {
                JobState::Completed
            } else {
                JobState::Running
            };
            self.step(&mut inside, index, to);
            ReportAnswer::Accepted
        }))
    }

    fn register(&self, id: NodeId, info: NodeInfo) -> Answer<'_, (Node, bool)> {
        let node = Node {
            id: id.clone(),
            info,
            status: ffrtmp_api::NodeStatus::Available,
            load: ffrtmp_api::NodeLoad::default(),
            last_heartbeat: None,
            registered_at: Timestamp::now(),
            slots_used: 0,
            job_ids: Vec::new(),
            current_job_id: None,
            blocked: Vec::new(),
        };
        let new = self.inside().nodes.insert(id, node.clone()).is_none();
        now(Ok((node, new)))
    }

    fn heartbeat(&self, _: NodeId, _: Heartbeat) -> Answer<'_, HeartbeatAnswer> {
        now(Ok(HeartbeatAnswer {
            heartbeat_sec: 10,
            lease_sec: 30,
            orders: Vec::new(),
        }))
    }

    fn orders(&self, _: NodeId, after: u64, _: u32) -> Answer<'_, Orders> {
        now(Ok(Orders {
            version: after + 1,
            orders: Vec::new(),
        }))
    }

    fn node_intent(&self, node: NodeId, _: NodeIntent) -> Answer<'_, Node> {
        self.node(node)
    }

    fn remove_node(&self, node: NodeId) -> Answer<'_, ()> {
        now(self
            .inside()
            .nodes
            .remove(&node)
            .map(|_| ())
            .ok_or_else(|| StoreError::NoNode(node.to_string())))
    }

    fn node(&self, node: NodeId) -> Answer<'_, Node> {
        now(self
            .inside()
            .nodes
            .get(&node)
            .cloned()
            .ok_or_else(|| StoreError::NoNode(node.to_string())))
    }

    fn nodes(&self) -> Answer<'_, Vec<Node>> {
        now(Ok(self.inside().nodes.values().cloned().collect()))
    }

    fn control(&self, job: JobRef, control: Control) -> Answer<'_, Job> {
        let mut inside = self.inside();
        let done = Self::find(&inside, job).and_then(|index| {
            if inside.jobs[index].status.terminal() {
                let (job, state) = (job.to_string(), inside.jobs[index].status);
                return Err(StoreError::WrongState {
                    job,
                    state,
                    hint: "it has ended",
                });
            }
            if control == Control::Cancel {
                self.step(&mut inside, index, JobState::Canceled);
            }
            Ok(inside.jobs[index].clone())
        });
        now(done)
    }

    fn edit(&self, job: JobRef, edit: JobEdit) -> Answer<'_, Job> {
        let mut inside = self.inside();
        let index = Self::find(&inside, job);
        now(index.map(|index| {
            let job = &mut inside.jobs[index];
            job.priority = edit.priority.unwrap_or(job.priority);
            job.clone()
        }))
    }

    fn sweep(&self) -> Answer<'_, Swept> {
        now(Ok(Swept::default()))
    }

    fn get(&self, job: JobRef) -> Answer<'_, Job> {
        let inside = self.inside();
        now(Self::find(&inside, job).map(|index| inside.jobs[index].clone()))
    }

    fn list(&self, filter: JobFilter, paging: Paging) -> Answer<'_, JobList> {
        let inside = self.inside();
        let shown = |job: &&Job| filter.status.is_empty() || filter.status.contains(&job.status);
        let jobs: Vec<Job> = inside
            .jobs
            .iter()
            .rev()
            .filter(shown)
            .take(paging.limit as usize)
            .cloned()
            .collect();
        now(Ok(JobList {
            count: jobs.len(),
            jobs,
            next_cursor: None,
        }))
    }

    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<JobEvent>> {
        let inside = self.inside();
        now(Ok(inside
            .events
            .iter()
            .filter(|event| event.id > after)
            .take(limit as usize)
            .cloned()
            .collect()))
    }

    fn watch(&self) -> watch::Receiver<i64> {
        self.clock.subscribe()
    }

    fn explain(&self, job: JobRef) -> Answer<'_, Explanation> {
        now(Err(StoreError::NoJob(job.to_string())))
    }

    fn stats(&self) -> Answer<'_, Stats> {
        now(Ok(Stats::default()))
    }

    fn set_tenant(&self, name: String, max_running: Option<u32>) -> Answer<'_, Tenant> {
        now(Ok(Tenant {
            name,
            max_running,
            running: 0,
        }))
    }

    fn tenants(&self) -> Answer<'_, Vec<Tenant>> {
        now(Ok(Vec::new()))
    }

    fn backup(&self, _: PathBuf) -> Answer<'_, u64> {
        now(Err(StoreError::Busy))
    }

    fn health(&self) -> Answer<'_, Health> {
        let trouble = self.trouble.lock().unwrap().clone();
        now(Ok(Health {
            accepts_jobs: trouble.is_none(),
            trouble,
            ..Health::default()
        }))
    }
}
