//! The way to a scheduler: which one is meant ([`target`]), what is remembered of it ([`book`]), whom to trust
//! ([`trust`]), the connection itself ([`Client`]), its stream of events ([`events`]), and what can go wrong ([`error`]).
//!
//! **Refuses** to talk to a scheduler whose certificate it has no reason to trust, and to show a key to any other address
//! than the one the key was kept for.

pub mod args;
pub mod book;
pub mod contexts;
pub mod error;
pub mod events;
pub mod login;
pub mod target;
pub mod trust;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use ffrtmp_api::{ErrorCode, Problem};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use args::Remote;
use error::ClientError;
use target::Target;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may take. A batch waits for one commit, a backup for the disk.
const REQUEST: Duration = Duration::from_mins(2);
/// How long nothing may arrive: three of the keep-alives of a stream, which come every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// Tries after the first, where a retry can do nothing twice.
const RETRIES: usize = 3;

/// A connection to a scheduler.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    target: Target,
}

/// The client of HTTP that trusts whom [`trust`] says.
fn http(target: &Target) -> Result<reqwest::Client, ClientError> {
    ffrtmp_governor::tls::use_ring();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("ffrtmp/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        // A key is for the address that was named, not for where that sends us.
        .redirect(reqwest::redirect::Policy::none());
    let builder = match &target.ca {
        Some(pem) => builder.tls_certs_only(trust::certificates(pem)?),
        None => builder,
    };
    builder
        .build()
        .map_err(|source| ClientError::Setup(source.without_url()))
}

impl Client {
    /// Finds out which scheduler is meant. Nothing is sent yet.
    pub fn open(remote: &Remote) -> Result<Self, ClientError> {
        Self::of(Target::resolve(remote, |name| std::env::var(name).ok())?)
    }

    /// A connection to that one.
    pub fn of(target: Target) -> Result<Self, ClientError> {
        Ok(Self {
            http: http(&target)?,
            target,
        })
    }

    /// Which one it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The address of a route; every part of the path is escaped.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.target.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.target.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Asks. Tried again where the network or the scheduler is busy.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let once = || async { self.answer(self.request(Method::GET, path).query(query)).await };
        self.patiently(once).await
    }

    /// Orders something that may be done twice without harm, or carries a key that makes it so.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        key: &str,
    ) -> Result<T, ClientError> {
        let once = || async {
            let request = self.request(Method::POST, path).header("idempotency-key", key);
            self.answer(request.json(body)).await
        };
        self.patiently(once).await
    }

    /// Orders something, once.
    pub async fn order<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let request = self.request(method, path);
        self.answer(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Orders something that has no answer but that it was done.
    pub async fn delete(&self, path: &[&str]) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, path).timeout(REQUEST);
        self.sent(request).await.map(|_| ())
    }

    async fn patiently<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        once: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        once.retry(
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(200))
                .with_max_times(RETRIES)
                .with_jitter(),
        )
        .when(ClientError::passing)
        .adjust(|error, delay| delay.map(|delay| error.wait().map_or(delay, |wait| wait.max(delay))))
        .await
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.sent(request.timeout(REQUEST)).await?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|source| self.lost(source))?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Answer {
            url: self.target.shown(),
            status,
            source,
        })
    }

    /// Sends, and takes a refusal apart.
    async fn sent(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.lost(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|source| self.lost(source))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Refused {
                problem: Box::new(problem),
                keyed: self.target.key.is_some(),
            }),
            Err(_) => Err(ClientError::Stranger {
                url: self.target.shown(),
                status,
            }),
        }
    }

    fn lost(&self, source: reqwest::Error) -> ClientError {
        ClientError::lost(self.target.shown(), source)
    }
}

/// True for a refusal of this kind.
pub fn is_refusal(error: &ClientError, code: ErrorCode) -> bool {
    matches!(error, ClientError::Refused { problem, .. } if problem.code == code)
}

/// A key that makes a retry of a submission harmless.
pub fn new_key() -> String {
    data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>())
}
