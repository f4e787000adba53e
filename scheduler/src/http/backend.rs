//! What the routes need of the queue: whole commands in the words of the wire. The daemon gives the real one; the tests of
//! the routes give one of a few lines.

use std::future::Future;
use std::pin::Pin;

use ffrtmp_api::{
    AttemptKey, AttemptReport, ClaimRequest, ClaimResponse, Explanation, Heartbeat, HeartbeatAnswer, ItemOutcome, Job,
    JobEdit, JobEvent, JobFilter, JobList, JobRef, JobRequest, Node, NodeId, NodeInfo, NodeIntent, Paging, Problem,
    ReportAnswer, Stats,
};
use tokio::sync::watch;

/// The answer of the queue, some day.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// What is done to a job by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// End it.
    Cancel,
    /// Freeze its process, or keep it from being given out.
    Pause,
    /// Undo pause and hold.
    Resume,
    /// Keep it from being given out.
    Hold,
    /// Queue a job that has ended once more.
    Retry,
}

/// The queue.
pub trait Backend: Send + Sync {
    /// Takes jobs in one commit; the answers are in their order, and durable.
    fn submit(&self, jobs: Vec<JobRequest>) -> Reply<'_, Vec<ItemOutcome>>;
    /// One job with its history and attempts.
    fn job(&self, job: JobRef) -> Reply<'_, Job>;
    /// A page of jobs, newest first.
    fn jobs(&self, filter: JobFilter, paging: Paging) -> Reply<'_, JobList>;
    /// Does something to a job; gives it as it is then.
    fn act(&self, job: JobRef, action: JobAction) -> Reply<'_, Job>;
    /// Changes a job that waits.
    fn edit(&self, job: JobRef, edit: JobEdit) -> Reply<'_, Job>;
    /// Why a job waits.
    fn explain(&self, job: JobRef) -> Reply<'_, Explanation>;
    /// All nodes.
    fn nodes(&self) -> Reply<'_, Vec<Node>>;
    /// One node.
    fn node(&self, node: NodeId) -> Reply<'_, Node>;
    /// Takes a node in, or what it says of itself anew. True when it was not known.
    fn register(&self, node: NodeId, info: NodeInfo) -> Reply<'_, (Node, bool)>;
    /// What an operator wants of a node.
    fn intend(&self, node: NodeId, intent: NodeIntent) -> Reply<'_, Node>;
    /// Forgets a node that has no work.
    fn remove(&self, node: NodeId) -> Reply<'_, ()>;
    /// Waits for work for a node, as long as the request says. Dropped when the node hangs up.
    fn claim(&self, node: NodeId, request: ClaimRequest) -> Reply<'_, ClaimResponse>;
    /// A node's regular call.
    fn heartbeat(&self, node: NodeId, beat: Heartbeat) -> Reply<'_, HeartbeatAnswer>;
    /// A node's word on one attempt. A stale one is a problem with its advice.
    fn report(&self, node: NodeId, attempt: AttemptKey, report: AttemptReport) -> Reply<'_, ReportAnswer>;
    /// Events behind a number, oldest first, of one job or of all.
    fn events(&self, after: i64, job: Option<JobRef>, limit: u32) -> Reply<'_, Vec<JobEvent>>;
    /// Number of the last event; changes with each.
    fn event_clock(&self) -> watch::Receiver<i64>;
    /// Figures of the whole queue.
    fn stats(&self) -> Reply<'_, Stats>;
    /// Whether the queue answers and writes; the error says why not.
    fn health(&self) -> Reply<'_, ()>;
    /// Stops the sweeps and closes the database, when nobody asks any more.
    fn close(&self) -> Reply<'_, ()>;
}
