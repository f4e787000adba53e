//! Errors on the wire: problem+json (RFC 9457) with a closed list of codes.

use serde::{Deserialize, Serialize};

use crate::queue::words;

/// One field that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field as the client wrote it, for instance `parameters.duration` or `jobs[3].queue`.
    pub field: String,
    /// What is wrong and what would be accepted.
    pub message: String,
}

impl FieldError {
    /// An error of that field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The same error, of a field inside `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            message: self.message,
        }
    }
}

/// What went wrong, in one word a program can test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The body or a parameter cannot be meant; `errors` names the fields.
    Invalid,
    /// No key, a wrong key, an expired or revoked one.
    Unauthorized,
    /// The key is known and may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The thing is in a state that does not allow this.
    Conflict,
    /// The write is of an attempt that is over; `advice` says what to do with it.
    StaleAttempt,
    /// The idempotency key was used with another body.
    KeyReused,
    /// The route has left; the detail names its successor.
    Gone,
    /// The body is too large.
    TooLarge,
    /// Too many requests; try again after `retry_after_sec`.
    RateLimited,
    /// The disk is nearly full: submissions are refused, running work goes on.
    StorageFull,
    /// The scheduler is busy, starting or draining; try again after `retry_after_sec`.
    Unavailable,
    /// A fault of ours.
    Internal,
}

words!(ErrorCode, "error code", {
    Invalid => "invalid", Unauthorized => "unauthorized", Forbidden => "forbidden", NotFound => "not_found",
    Conflict => "conflict", StaleAttempt => "stale_attempt", KeyReused => "key_reused", Gone => "gone",
    TooLarge => "too_large", RateLimited => "rate_limited", StorageFull => "storage_full",
    Unavailable => "unavailable", Internal => "internal",
});

impl ErrorCode {
    /// HTTP status of the code.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::StaleAttempt => 409,
            Self::Gone => 410,
            Self::TooLarge => 413,
            Self::KeyReused => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::StorageFull => 507,
        }
    }

    /// True when the same request may succeed later.
    pub fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::StorageFull)
    }
}

/// What a node does with an attempt whose write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StaleAdvice {
    /// End the process; the job was cancelled, timed out, or goes on elsewhere.
    Stop,
    /// The process has ended: delete its output and forget the attempt.
    Discard,
}

words!(StaleAdvice, "advice", { Stop => "stop", Discard => "discard" });

/// The body of every error, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// Stable name of the kind of error: `urn:ffrtmp:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in a few words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened here, and what to do.
    pub detail: String,
    /// The kind for programs.
    pub code: ErrorCode,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Seconds to wait before the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_sec: Option<u32>,
    /// What to do with a stale attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<StaleAdvice>,
    /// Fields that were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:ffrtmp:error:{code}"),
            title: code.as_str().replace('_', " "),
            status: code.status(),
            detail: detail.into(),
            code,
            retryable: code.retryable(),
            retry_after_sec: code.retryable().then_some(1),
            advice: None,
            errors: Vec::new(),
        }
    }

    /// The problem of refused fields.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.to_string(),
            _ => format!("{} fields were refused", errors.len()),
        };
        Self {
            errors,
            ..Self::new(ErrorCode::Invalid, detail)
        }
    }
}
