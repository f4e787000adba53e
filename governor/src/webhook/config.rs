//! What a webhook is told by the configuration.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::control::types::Happened;

/// Where events go, which, and how hard it is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookConfig {
    /// The server.
    pub url: Url,
    /// Kinds of events it gets.
    pub events: Vec<Happened>,
    /// More headers of each request; values are marked sensitive and never shown.
    pub headers: HeaderMap,
    /// File with the authorities (PEM) that alone are trusted over https; `None` trusts those of the system.
    pub ca_file: Option<PathBuf>,
    /// File with the key that signs each body; `None` signs nothing.
    pub secret_file: Option<PathBuf>,
    /// How long one try may take.
    pub timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
    /// Pause before the second try; it doubles up to [`Self::LONGEST_PAUSE`].
    pub first_pause: Duration,
}

impl WebhookConfig {
    /// How long one try may take unless the file says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
    /// Ten tries after the first are about four minutes.
    pub const RETRIES: u32 = 10;
    /// Pause before the second try.
    pub const FIRST_PAUSE: Duration = Duration::from_millis(500);
    /// Longest pause between two tries.
    pub const LONGEST_PAUSE: Duration = Duration::from_mins(1);
    /// What is sent unless the file says otherwise.
    pub const EVENTS: [Happened; 6] = [
        Happened::Discovered,
        Happened::Placed,
        Happened::LimitBreached,
        Happened::Oom,
        Happened::Exited,
        Happened::SlaMissed,
    ];

    /// Everything but the server as usual.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            events: Self::EVENTS.to_vec(),
            headers: HeaderMap::new(),
            ca_file: None,
            secret_file: None,
            timeout: Self::TIMEOUT,
            retries: Self::RETRIES,
            first_pause: Self::FIRST_PAUSE,
        }
    }

    /// The server without path and query, which may hold a token.
    pub fn shown(&self) -> String {
        let host = self.url.host_str().unwrap_or("?");
        match self.url.port() {
            Some(port) => format!("{}://{host}:{port}", self.url.scheme()),
            None => format!("{}://{host}", self.url.scheme()),
        }
    }
}
