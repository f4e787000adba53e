//! Errors as answers: every refusal leaves as `application/problem+json`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ffrtmp_api::{ErrorCode, FieldError, Problem};

use crate::store::StoreError;

/// The media type of RFC 9457.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A [`Problem`] that can be answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub Problem);

/// What a handler gives.
pub type Answer<T> = Result<T, Refused>;

impl Refused {
    /// A problem of this kind.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    /// One field that was refused.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Problem::invalid(vec![FieldError::new(field, message)]))
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// What the database said goes to the log; the client gets the kind of it.
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        if error.code() == ErrorCode::Internal {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        }
        Self(error.problem())
    }
}

impl From<FieldError> for Refused {
    fn from(error: FieldError) -> Self {
        Self(Problem::invalid(vec![error]))
    }
}

impl From<Vec<FieldError>> for Refused {
    fn from(errors: Vec<FieldError>) -> Self {
        Self(Problem::invalid(errors))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (code, wait) = (problem.code, problem.retry_after_sec);
        let mut answer = (status, Json(problem)).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if let Some(seconds) = wait {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if code == ErrorCode::Unauthorized {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"ffrtmp\""),
            );
        }
        answer
    }
}
