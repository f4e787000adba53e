//! Why a command failed, in words that say what to do, and with the exit status that tells scripts.

use std::path::{Path, PathBuf};

use ffrtmp_governor::client::ConnectError;
use ffrtmp_governor::control::types::{ErrorCode, RequestError};
use ffrtmp_governor::host::file::chain;
use ffrtmp_governor::host::spawn::SpawnError;

use crate::client::error::ClientError;
use crate::exit::ExitCode;
use crate::local::LocalError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The governor refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The process is gone, or never was.
    #[error("process {0} does not exist")]
    NoSuchProcess(u32),
    /// `attach` was told to attach to itself.
    #[error("process {0} is this ffrtmp itself")]
    Ourselves(u32),
    /// Nobody answers on the socket.
    #[error("no governor answers on {}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is there and cannot be used.
    #[error("connect to the governor on {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: ConnectError,
    },
    /// No engine could be started here.
    #[error("start the governor")]
    Local(#[from] LocalError),
    /// The command of `run` was not found.
    #[error("command not found: {0}")]
    NotFound(String),
    /// The command of `run` cannot be executed.
    #[error("cannot execute {what}")]
    NotExecutable {
        /// The command.
        what: String,
        /// The kernel's reason, where it was asked.
        source: Option<std::io::Error>,
    },
    /// The directory of `--workdir` cannot be entered.
    #[error("--workdir {}: cannot be entered", path.display())]
    Workdir {
        /// The directory.
        path: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The command could not be started.
    #[error("start the command")]
    Spawn(#[source] SpawnError),
    /// A file cannot be read or written.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The scheduler refused, or could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was typed, or written into a file of jobs, cannot be meant; each line names a flag or a place.
    #[error("{0}")]
    Typed(String),
    /// Something else on the machine failed.
    #[error("{step}")]
    Machine {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Failure {
    /// Nobody answers on the socket.
    pub fn no_daemon(path: &Path) -> Self {
        Self::NoDaemon {
            path: path.to_owned(),
        }
    }

    /// The socket is there and cannot be used.
    pub fn connect(path: &Path, source: ConnectError) -> Self {
        Self::Connect {
            path: path.to_owned(),
            source,
        }
    }

    /// A step that failed for the kernel's reason.
    pub fn machine(step: &'static str) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |errno| Self::Machine {
            step,
            source: errno.into(),
        }
    }

    /// The status for the shell. `own` is what the command returns for its own failures.
    pub fn exit(&self, own: ExitCode) -> ExitCode {
        match self {
            Self::NotFound(_) => ExitCode::NotFound,
            Self::NotExecutable { .. } => ExitCode::NotExecutable,
            Self::Client(error) => error.exit(),
            // `run` and `attach` have no status of their own for a wrong command line; see `ExitCode::Usage`.
            Self::Typed(_) if own == ExitCode::Own => ExitCode::Own,
            Self::Typed(_) => ExitCode::Usage,
            Self::Request(_)
            | Self::NoSuchProcess(_)
            | Self::Ourselves(_)
            | Self::NoDaemon { .. }
            | Self::Connect { .. }
            | Self::Local(_)
            | Self::Workdir { .. }
            | Self::Spawn(_)
            | Self::File { .. }
            | Self::Machine { .. } => own,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Request(refused) => refused.hint.clone(),
            Self::Client(error) => error.hint(),
            Self::NoSuchProcess(pid) => Some(format!(
                "`kill -0 {pid}` tells whether it lives; it may have ended"
            )),
            Self::Ourselves(_) => Some("name the process to govern".to_owned()),
            Self::NoDaemon { .. } => Some(
                "start ffrtmp-governor, or leave --socket and FFRTMP_SOCKET out to govern from here"
                    .to_owned(),
            ),
            Self::NotFound(_) => {
                Some("check the name, PATH, and that `--` stands before the command".to_owned())
            }
            Self::NotExecutable { .. } => {
                Some("make it executable with `chmod +x`, or name its interpreter".to_owned())
            }
            Self::Workdir { .. } => {
                Some("make the directory, or name one that this user may enter".to_owned())
            }
            Self::File { .. } => Some("check the path, and whether this user may open it".to_owned()),
            Self::Connect { .. }
            | Self::Local(_)
            | Self::Spawn(_)
            | Self::Typed(_)
            | Self::Machine { .. } => None,
        }
    }

    /// The message and all its causes on one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

impl From<std::io::Error> for Failure {
    fn from(source: std::io::Error) -> Self {
        Self::Machine {
            step: "write the result",
            source,
        }
    }
}

/// A refusal that concerns one pid; a dead one has the same words everywhere.
pub fn about(pid: u32) -> impl FnOnce(RequestError) -> Failure {
    move |refused| match refused.code {
        ErrorCode::NoSuchProcess => Failure::NoSuchProcess(pid),
        ErrorCode::NoSuchJob
        | ErrorCode::NotAllowed
        | ErrorCode::NotGovernable
        | ErrorCode::JobIdInUse
        | ErrorCode::Invalid
        | ErrorCode::Gone
        | ErrorCode::Failed => Failure::Request(refused),
    }
}
