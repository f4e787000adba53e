//! Who governs: a daemon, an engine in this process, or nobody but the parent itself. The commands know only
//! [`Backend`]; this file alone knows which one stands behind it.
//!
//! Choice, in this order: the daemon on the socket; the engine in-process, for root; [`Plain`], which says why.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_api::Limits;
use ffrtmp_governor::client::{DaemonClient, EventStream, Governor};
use ffrtmp_governor::control::types::{
    AttachRequest, ErrorCode, Explain, JobEvent, JobKey, JobView, ReleaseRequest, Released, RequestError,
    SessionRules, Status,
};
use ffrtmp_governor::core::rule::RuleSet;
use ffrtmp_governor::host::file::chain;
use tokio::sync::mpsc;

use crate::args::Global;
use crate::failure::Failure;
use crate::local::{self, LocalError};
use crate::plain::Plain;

/// Where a daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ffrtmp/governor.sock";

/// How many events a slow terminal may be behind before some are lost (and counted by the sender).
pub const EVENTS_BUFFERED: usize = 1024;

/// What commands ask of a governor. The methods mean what those of `EngineHandle` mean.
pub trait Backend {
    /// State of the governor.
    fn status(&self) -> impl Future<Output = Result<Status, RequestError>>;
    /// Live and recently closed jobs.
    fn jobs(&self) -> impl Future<Output = Result<Vec<JobView>, RequestError>>;
    /// Takes a process under governance; answered once it is placed, or could not be.
    fn attach(&self, request: AttachRequest) -> impl Future<Output = Result<JobView, RequestError>>;
    /// Answered when the job's first process has ended.
    fn wait(&self, key: JobKey) -> impl Future<Output = Result<JobView, RequestError>>;
    /// How a process was judged.
    fn explain(&self, pid: u32) -> impl Future<Output = Result<Explain, RequestError>>;
    /// Undoes placements.
    fn release(&self, request: ReleaseRequest) -> impl Future<Output = Result<Vec<Released>, RequestError>>;
    /// Governs by these rules too, until the receiver is dropped, and tells what happens.
    fn open_watch(
        &self,
        order: WatchOrder,
    ) -> impl Future<Output = Result<mpsc::Receiver<JobEvent>, RequestError>>;
}

/// What a `watch` wants governed.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchOrder {
    /// Rules in the form of `watch-config.yaml`: the file's text, or the flags written as such a file.
    pub rules: String,
    /// Where that text comes from, for messages.
    pub origin: String,
    /// Programs named by flags; empty when a file has the rules.
    pub targets: Vec<String>,
    /// Limits named by flags.
    pub limits: Limits,
    /// How often /proc is read where nothing better is to be had.
    pub scan_interval: Duration,
    /// Ledger to go on with; `None` keeps none (a daemon keeps its own).
    pub ledger: Option<PathBuf>,
}

/// What a command needs, so that an engine is not started for a question it cannot answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Governs one process.
    Job,
    /// Governs what appears.
    Watch {
        /// Ledger to go on with; `None` keeps none.
        ledger: Option<PathBuf>,
        /// How often a placement that failed is tried again.
        placement_retries: u32,
    },
    /// Asks what a daemon knows.
    Daemon,
    /// Describes the machine.
    Probe,
}

/// Who governs.
#[derive(Debug)]
pub enum Connected {
    /// A daemon, or an engine in this process.
    Governor(Governor),
    /// Nobody but the parent itself.
    Plain(Plain),
}

impl Connected {
    /// Picks who governs.
    pub async fn open(global: &Global, need: &Need) -> Result<Self, Failure> {
        if global.plain {
            return Ok(Self::Plain(Plain::new("--plain was given")));
        }
        let socket = global.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into());
        if !global.no_daemon {
            match DaemonClient::connect(&socket).await {
                Ok(daemon) => return Ok(Self::Governor(Governor::Daemon(daemon))),
                Err(error) if !error.is_no_daemon() => return Err(Failure::connect(&socket, error)),
                // A watch listens there itself.
                Err(_) if global.socket.is_none() || matches!(need, Need::Watch { .. }) => {}
                Err(_) => return Err(Failure::no_daemon(&socket)),
            }
        }
        if *need == Need::Daemon {
            let why = if global.no_daemon {
                "--no-daemon was given"
            } else {
                "no daemon runs"
            };
            return Ok(Self::Plain(Plain::new(why)));
        }
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self::Plain(Plain::delegated(
                "no daemon, and only root may load the kernel's programs",
            )));
        }
        match local::start(need, &socket) {
            Ok(governor) => Ok(Self::Governor(governor)),
            Err(LocalError::Engine(error)) if !matches!(need, Need::Watch { .. }) => {
                Ok(Self::Plain(Plain::new(&chain(&error))))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Connected {
    /// Events from now on; only a daemon has jobs of others to tell of.
    pub async fn events(&self) -> Result<EventStream, RequestError> {
        match self {
            Self::Governor(governor) => governor.events().await,
            Self::Plain(_) => Err(RequestError::new(
                ErrorCode::Gone,
                "no daemon runs, so there are no events",
                "start ffrtmp-governor first",
            )),
        }
    }
}

impl Connected {
    /// Ends an engine of this process; workloads and their limits stay.
    pub async fn close(self) {
        if let Self::Governor(Governor::Local(engine)) = self {
            engine.stop().await;
        }
    }
}

impl Backend for Connected {
    async fn status(&self) -> Result<Status, RequestError> {
        match self {
            Self::Governor(governor) => governor.status().await,
            Self::Plain(plain) => plain.status().await,
        }
    }

    async fn jobs(&self) -> Result<Vec<JobView>, RequestError> {
        match self {
            Self::Governor(governor) => governor.jobs(true).await,
            Self::Plain(plain) => plain.jobs().await,
        }
    }

    async fn attach(&self, request: AttachRequest) -> Result<JobView, RequestError> {
        match self {
            Self::Governor(governor) => governor.attach(request).await,
            Self::Plain(plain) => plain.attach(request).await,
        }
    }

    async fn wait(&self, key: JobKey) -> Result<JobView, RequestError> {
        match self {
            Self::Governor(governor) => governor.wait(key).await,
            Self::Plain(plain) => plain.wait(key).await,
        }
    }

    async fn explain(&self, pid: u32) -> Result<Explain, RequestError> {
        match self {
            Self::Governor(governor) => governor.explain(pid).await,
            Self::Plain(plain) => plain.explain(pid).await,
        }
    }

    async fn release(&self, request: ReleaseRequest) -> Result<Vec<Released>, RequestError> {
        match self {
            Self::Governor(governor) => governor.release(request).await,
            Self::Plain(plain) => plain.release(request).await,
        }
    }

    async fn open_watch(&self, order: WatchOrder) -> Result<mpsc::Receiver<JobEvent>, RequestError> {
        match self {
            Self::Governor(governor) => watch(governor, order).await,
            Self::Plain(plain) => plain.open_watch(order).await,
        }
    }
}

async fn watch(governor: &Governor, order: WatchOrder) -> Result<mpsc::Receiver<JobEvent>, RequestError> {
    let file = order.targets.is_empty();
    let rules = SessionRules {
        targets: order.targets,
        limits: order.limits,
        yaml: file.then_some(order.rules),
        origin: file.then_some(order.origin),
    };
    let mut session = governor.open_watch(rules).await?;
    let (sender, receiver) = mpsc::channel(EVENTS_BUFFERED);
    tokio::spawn(async move {
        while let Some(Ok(event)) = session.events.next().await {
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Reads rules in the form of `watch-config.yaml`; `origin` names them in messages.
pub fn read_rules(text: &str, origin: &str) -> Result<RuleSet, RequestError> {
    ffrtmp_governor::config::parse(origin, text)
        .map(|config| config.rules)
        .map_err(|error| RequestError {
            code: ErrorCode::Invalid,
            message: error.to_string(),
            hint: None,
        })
}
