//! How other threads talk to the engine.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, TrySendError};

use ffrtmp_abi::ProcessKey;
use tokio::sync::{mpsc, oneshot};

use super::policy::PolicyOrder;
use crate::control::types::{
    AttachRequest, ErrorCode, Explain, JobEvent, JobKey, JobView, Peer, ReleaseRequest, Released,
    RequestError, Status,
};
use crate::core::rule::RuleSet;
use crate::host::gate::GateNews;
use crate::host::systemd::ScopeAnswer;

/// Where the engine sends its answer.
pub type Reply<T> = oneshot::Sender<T>;

/// What can be asked of the engine.
#[derive(Debug)]
pub enum Command {
    /// The engine's state.
    Status(Reply<Status>),
    /// Live jobs, and the last closed ones it still remembers.
    Jobs(Reply<Vec<JobView>>),
    /// Takes a process under governance; answered once it is placed (or could not be).
    Attach(Box<AttachRequest>, Peer, Reply<Result<JobView, RequestError>>),
    /// Answered when the job's first process has ended.
    Wait(JobKey, Reply<Result<JobView, RequestError>>),
    /// How a process was judged.
    Explain(u32, Reply<Result<Explain, RequestError>>),
    /// Undoes placements.
    Release(ReleaseRequest, Peer, Reply<Result<Vec<Released>, RequestError>>),
    /// Replaces the file's rules.
    ReplaceRules(Box<RuleSet>),
    /// Replaces the node's policy.
    ReplacePolicy(Box<PolicyOrder>),
    /// Adds a session's rules after the file's; answered with the session's number.
    OpenSession(Box<RuleSet>, Reply<u64>),
    /// Takes them away.
    CloseSession(u64),
    /// Events from now on. A subscriber that does not keep up loses events and is told how many by the gap counter.
    Subscribe(mpsc::Sender<JobEvent>),
    /// The ledger has these closed records on disk.
    Saved(Vec<JobKey>),
    /// systemd answered the order for a scope.
    ScopeAnswered(Box<ScopeAnswer>),
    /// What became of the exec gate.
    Gate(Box<GateNews>),
    /// Never answered, but dropped with the engine: how its end is noticed without asking for it.
    Mourn(Reply<()>),
    /// Ends the thread. Limits stay in force, workloads are not touched.
    Stop(Reply<()>),
}

/// Talks to the engine's thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: SyncSender<Command>,
    wake: Arc<OwnedFd>,
}

impl EngineHandle {
    /// Ties the queue to the eventfd that wakes the engine's epoll.
    pub(crate) fn new(commands: SyncSender<Command>, wake: Arc<OwnedFd>) -> Self {
        Self { commands, wake }
    }

    /// Queues a command and wakes the engine. False when the queue is full or the engine gone.
    pub fn send(&self, command: Command) -> bool {
        match self.commands.try_send(command) {
            Ok(()) => nix::unistd::write(self.wake.as_fd(), &1u64.to_ne_bytes()).is_ok(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// As [`Self::send`], but gives a command back that found the queue full; `Err(None)` when the engine is gone.
    pub(crate) fn offer(&self, command: Command) -> Result<(), Option<Command>> {
        match self.commands.try_send(command) {
            // A wake-up can fail only when the engine's descriptor is gone, and then so is the engine.
            Ok(()) => nix::unistd::write(self.wake.as_fd(), &1u64.to_ne_bytes())
                .map(drop)
                .map_err(|_gone| None),
            Err(TrySendError::Full(command)) => Err(Some(command)),
            Err(TrySendError::Disconnected(_)) => Err(None),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        if !self.send(command(reply)) {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())
    }

    /// The engine's state.
    pub async fn status(&self) -> Result<Status, RequestError> {
        self.ask(Command::Status).await
    }

    /// Live and recently closed jobs.
    pub async fn jobs(&self) -> Result<Vec<JobView>, RequestError> {
        self.ask(Command::Jobs).await
    }

    /// Takes a process under governance and answers once it is placed.
    pub async fn attach(&self, request: AttachRequest, peer: Peer) -> Result<JobView, RequestError> {
        self.ask(|reply| Command::Attach(Box::new(request), peer, reply))
            .await?
    }

    /// Answers when the job's first process has ended, with its report.
    pub async fn wait(&self, key: JobKey) -> Result<JobView, RequestError> {
        self.ask(|reply| Command::Wait(key, reply)).await?
    }

    /// How a process was judged.
    pub async fn explain(&self, pid: u32) -> Result<Explain, RequestError> {
        self.ask(|reply| Command::Explain(pid, reply)).await?
    }

    /// Undoes placements.
    pub async fn release(&self, request: ReleaseRequest, peer: Peer) -> Result<Vec<Released>, RequestError> {
        self.ask(|reply| Command::Release(request, peer, reply)).await?
    }

    /// Replaces the file's rules.
    pub fn replace_rules(&self, rules: RuleSet) -> bool {
        self.send(Command::ReplaceRules(Box::new(rules)))
    }

    /// Replaces the node's policy.
    pub fn replace_policy(&self, order: PolicyOrder) -> bool {
        self.send(Command::ReplacePolicy(Box::new(order)))
    }

    /// Adds a session's rules after the file's.
    pub async fn open_session(&self, rules: RuleSet) -> Result<u64, RequestError> {
        self.ask(|reply| Command::OpenSession(Box::new(rules), reply))
            .await
    }

    /// Takes a session's rules away.
    pub fn close_session(&self, session: u64) -> bool {
        self.send(Command::CloseSession(session))
    }

    /// Events from now on, at most `buffer` unread.
    pub fn subscribe(&self, buffer: usize) -> mpsc::Receiver<JobEvent> {
        let (sender, receiver) = mpsc::channel(buffer);
        self.send(Command::Subscribe(sender));
        receiver
    }

    /// Ready when the engine's thread has ended, for whatever reason.
    pub async fn ended(&self) {
        let _never_answered = self.ask(Command::Mourn).await;
    }

    /// Ends the engine's thread.
    pub async fn stop(&self) {
        let _answered = self.ask(Command::Stop).await.is_ok();
    }
}

/// What the engine hands to the ledger.
#[derive(Debug)]
pub struct SaveOrder {
    /// The record.
    pub job: Box<JobView>,
    /// Whether it is final; final ones are acknowledged with [`Command::Saved`] after their commit.
    pub closed: bool,
}

/// Asks the ledger which of the records that the kernel still holds are closed there.
pub struct Saved(pub AskSaved);

/// Which of these are closed on disk.
pub type AskSaved = Box<dyn FnOnce(&[ProcessKey]) -> Vec<ProcessKey> + Send>;

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Saved(..)")
    }
}

/// Queue to the ledger's thread. Unbounded on purpose: its length is bounded by the records the kernel map holds,
/// because a record leaves that map only after its commit.
pub type SaveQueue = Sender<SaveOrder>;

fn gone() -> RequestError {
    RequestError {
        code: ErrorCode::Gone,
        message: "the governor's engine has stopped or is overloaded".to_owned(),
        hint: Some("look at its log, then start it again; workloads run on meanwhile".to_owned()),
    }
}
