//! One delivery after the other: the request, what its answer means, and when to try again.

use std::path::Path;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use data_encoding::HEXLOWER;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode};
use ring::hmac;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::WebhookError;
use super::config::WebhookConfig;
use super::stats::WebhookStats;
use crate::control::types::Happened;

/// Number of the delivery; the same when it is sent again.
pub(super) const DELIVERY: &str = "ffrtmp-delivery";
/// Kind of the event.
pub(super) const EVENT: &str = "ffrtmp-event";
/// Events that this server has missed since the governor started.
pub(super) const LOST: &str = "ffrtmp-lost";
/// HMAC-SHA256 of the body, as `sha256=HEX`.
pub(super) const SIGNATURE: &str = "ffrtmp-signature";

/// An event on its way.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) what: Happened,
    pub(super) body: Vec<u8>,
}

/// What one try came to.
enum Tried {
    Delivered,
    /// No other try can help.
    Refused(StatusCode),
    /// The next may, after this long at the least.
    Failed(String, Duration),
}

/// Sends what is in the queue.
#[derive(Debug)]
pub(super) struct Deliverer {
    client: Client,
    config: WebhookConfig,
    key: Option<hmac::Key>,
    stats: WebhookStats,
    stopping: CancellationToken,
    /// The last delivery did not succeed, so that trouble is logged once and its end too.
    troubled: bool,
}

impl Deliverer {
    pub(super) fn new(
        config: WebhookConfig,
        stats: WebhookStats,
        stopping: CancellationToken,
    ) -> Result<Self, WebhookError> {
        let key = config.secret_file.as_ref().map(key_from).transpose()?;
        crate::tls::use_ring();
        let mut client = Client::builder();
        if let Some(path) = &config.ca_file {
            client = client.tls_certs_only(authorities(path)?);
        } else if config.url.scheme() == "http" {
            // A machine without a store of certificates can still reach such a server.
            client = client.tls_certs_only(Vec::new());
        }
        let client = client
            .user_agent(concat!("ffrtmp-governor/", env!("CARGO_PKG_VERSION")))
            .default_headers(config.headers.clone())
            .timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(WebhookError::Client)?;
        Ok(Self {
            client,
            config,
            key,
            stats,
            stopping,
            troubled: false,
        })
    }

    /// Until the queue ends. When the governor stops, the first event that cannot be delivered ends it too.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            if !self.deliver(&message).await {
                return;
            }
            self.stats.unqueue_one();
        }
    }

    /// False when it was left undelivered because the governor stops.
    async fn deliver(&mut self, message: &Message) -> bool {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(self.config.first_pause)
            .with_max_delay(WebhookConfig::LONGEST_PAUSE)
            .with_max_times(self.config.retries as usize)
            .with_jitter()
            .build();
        loop {
            let (why, at_least) = match self.try_once(message).await {
                Tried::Delivered => {
                    self.delivered();
                    return true;
                }
                Tried::Refused(status) => {
                    self.stats.refuse_one();
                    self.trouble(&format!(
                        "it refuses an event with {status}, which no retry helps"
                    ));
                    return true;
                }
                Tried::Failed(why, at_least) => (why, at_least),
            };
            self.trouble(&why);
            if self.stopping.is_cancelled() {
                return false;
            }
            let Some(pause) = pauses.next() else {
                self.stats.give_one_up();
                return true;
            };
            self.stats.retry_one();
            tokio::select! {
                () = tokio::time::sleep(pause.max(at_least)) => {}
                // One more try, at once.
                () = self.stopping.cancelled() => {}
            }
        }
    }

    async fn try_once(&self, message: &Message) -> Tried {
        let lost = self.stats.snapshot().lost();
        let mut request = self
            .client
            .post(self.config.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(EVENT, message.what.word())
            .header(DELIVERY, &message.id)
            .header(LOST, lost)
            .body(message.body.clone());
        if let Some(key) = &self.key {
            let tag = hmac::sign(key, &message.body);
            request = request.header(SIGNATURE, format!("sha256={}", HEXLOWER.encode(tag.as_ref())));
        }
        match request.send().await {
            Ok(response) => judged(&response),
            // Its text would show the whole address.
            Err(error) => Tried::Failed(reason(&error.without_url()), Duration::ZERO),
        }
    }

    fn delivered(&mut self) {
        self.stats.deliver_one();
        if std::mem::take(&mut self.troubled) {
            let figures = self.stats.snapshot();
            tracing::info!(
                lost = figures.lost(),
                waiting = figures.queued,
                "the webhook's server takes events again"
            );
        }
    }

    fn trouble(&mut self, why: &str) {
        if !std::mem::replace(&mut self.troubled, true) {
            let server = self.config.shown();
            tracing::warn!(server, "the webhook delivers nothing for now: {why}");
        }
    }
}

fn judged(response: &Response) -> Tried {
    let status = response.status();
    if status.is_success() {
        return Tried::Delivered;
    }
    let again = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
    if !again {
        return Tried::Refused(status);
    }
    let asked = response.headers().get(RETRY_AFTER);
    let seconds = asked.and_then(|value| value.to_str().ok()?.parse().ok());
    let pause = seconds.map_or(Duration::ZERO, Duration::from_secs);
    Tried::Failed(
        format!("its server answers {status}"),
        pause.min(WebhookConfig::LONGEST_PAUSE),
    )
}

fn reason(error: &reqwest::Error) -> String {
    crate::host::file::chain(error)
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, WebhookError> {
    let text = std::fs::read(path).map_err(|source| WebhookError::Authorities {
        path: path.to_owned(),
        source,
    })?;
    match Certificate::from_pem_bundle(&text) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(WebhookError::NoAuthority {
            path: path.to_owned(),
        }),
    }
}

fn key_from(path: &std::path::PathBuf) -> Result<hmac::Key, WebhookError> {
    let text = std::fs::read_to_string(path).map_err(|source| WebhookError::Secret {
        path: path.clone(),
        source,
    })?;
    // Editors end a file with a newline; nobody means it.
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(WebhookError::NoSecret { path: path.clone() });
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
}
