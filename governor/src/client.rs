//! Talks to a daemon, or to an engine in this process, with the same words.
//!
//! A daemon is asked over its Unix socket; there are no retries, because the socket is local: what fails once fails
//! for a reason that the user should see. Refuses to start anything.

mod daemon;
mod stream;

#[cfg(test)]
mod tests;

pub use daemon::{ConnectError, DaemonClient};
pub use stream::{EventStream, Watch};

use crate::control::peer::ourselves;
use crate::control::session::{self, Session};
use crate::control::types::{
    AttachRequest, ErrorCode, Explain, JobKey, JobView, ReleaseRequest, Released, Reloaded, RequestError,
    SessionRules, Status,
};
use crate::engine::handle::EngineHandle;

/// Whoever governs this machine for us. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Governor {
    /// A daemon, over its socket.
    Daemon(DaemonClient),
    /// An engine in this process.
    Local(EngineHandle),
}

impl Governor {
    /// The state of the governor.
    pub async fn status(&self) -> Result<Status, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.get(&["status"], &[]).await,
            Self::Local(engine) => engine.status().await,
        }
    }

    /// Live jobs; with `all` past ones too, as far as they are remembered.
    pub async fn jobs(&self, all: bool) -> Result<Vec<JobView>, RequestError> {
        match self {
            Self::Daemon(daemon) => {
                let query: &[_] = if all { &[("all", "1")] } else { &[] };
                daemon.get(&["jobs"], query).await
            }
            Self::Local(engine) => {
                let mut jobs = engine.jobs().await?;
                if !all {
                    jobs.retain(|job| job.live > 0 || job.report.end_time.is_none());
                }
                Ok(jobs)
            }
        }
    }

    /// Takes a process under governance and answers once it is placed.
    pub async fn attach(&self, request: AttachRequest) -> Result<JobView, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.post("attach", &request).await,
            Self::Local(engine) => engine.attach(request, ourselves()).await,
        }
    }

    /// Answers when the job's first process has ended, with its report.
    pub async fn wait(&self, key: JobKey) -> Result<JobView, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.get(&["jobs", &key.to_string(), "wait"], &[]).await,
            Self::Local(engine) => engine.wait(key).await,
        }
    }

    /// How a process was judged.
    pub async fn explain(&self, pid: u32) -> Result<Explain, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.get(&["explain", &pid.to_string()], &[]).await,
            Self::Local(engine) => engine.explain(pid).await,
        }
    }

    /// Undoes placements.
    pub async fn release(&self, request: ReleaseRequest) -> Result<Vec<Released>, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.post("release", &request).await,
            Self::Local(engine) => engine.release(request, ourselves()).await,
        }
    }

    /// Makes the daemon read its configuration again.
    pub async fn reload(&self) -> Result<Reloaded, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.post("reload", &()).await,
            Self::Local(_) => Err(RequestError::new(
                ErrorCode::Invalid,
                "no daemon runs, so there is no configuration to reload",
                "start ffrtmp-governor first",
            )),
        }
    }

    /// Events from now on.
    pub async fn events(&self) -> Result<EventStream, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.events().await,
            Self::Local(engine) => Ok(EventStream::local(session::listen(engine).await?)),
        }
    }

    /// Puts rules in force for as long as the answer is kept.
    pub async fn open_watch(&self, rules: SessionRules) -> Result<Watch, RequestError> {
        match self {
            Self::Daemon(daemon) => daemon.open_watch(&rules).await,
            Self::Local(engine) => Ok(Watch::local(Session::open(engine, &rules).await?)),
        }
    }
}
