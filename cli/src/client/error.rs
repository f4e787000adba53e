//! What can go wrong between here and a scheduler, in words that say what to do.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_api::{ErrorCode, Problem};

use crate::exit::ExitCode;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be meant.
    #[error("{origin} `{text}` is no address of a scheduler: {why}")]
    Url {
        /// Where it was written: a flag, a variable or a context.
        origin: String,
        /// What was written.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// The key cannot be one.
    #[error("the key of {0} holds characters that no key has")]
    Key(String),
    /// The file of contexts cannot be used.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The file of contexts says what cannot be meant.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong.
        why: String,
    },
    /// There is no context of this name.
    #[error("there is no context `{name}`; known are: {known}")]
    NoContext {
        /// The name.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// The certificate of the authority cannot be read.
    #[error("the authority's certificate cannot be used: {0}")]
    Ca(String),
    /// The authority is another than was named.
    #[error("the scheduler at {url} shows an authority with the fingerprint {found}, not {wanted}")]
    Fingerprint {
        /// The address.
        url: String,
        /// The fingerprint it has.
        found: String,
        /// The fingerprint that was asked for.
        wanted: String,
    },
    /// The text is no fingerprint.
    #[error(
        "`{0}` is no fingerprint: write the 64 hexadecimal digits that `ffrtmp-scheduler fingerprint` prints"
    )]
    NoFingerprint(String),
    /// No client of HTTP could be made.
    #[error("set up the connection")]
    Setup(#[source] reqwest::Error),
    /// Its certificate is not trusted.
    #[error("the certificate of {url} is not trusted")]
    Untrusted {
        /// The address.
        url: String,
        /// What TLS said.
        source: reqwest::Error,
    },
    /// Nobody answers, or the answer broke off.
    #[error("no answer from {url}")]
    NoAnswer {
        /// The address.
        url: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// A stream broke off, and could not be taken up again.
    #[error("the stream of events from {0} ended")]
    StreamEnded(String),
    /// The scheduler said no.
    #[error("{}", told(problem))]
    Refused {
        /// Why.
        problem: Box<Problem>,
        /// Whether a key was shown.
        keyed: bool,
    },
    /// Something answers that is no scheduler.
    #[error("{url} answered {status}, and not as a scheduler does")]
    Stranger {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer is not understood.
    #[error("the answer of {url} (status {status}) is not understood")]
    Answer {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// Where it differs.
        source: serde_json::Error,
    },
}

/// A problem in one line; fields that were refused are named. A scheduler's words are another machine's.
fn told(problem: &Problem) -> String {
    let text = match problem.errors.as_slice() {
        [] | [_] => problem.detail.clone(),
        many => {
            let fields: Vec<_> = many.iter().map(ToString::to_string).collect();
            format!("{}: {}", problem.detail, fields.join("; "))
        }
    };
    ffrtmp_governor::core::redact::harmless(&text)
}

impl ClientError {
    /// What the network said, told apart from a certificate that is not trusted.
    pub(super) fn lost(url: String, source: reqwest::Error) -> Self {
        let source = source.without_url();
        let mut cause: Option<&dyn Error> = Some(&source);
        while let Some(error) = cause {
            if certificate_fault(error) {
                return Self::Untrusted { url, source };
            }
            cause = error.source();
        }
        Self::NoAnswer { url, source }
    }

    /// True when the same request may succeed in a moment.
    pub(super) fn passing(&self) -> bool {
        match self {
            Self::NoAnswer { source, .. } => !source.is_timeout() && !source.is_builder(),
            Self::Refused { problem, .. } => {
                matches!(problem.code, ErrorCode::RateLimited | ErrorCode::Unavailable)
            }
            _ => false,
        }
    }

    /// How long the scheduler wants us to wait; never longer than a person would.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { problem, .. } => problem
                .retry_after_sec
                .map(|seconds| Duration::from_secs(u64::from(seconds.min(10)))),
            _ => None,
        }
    }

    /// The status for the shell.
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Url { .. }
            | Self::Key(_)
            | Self::Content { .. }
            | Self::NoContext { .. }
            | Self::NoFingerprint(_) => ExitCode::Usage,
            Self::File { .. } | Self::Ca(_) | Self::Setup(_) | Self::Answer { .. } => ExitCode::Failure,
            Self::Fingerprint { .. }
            | Self::Untrusted { .. }
            | Self::NoAnswer { .. }
            | Self::StreamEnded(_)
            | Self::Stranger { .. } => ExitCode::Unreachable,
            Self::Refused { problem, .. } => match problem.code {
                ErrorCode::Unauthorized | ErrorCode::Forbidden => ExitCode::Denied,
                ErrorCode::NotFound => ExitCode::Missing,
                ErrorCode::Conflict | ErrorCode::StaleAttempt | ErrorCode::KeyReused => ExitCode::Conflict,
                ErrorCode::RateLimited | ErrorCode::StorageFull | ErrorCode::Unavailable => ExitCode::Busy,
                ErrorCode::Invalid | ErrorCode::Gone | ErrorCode::TooLarge | ErrorCode::Internal => {
                    ExitCode::Failure
                }
            },
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Url { .. } => "write for instance https://scheduler.example:8080",
            Self::Untrusted { .. } => {
                "its own authority is trusted once: `ffrtmp login URL --fingerprint F`, with what `ffrtmp-scheduler fingerprint` \
                 prints on its machine, and its log at its start; or name the authority's file by --ca"
            }
            Self::NoAnswer { .. } => {
                "check the address (--master, MASTER_URL or the context of `ffrtmp context list`) and that \
                 ffrtmp-scheduler runs there"
            }
            Self::Stranger { .. } => "check the address and its port; 9090 is that of the metrics",
            Self::Fingerprint { .. } => {
                "somebody stands between you and the scheduler, or it got a new authority; ask its operator, who finds \
                 the fingerprint in the log"
            }
            Self::NoContext { .. } => "`ffrtmp login URL --name NAME` makes one",
            Self::Refused { problem, keyed } => match problem.code {
                ErrorCode::Unauthorized if !keyed => {
                    "give a key by --api-key, MASTER_API_KEY, or once and for all by `ffrtmp login`"
                }
                ErrorCode::Unauthorized => {
                    "the key is wrong, expired or revoked; `ffrtmp whoami` says which one is used"
                }
                ErrorCode::Forbidden => {
                    "an admin makes a key that may: `ffrtmp keys create NAME --scope submit,read,operate`"
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// TLS's word sits inside one or more errors of the kind that files have.
fn certificate_fault(error: &(dyn Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| certificate_fault(inner))
}
