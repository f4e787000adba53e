//! A store in a directory of its own, a clock to move, and short words for the commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffrtmp_api::{
    AttemptReport, AttemptResult, ClaimRequest, FailureReason, Grant, Heartbeat, HeldAttempt, ItemOutcome,
    Job, JobRequest, JobUuid, NodeId, NodeInfo, Progress, ReportAnswer, ResultStatus,
};
use ffrtmp_scheduler::core::Moment;
use ffrtmp_scheduler::store::sqlite::{Options, SqliteStore};
use ffrtmp_scheduler::store::{ManualClock, NewJob, Store, StoreError};

pub(crate) struct Farm {
    pub(crate) store: Box<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) made: AtomicU64,
}

/// One of each implementation.
pub(crate) fn farms() -> Vec<Farm> {
    vec![Farm::sqlite(tempfile::tempdir().unwrap(), None)]
}

pub(crate) const START: Moment = Moment {
    wall_ms: 1_700_000_000_000,
    boot_ms: 1_000_000,
};

impl Farm {
    pub(crate) fn sqlite(directory: tempfile::TempDir, clock: Option<Arc<ManualClock>>) -> Self {
        let clock = clock.unwrap_or_else(|| Arc::new(ManualClock::at(START)));
        let options = Options {
            clock: clock.clone(),
            ..Options::new(directory.path().join("queue.db"))
        };
        Self {
            store: Box::new(SqliteStore::open(options).unwrap()),
            clock,
            directory,
            made: AtomicU64::new(1),
        }
    }

    /// Closes the store and opens it again on the same file.
    pub(crate) fn reopen(self) -> Self {
        let Self {
            store,
            clock,
            directory,
            made,
        } = self;
        drop(store);
        Self {
            made,
            ..Self::sqlite(directory, Some(clock))
        }
    }

    pub(crate) fn new_job(&self, text: &str) -> NewJob {
        let request: JobRequest = serde_json::from_str(text).unwrap();
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        NewJob::new(JobUuid::from_parts(1_700_000_000_000, random), &request).unwrap()
    }

    pub(crate) async fn submit(&self, text: &str) -> JobUuid {
        let jobs = vec![self.new_job(text)];
        let items = self.store.submit("tests".to_owned(), jobs).await.unwrap();
        match items.as_slice() {
            [ItemOutcome::Created { id, .. }] => *id,
            other => panic!("{text}: {other:?}"),
        }
    }

    pub(crate) async fn node(&self, name: &str, slots: u32) -> NodeId {
        let info = NodeInfo {
            slots: Some(slots),
            ..NodeInfo::default()
        };
        self.node_with(name, info).await
    }

    pub(crate) async fn node_with(&self, name: &str, info: NodeInfo) -> NodeId {
        let id = NodeId::parse(name).unwrap();
        self.store.register(id.clone(), info).await.unwrap();
        id
    }

    pub(crate) async fn claim(&self, node: &NodeId) -> Option<Grant> {
        let request = ClaimRequest {
            max: 1,
            ..ClaimRequest::default()
        };
        let answer = self.store.claim(node.clone(), request).await.unwrap();
        answer.grants.into_iter().next()
    }

    pub(crate) async fn start(&self, node: &NodeId, grant: &Grant) -> Result<ReportAnswer, StoreError> {
        let started = AttemptReport::Started {
            pid: Some(1),
            engine: None,
        };
        self.store.report(node.clone(), grant.key, started).await
    }

    pub(crate) async fn finish(
        &self,
        node: &NodeId,
        grant: &Grant,
        result: AttemptResult,
    ) -> Result<ReportAnswer, StoreError> {
        let report = AttemptReport::Finished {
            result: Box::new(result),
        };
        self.store.report(node.clone(), grant.key, report).await
    }

    /// A heartbeat with these attempts running and so many pictures done.
    pub(crate) async fn beat(&self, node: &NodeId, held: &[&Grant], frame: u64) -> Vec<ffrtmp_api::Order> {
        let held = held
            .iter()
            .map(|grant| HeldAttempt {
                key: grant.key,
                started: true,
                finished: false,
                progress: Progress {
                    frame: Some(frame),
                    ..Progress::default()
                },
                paused: false,
            })
            .collect();
        let heartbeat = Heartbeat {
            held,
            ..Heartbeat::default()
        };
        self.store
            .heartbeat(node.clone(), heartbeat)
            .await
            .unwrap()
            .orders
    }

    /// Lets time pass with a heartbeat every ten seconds and a sweep every second.
    pub(crate) async fn pass_beating(&self, seconds: u64, node: &NodeId, held: &[&Grant]) {
        for second in 0..seconds {
            self.clock.pass(1000);
            if second % 10 == 0 {
                self.beat(node, held, 0).await;
            }
            self.store.sweep().await.unwrap();
        }
    }

    /// Lets time pass in silence.
    pub(crate) async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.pass(1000);
            self.store.sweep().await.unwrap();
        }
    }

    pub(crate) async fn job(&self, id: JobUuid) -> Job {
        self.store.get(id.into()).await.unwrap()
    }

    /// The job's states so far.
    pub(crate) async fn story(&self, id: JobUuid) -> String {
        let history = self.job(id).await.state_transitions.unwrap();
        let words: Vec<&str> = history.iter().map(|step| step.to.as_str()).collect();
        words.join(" ")
    }
}

pub(crate) fn done() -> AttemptResult {
    AttemptResult::new(ResultStatus::Completed)
}

pub(crate) fn failed(reason: FailureReason) -> AttemptResult {
    AttemptResult {
        failure_reason: Some(reason),
        error: Some(format!("it was {reason}")),
        ..AttemptResult::new(ResultStatus::Failed)
    }
}
