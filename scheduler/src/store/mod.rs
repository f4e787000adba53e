//! The durable store, as an interface of whole commands.
//!
//! Each command is one decision and one commit: when its answer says yes, it is on disk. Nothing outside sees rows, so
//! that another database can stand behind the same interface; `scheduler/tests/conformance` is the suite every
//! implementation passes. [`sqlite::SqliteStore`] is the one there is.

mod clock;
mod error;
pub mod sqlite;
mod submission;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use ffrtmp_api::{
    AttemptKey, AttemptReport, ClaimRequest, ClaimResponse, Explanation, Heartbeat, HeartbeatAnswer,
    ItemOutcome, Job, JobEdit, JobEvent, JobFilter, JobList, JobRef, Node, NodeId, NodeInfo, NodeIntent,
    Orders, Paging, ReportAnswer, Stats, Tenant,
};

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::StoreError;
pub use submission::NewJob;

/// What every command gives: its answer, once it is on disk.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What a client does to one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// End it for good. Once answered, the job never succeeds.
    Cancel,
    /// Give a failed, cancelled or rejected job another try, with fresh counts.
    Retry,
    /// Freeze the process of a running job; a waiting job is held.
    Pause,
    /// Undo a pause or a hold.
    Resume,
    /// Keep a waiting job from being given out.
    Hold,
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Nodes found lost.
    pub nodes_lost: u32,
    /// Attempts that made no progress for too long.
    pub stalled: u32,
    /// Grants taken back.
    pub returned: u32,
    /// Jobs whose pause was over.
    pub due: u32,
    /// Jobs deleted by retention.
    pub forgotten: u32,
}

/// How the store is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// True when it takes submissions.
    pub accepts_jobs: bool,
    /// What is wrong, for people; `None` when nothing is.
    pub trouble: Option<String>,
    /// Size of the database in bytes.
    pub database_bytes: u64,
    /// Size of its log in bytes.
    pub wal_bytes: u64,
    /// Free space on its disk in bytes; `None` when it cannot be read.
    pub disk_free_bytes: Option<u64>,
    /// Commands that wait.
    pub queued_commands: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Commands in them.
    pub commands: u64,
    /// Version of SQLite and of the schema, for the status page.
    pub versions: String,
}

/// The store. Commands may be called from any thread; they are answered in the order they were committed.
pub trait Store: Send + Sync + 'static {
    /// Takes jobs, each on its own: one that is refused does not refuse the others. `scope` is whoever asks; the same
    /// idempotency key of two scopes are two keys.
    fn submit(&self, scope: String, jobs: Vec<NewJob>) -> Answer<'_, Vec<ItemOutcome>>;

    /// Gives a node work, waiting up to `request.wait_sec` for some. Dropping the future before it is answered gives
    /// the wait up.
    fn claim(&self, node: NodeId, request: ClaimRequest) -> Answer<'_, ClaimResponse>;

    /// Takes a node's word on one of its attempts. A stale one is [`StoreError::Stale`].
    fn report(&self, node: NodeId, key: AttemptKey, report: AttemptReport) -> Answer<'_, ReportAnswer>;

    /// Takes a node in, or its new facts. The flag is true when it was not known before.
    fn register(&self, node: NodeId, info: NodeInfo) -> Answer<'_, (Node, bool)>;

    /// Takes a node's regular call and tells it what to do.
    fn heartbeat(&self, node: NodeId, heartbeat: Heartbeat) -> Answer<'_, HeartbeatAnswer>;

    /// What the node is to do beyond its heartbeats' answers, waiting up to `wait_sec` for something newer than version
    /// `after`. This is how a cancel reaches a process at once. Needs a tokio runtime with its timer.
    fn orders(&self, node: NodeId, after: u64, wait_sec: u32) -> Answer<'_, Orders>;

    /// Cordons, drains or resumes a node.
    fn node_intent(&self, node: NodeId, intent: NodeIntent) -> Answer<'_, Node>;

    /// Forgets a node. Refused while it has attempts, unless its lease has passed.
    fn remove_node(&self, node: NodeId) -> Answer<'_, ()>;

    /// One node.
    fn node(&self, node: NodeId) -> Answer<'_, Node>;

    /// All nodes, in order of registration.
    fn nodes(&self) -> Answer<'_, Vec<Node>>;

    /// Cancels, retries, pauses, resumes or holds a job; the job afterwards.
    fn control(&self, job: JobRef, control: Control) -> Answer<'_, Job>;

    /// Changes a job that waits; the job afterwards.
    fn edit(&self, job: JobRef, edit: JobEdit) -> Answer<'_, Job>;

    /// Does what is due: lost nodes, stale attempts, pauses that are over, retention. To be called every second or so.
    fn sweep(&self) -> Answer<'_, Swept>;

    /// One job with its history and attempts.
    fn get(&self, job: JobRef) -> Answer<'_, Job>;

    /// A page of jobs, newest first.
    fn list(&self, filter: JobFilter, paging: Paging) -> Answer<'_, JobList>;

    /// Events after this number, oldest first. Numbers may skip; within a job `n` does not. [`StoreError::Gone`] when
    /// events after the number were already forgotten: list the jobs again.
    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<JobEvent>>;

    /// Number of the newest event; changes with every commit that makes one.
    fn watch(&self) -> tokio::sync::watch::Receiver<i64>;

    /// Why a job waits and when it may start.
    fn explain(&self, job: JobRef) -> Answer<'_, Explanation>;

    /// Figures of the whole queue.
    fn stats(&self) -> Answer<'_, Stats>;

    /// Sets how many jobs a tenant may run at once.
    fn set_tenant(&self, name: String, max_running: Option<u32>) -> Answer<'_, Tenant>;

    /// All tenants.
    fn tenants(&self) -> Answer<'_, Vec<Tenant>>;

    /// Writes a copy of the database to a new file while everything goes on; its size in bytes.
    fn backup(&self, to: PathBuf) -> Answer<'_, u64>;

    /// How the store is.
    fn health(&self) -> Answer<'_, Health>;
}
