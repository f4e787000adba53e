//! HTTP to the daemon's socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::stream::{EventStream, Watch};
use crate::control::types::{BODY_MAX, ErrorCode, RequestError, SessionOpened, SessionRules};

/// Asks a daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DaemonClient {
    http: reqwest::Client,
    path: PathBuf,
}

/// Why no daemon answers.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket, or nobody listens at it.
    #[error("no governor listens at {}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// We may not use it.
    #[error("connecting to {} is not allowed; look at the permissions of its directory", path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// Anything else.
    #[error("connect to {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The HTTP client was not made.
    #[error("make an HTTP client")]
    Client(#[source] reqwest::Error),
}

impl ConnectError {
    /// True when no daemon runs, so that an engine of our own is the way to go.
    pub fn is_no_daemon(&self) -> bool {
        matches!(self, Self::NoDaemon { .. })
    }
}

impl DaemonClient {
    /// Looks whether somebody listens at the socket.
    pub async fn connect(path: &Path) -> Result<Self, ConnectError> {
        let path = path.to_path_buf();
        if let Err(source) = UnixStream::connect(&path).await {
            return Err(match source.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => ConnectError::NoDaemon { path },
                ErrorKind::PermissionDenied => ConnectError::NotAllowed { path },
                _ => ConnectError::Io { path, source },
            });
        }
        crate::tls::use_ring();
        let http = reqwest::Client::builder()
            .unix_socket(path.as_path())
            .no_proxy()
            // No certificate matters here; the machine's store is not read, and need not be there.
            .tls_certs_only(Vec::new())
            .build()
            .map_err(ConnectError::Client)?;
        Ok(Self { http, path })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, RequestError> {
        let mut url = self.url(segments)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.send(self.http.get(url)).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, RequestError> {
        let request = self.post_of(route, body)?;
        self.answer(self.send(request).await?).await
    }

    pub(super) async fn events(&self) -> Result<EventStream, RequestError> {
        let request = self.http.get(self.url(&["events"])?);
        Ok(EventStream::socket(self.send(request).await?))
    }

    pub(super) async fn open_watch(&self, rules: &SessionRules) -> Result<Watch, RequestError> {
        let request = self.post_of("sessions", rules)?;
        let mut events = EventStream::socket(self.send(request).await?);
        let SessionOpened { session } = events.first_line().await?;
        Ok(Watch { session, events })
    }

    /// A body that is too large is refused here: the daemon would hang up while it is still being written, and the
    /// user would read "broken pipe".
    fn post_of(&self, route: &str, body: &impl Serialize) -> Result<reqwest::RequestBuilder, RequestError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        if body.len() > BODY_MAX {
            return Err(RequestError::new(
                ErrorCode::Invalid,
                format!(
                    "the request has {} bytes, the daemon takes {BODY_MAX}",
                    body.len()
                ),
                "shorten the rules, or put them into the daemon's own configuration file",
            ));
        }
        let json = (reqwest::header::CONTENT_TYPE, "application/json");
        Ok(self
            .http
            .post(self.url(&[route])?)
            .header(json.0, json.1)
            .body(body))
    }

    /// The host is never looked up: every connection goes to the socket.
    fn url(&self, segments: &[&str]) -> Result<reqwest::Url, RequestError> {
        let mut url = reqwest::Url::parse("http://governor/v1").map_err(|error| self.broken(&error))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        Ok(url)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, RequestError> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        match response.json::<RequestError>().await {
            Ok(refusal) => Err(refusal),
            Err(_) => Err(RequestError::new(
                ErrorCode::Failed,
                format!("{} answered {status} without a reason", self.path.display()),
                "is it a governor that listens there, and of this version?",
            )),
        }
    }

    async fn answer<T: DeserializeOwned>(&self, response: reqwest::Response) -> Result<T, RequestError> {
        response.json().await.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &dyn std::error::Error) -> RequestError {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        RequestError::new(
            ErrorCode::Gone,
            format!("the daemon at {} did not answer: {text}", self.path.display()),
            "see whether ffrtmp-governor still runs; workloads run on either way",
        )
    }
}
