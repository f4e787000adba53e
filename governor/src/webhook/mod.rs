//! Events of jobs, sent to somebody's HTTP server: a POST each, in order, tried again while the server is away.
//!
//! ```text
//! engine ──try_send──▶ collector: wanted kinds, as JSON ──try_send──▶ queue ──▶ deliverer ──POST──▶ server
//! ```
//!
//! **Never in the way.** Engine and collector only ever try to send. A server that is slow or dead costs the queue's memory
//! and nothing else; what the queue does not take is dropped, counted, logged once, and told to the server in the header of
//! whatever reaches it next.
//!
//! **At least once** while the governor runs: a delivery whose answer was lost is sent again under the same number. What
//! waits when the governor stops is tried once more and then given up, with its number in the log; kill -9 loses it. Jobs
//! that ended while no governor ran are told of by the next one.
//!
//! **Refuses** to follow redirects, which could carry the secrets of the headers elsewhere, and to send again what the
//! server will never take (any 4xx but 408 and 429).

mod config;
mod deliver;
mod stats;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use config::WebhookConfig;
use deliver::{Deliverer, Message};
pub use stats::{WebhookSnapshot, WebhookStats};

use crate::control::types::JobEvent;

/// Events the engine may have sent that the collector has not looked at.
const UNREAD: usize = 4096;
/// Events that wait for the server. At about 3 KiB each this is 6 MiB at most.
const QUEUE: usize = 2048;
/// How long the last deliveries may take when the governor stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why there is no webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The key of the signature cannot be read.
    #[error("read the webhook's secret_file {}; make it a file with the key, readable for root", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is empty.
    #[error("the webhook's secret_file {} is empty; write the key into it", path.display())]
    NoSecret {
        /// The file.
        path: PathBuf,
    },
    /// The authorities cannot be read.
    #[error("read the webhook's ca_file {}; make it a file readable for root", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// They are none.
    #[error("the webhook's ca_file {} holds no certificate; write one as PEM (-----BEGIN CERTIFICATE-----)", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// The client could not be made.
    #[error("make the webhook's HTTP client")]
    Client(#[source] reqwest::Error),
}

/// A running webhook.
#[derive(Debug)]
pub struct Webhook {
    /// What became of its events.
    pub stats: WebhookStats,
    stopping: CancellationToken,
    deliverer: JoinHandle<()>,
}

impl Webhook {
    /// Starts it on the current runtime. Events go into the sender; when that and all its clones are gone the rest is
    /// delivered, see [`Self::close`].
    pub fn start(config: WebhookConfig) -> Result<(Self, mpsc::Sender<JobEvent>), WebhookError> {
        Self::with_queue(config, QUEUE)
    }

    fn with_queue(
        config: WebhookConfig,
        capacity: usize,
    ) -> Result<(Self, mpsc::Sender<JobEvent>), WebhookError> {
        let stats = WebhookStats::default();
        let stopping = CancellationToken::new();
        let (queue, messages) = mpsc::channel(capacity);
        let wanted = config.events.clone();
        let deliverer = Deliverer::new(config, stats.clone(), stopping.clone())?;
        let (sender, events) = mpsc::channel(UNREAD);
        tokio::spawn(collect(events, wanted, queue, stats.clone()));
        let deliverer = tokio::spawn(deliverer.run(messages));
        let webhook = Self {
            stats,
            stopping,
            deliverer,
        };
        Ok((webhook, sender))
    }

    /// Tries what is left once each, and says how much was not delivered. To be called when the engine has ended.
    pub async fn close(self) {
        self.stopping.cancel();
        let abort = self.deliverer.abort_handle();
        if tokio::time::timeout(LAST_WORDS, self.deliverer).await.is_err() {
            abort.abort();
        }
        let left = self.stats.snapshot().queued;
        if left > 0 {
            tracing::warn!(
                events = left,
                "the webhook ends with events that were not delivered"
            );
        }
    }
}

/// Takes what is wanted into the queue, numbered; a number that never arrives was dropped.
async fn collect(
    mut events: mpsc::Receiver<JobEvent>,
    wanted: Vec<crate::control::types::Happened>,
    queue: mpsc::Sender<Message>,
    stats: WebhookStats,
) {
    // Another governor's numbers must not look like ours.
    let start = jiff::Timestamp::now().as_microsecond();
    let mut number = 0_u64;
    while let Some(event) = events.recv().await {
        if !wanted.contains(&event.what) {
            continue;
        }
        number += 1;
        let body = match serde_json::to_vec(&event) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "an event could not be written as JSON");
                stats.drop_one();
                continue;
            }
        };
        let message = Message {
            id: format!("{start}-{number}"),
            what: event.what,
            body,
        };
        stats.queue_one();
        if queue.try_send(message).is_err() {
            stats.unqueue_one();
            if stats.drop_one() {
                tracing::warn!(
                    waiting = queue.max_capacity(),
                    "the webhook's queue is full; events are dropped and counted until its server takes some"
                );
            }
        }
    }
}
