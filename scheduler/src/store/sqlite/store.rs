//! The commands of the store, each handed to the writer or to a reader.

use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_api::{
    AttemptKey, AttemptReport, ClaimRequest, ClaimResponse, Explanation, Heartbeat, HeartbeatAnswer,
    ItemOutcome, Job, JobEdit, JobEvent, JobFilter, JobList, JobRef, Node, NodeId, NodeInfo, NodeIntent,
    Orders, Paging, ReportAnswer, Stats, Tenant,
};
use tokio::sync::{oneshot, watch};

use super::claim::ClaimTask;
use super::engine::Engine;
use super::lane::Lane;
use super::{SqliteStore, backup, query};
use crate::store::error::StoreError;
use crate::store::{Answer, Control, Health, NewJob, Store, Swept};

impl SqliteStore {
    /// Does something to a job and reads it back: what the answer shows is what is on disk.
    fn then_get<'a>(&'a self, done: Answer<'a, i64>) -> Answer<'a, Job> {
        Box::pin(async move {
            let seq = done.await?;
            self.get(JobRef::Sequence(seq)).await
        })
    }
}

impl Store for SqliteStore {
    fn submit(&self, scope: String, jobs: Vec<NewJob>) -> Answer<'_, Vec<ItemOutcome>> {
        self.write(Lane::Submit, jobs.len().max(1), move |engine, now| {
            engine.submit(&scope, &jobs, now)
        })
    }

    fn claim(&self, node: NodeId, request: ClaimRequest) -> Answer<'_, ClaimResponse> {
        let (reply, answer) = oneshot::channel();
        let task = ClaimTask {
            node,
            request,
            reply: Some(reply),
            response: None,
        };
        self.submit_task(Lane::Urgent, 4, Box::new(task));
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn report(&self, node: NodeId, key: AttemptKey, report: AttemptReport) -> Answer<'_, ReportAnswer> {
        self.write(Lane::Urgent, 4, move |engine, now| {
            engine.report(&node, key, &report, now)
        })
    }

    fn register(&self, node: NodeId, info: NodeInfo) -> Answer<'_, (Node, bool)> {
        self.write(Lane::Urgent, 1, move |engine, now| {
            engine.register(&node, info, now)
        })
    }

    fn heartbeat(&self, node: NodeId, heartbeat: Heartbeat) -> Answer<'_, HeartbeatAnswer> {
        self.write(Lane::Urgent, 1, move |engine, now| {
            engine.heartbeat(&node, &heartbeat, now)
        })
    }

    fn orders(&self, node: NodeId, after: u64, wait_sec: u32) -> Answer<'_, Orders> {
        let wait = Duration::from_secs(u64::from(wait_sec.min(ClaimRequest::WAIT_MOST_SEC)));
        Box::pin(async move {
            let ask =
                |node: NodeId| self.write(Lane::Urgent, 1, move |engine, now| engine.orders(&node, now));
            let (orders, mut bell) = ask(node.clone()).await?;
            // A version of before our start is as good as none.
            let news = orders.version != after || (after == 0 && !orders.orders.is_empty());
            if news || wait.is_zero() {
                return Ok(orders);
            }
            match tokio::time::timeout(wait, bell.changed()).await {
                Ok(Ok(())) => Ok(ask(node).await?.0),
                Ok(Err(_)) => Err(StoreError::NoNode(node.to_string())),
                Err(_) => Ok(orders),
            }
        })
    }

    fn node_intent(&self, node: NodeId, intent: NodeIntent) -> Answer<'_, Node> {
        self.write(Lane::Urgent, 1, move |engine, now| {
            engine.node_intent(&node, intent, now)
        })
    }

    fn remove_node(&self, node: NodeId) -> Answer<'_, ()> {
        self.write(Lane::Urgent, 4, move |engine, now| engine.remove_node(&node, now))
    }

    fn node(&self, node: NodeId) -> Answer<'_, Node> {
        self.write(Lane::Urgent, 1, move |engine, now| {
            engine
                .known(&node)
                .and_then(|number| engine.show_node(number, now))
        })
    }

    fn nodes(&self) -> Answer<'_, Vec<Node>> {
        self.write(Lane::Urgent, 1, |engine, now| engine.show_nodes(now))
    }

    fn control(&self, job: JobRef, control: Control) -> Answer<'_, Job> {
        self.then_get(self.write(Lane::Urgent, 4, move |engine, now| {
            engine.control(job, control, now)
        }))
    }

    fn edit(&self, job: JobRef, edit: JobEdit) -> Answer<'_, Job> {
        self.then_get(self.write(Lane::Urgent, 1, move |engine, now| engine.edit(job, edit, now)))
    }

    fn sweep(&self) -> Answer<'_, Swept> {
        self.write(Lane::Urgent, 100, Engine::sweep)
    }

    fn get(&self, job: JobRef) -> Answer<'_, Job> {
        self.read(move |connection, overlay| query::get(connection, overlay, job))
    }

    fn list(&self, filter: JobFilter, paging: Paging) -> Answer<'_, JobList> {
        self.read(move |connection, overlay| query::list(connection, overlay, &filter, paging))
    }

    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<JobEvent>> {
        self.read(move |connection, _| query::events(connection, after, limit))
    }

    fn watch(&self) -> watch::Receiver<i64> {
        self.events.clone()
    }

    fn explain(&self, job: JobRef) -> Answer<'_, Explanation> {
        self.write(Lane::Urgent, 1, move |engine, now| engine.explain(job, now))
    }

    fn stats(&self) -> Answer<'_, Stats> {
        self.write(Lane::Urgent, 1, |engine, now| Ok(engine.stats(now)))
    }

    fn set_tenant(&self, name: String, max_running: Option<u32>) -> Answer<'_, Tenant> {
        self.write(Lane::Urgent, 1, move |engine, _| {
            engine.set_tenant(&name, max_running)
        })
    }

    fn tenants(&self) -> Answer<'_, Vec<Tenant>> {
        self.write(Lane::Urgent, 1, |engine, _| Ok(engine.tenants()))
    }

    fn backup(&self, to: PathBuf) -> Answer<'_, u64> {
        let from = self.path.clone();
        let (reply, answer) = oneshot::channel();
        // A thread of its own: a copy takes long, and readers have to go on.
        let started = std::thread::Builder::new()
            .name("store-backup".to_owned())
            .spawn(move || {
                let _gone = reply.send(backup::make(&from, &to)).is_err();
            });
        Box::pin(async move {
            started.map_err(|error| StoreError::Database {
                step: "start a thread for the backup",
                text: error.to_string(),
            })?;
            answer.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        let asked = self.write(Lane::Urgent, 1, |engine, now| Ok(engine.health(now)));
        Box::pin(async move { Ok(self.complete(asked.await?)) })
    }
}
