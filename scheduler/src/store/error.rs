//! Why a command was not done.

use ffrtmp_api::{ErrorCode, FieldError, JobState, Problem, StaleAdvice};

/// Why a command was not done. Except where a variant says otherwise, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such job.
    #[error("no job {0}")]
    NoJob(String),
    /// There is no such node.
    #[error("node {0} is not registered; register it first")]
    NoNode(String),
    /// The job's state does not allow it.
    #[error("job {job} is {state}; {hint}")]
    WrongState {
        /// The job.
        job: String,
        /// Where it stands.
        state: JobState,
        /// When it would be allowed.
        hint: &'static str,
    },
    /// Something else does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The attempt is over.
    #[error("attempt is no longer in force: {why}; {advice} it")]
    Stale {
        /// What to do with it.
        advice: StaleAdvice,
        /// How it came to be over.
        why: String,
    },
    /// A field cannot be meant.
    #[error("refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldError>),
    /// What was asked for was already forgotten.
    #[error("events up to {0} were already forgotten; list the jobs again and go on from the newest event")]
    Gone(i64),
    /// The disk is nearly full.
    #[error(
        "the disk of the database is nearly full; submissions are refused until space is freed, running jobs go on"
    )]
    Full,
    /// Too many commands wait.
    #[error("the scheduler has too many requests waiting; try again in a second")]
    Busy,
    /// The store is being closed.
    #[error("the scheduler is shutting down")]
    Closed,
    /// The database failed. What the command did is undone.
    #[error("{step}: {text}")]
    Database {
        /// What was tried.
        step: &'static str,
        /// What SQLite said.
        text: String,
    },
    /// A row holds what this program never writes.
    #[error("the database holds {0}")]
    Damaged(String),
}

impl StoreError {
    /// Its code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoJob(_) | Self::NoNode(_) => ErrorCode::NotFound,
            Self::WrongState { .. } | Self::Conflict(_) => ErrorCode::Conflict,
            Self::Stale { .. } => ErrorCode::StaleAttempt,
            Self::Invalid(_) => ErrorCode::Invalid,
            Self::Gone(_) => ErrorCode::Gone,
            Self::Full => ErrorCode::StorageFull,
            Self::Busy | Self::Closed => ErrorCode::Unavailable,
            Self::Database { .. } | Self::Damaged(_) => ErrorCode::Internal,
        }
    }

    /// The error as the client gets it. What the database said stays here: it is for the log.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Invalid(errors) => Problem::invalid(errors.clone()),
            Self::Stale { advice, .. } => Problem {
                advice: Some(*advice),
                ..Problem::new(self.code(), self.to_string())
            },
            Self::Database { .. } | Self::Damaged(_) => {
                Problem::new(self.code(), "the scheduler's database failed; its log says why")
            }
            _ => Problem::new(self.code(), self.to_string()),
        }
    }

    /// True when the database itself failed, so that a part of the command may have been done and is to be undone.
    pub(crate) fn is_database(&self) -> bool {
        matches!(self, Self::Database { .. } | Self::Damaged(_) | Self::Full)
    }
}

/// Gives a failing database call its name.
pub(crate) trait Step<T> {
    /// Names the step that failed.
    fn step(self, step: &'static str) -> Result<T, StoreError>;
}

impl<T> Step<T> for Result<T, rusqlite::Error> {
    fn step(self, step: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            _ => StoreError::Database {
                step,
                text: error.to_string(),
            },
        })
    }
}

impl<T> Step<T> for Result<T, serde_json::Error> {
    fn step(self, step: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Damaged(format!("unreadable JSON ({step}): {error}")))
    }
}
