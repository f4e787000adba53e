//! The file's `webhook`: read, checked, lowered. Nothing is sent here, and no file but the configuration is read.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::error::Problems;
use super::{absolute, between, number};
use crate::control::types::Happened;
use crate::webhook::WebhookConfig;

/// How long one try may take.
const TRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(5));

/// Server that is sent events of jobs, a POST of JSON each, in order.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWebhook {
    /// Address of the server, http or https. Needed.
    pub(super) url: Option<At<String>>,
    /// Kinds of events. Default: discovered, placed, `limit_breached`, oom, exited, `sla_missed`.
    pub(super) events: Option<Vec<Happened>>,
    /// More headers, such as Authorization.
    pub(super) headers: Option<BTreeMap<String, At<String>>>,
    /// Absolute path of a file with certificates (PEM): the only authorities trusted over https. Default: the system's.
    pub(super) ca_file: Option<At<String>>,
    /// Absolute path of a file with a key; each body is signed with it (HMAC-SHA256, header Ffrtmp-Signature).
    pub(super) secret_file: Option<At<String>>,
    /// How long one try may take, 100ms to 5m. Default 10s.
    pub(super) timeout: Option<At<String>>,
    /// Tries after the first, with pauses that double from 500 ms to a minute. Default 10.
    #[schemars(range(min = 0, max = 1000))]
    pub(super) retries: Option<At<i64>>,
}

/// The webhook, or `None` and what is wrong.
pub(super) fn lower(at: &At<RawWebhook>, problems: &mut Problems) -> Option<WebhookConfig> {
    let raw = &at.value;
    if raw.url.is_none() {
        problems.add(
            at,
            "webhook",
            "has no url; write url: https://HOST/PATH".to_owned(),
        );
    }
    let url = raw.url.as_ref().and_then(|url| address(url, problems));
    let headers = headers(raw.headers.as_ref(), problems);
    let ca_file = absolute(raw.ca_file.as_ref(), "webhook.ca_file", problems);
    let secret_file = absolute(raw.secret_file.as_ref(), "webhook.secret_file", problems);
    let timeout = between(raw.timeout.as_ref(), "webhook.timeout", TRY, problems);
    let retries = number(raw.retries.as_ref(), "webhook.retries", (0, 1000), problems);
    if raw.events.as_ref().is_some_and(Vec::is_empty) {
        let text = "names no event, so that nothing would be sent; leave the key out for the usual ones";
        problems.add(at, "webhook.events", text.to_owned());
    }
    let usual = WebhookConfig::new(url?);
    Some(WebhookConfig {
        events: raw.events.clone().unwrap_or_else(|| usual.events.clone()),
        headers,
        ca_file,
        secret_file,
        timeout: timeout.unwrap_or(usual.timeout),
        retries: retries.unwrap_or(usual.retries),
        ..usual
    })
}

/// The text is not repeated: it may hold a token.
fn address(at: &At<String>, problems: &mut Problems) -> Option<Url> {
    let url = Url::parse(&at.value).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        let text = "is no address of a server; write http://HOST/PATH or https://HOST/PATH";
        problems.add(at, "webhook.url", text.to_owned());
    }
    url
}

fn headers(raw: Option<&BTreeMap<String, At<String>>>, problems: &mut Problems) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, at) in raw.into_iter().flatten() {
        let value = HeaderValue::from_str(&at.value);
        match (HeaderName::from_bytes(name.as_bytes()), value) {
            (Ok(header), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
            (Err(_), _) => {
                let text = "is no name of a header; write letters, digits and hyphens";
                problems.add(at, &format!("webhook.headers.{name}"), text.to_owned());
            }
            (Ok(_), Err(_)) => {
                let text = "has a value with control characters; write it in one line";
                problems.add(at, &format!("webhook.headers.{name}"), text.to_owned());
            }
        }
    }
    headers
}
