//! The webhook in the file: what it means, and what is refused word for word.

use std::time::Duration;

use insta::assert_snapshot;

use super::super::parse;
use crate::control::types::Happened;
use crate::webhook::WebhookConfig;

fn told(webhook: &str) -> String {
    match parse("node.yaml", &format!("webhook: {webhook}\n")) {
        Ok(config) => format!("{:?}", config.webhook.unwrap()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_webhook_needs_an_address_and_has_defaults_for_the_rest() {
    let text = "webhook:\n  url: https://hooks.example/ffrtmp?token=abc\n";
    let webhook = parse("node.yaml", text).unwrap().webhook.unwrap();
    assert_eq!(webhook, WebhookConfig::new(webhook.url.clone()));
    assert_eq!(webhook.events, WebhookConfig::EVENTS);
    assert_eq!(
        webhook.shown(),
        "https://hooks.example",
        "a query may hold a token"
    );
    assert_eq!(parse("node.yaml", "").unwrap().webhook, None);
}

#[test]
fn every_key_of_a_webhook_acts_and_its_secrets_are_not_shown() {
    let text = "webhook:\n  url: http://127.0.0.1:8080/\n  events: [oom, closed]\n  headers: {Authorization: Bearer \
                s3cret}\n  ca_file: /etc/ffrtmp/ca.pem\n  secret_file: /etc/ffrtmp/webhook.key\n  timeout: 3s\n  retries: 0\n";
    let webhook = parse("node.yaml", text).unwrap().webhook.unwrap();
    assert_eq!(webhook.events, [Happened::Oom, Happened::Closed]);
    assert_eq!(webhook.headers["authorization"], "Bearer s3cret");
    assert_eq!(
        webhook.ca_file.as_deref(),
        Some(std::path::Path::new("/etc/ffrtmp/ca.pem"))
    );
    assert_eq!(
        webhook.secret_file.as_deref(),
        Some(std::path::Path::new("/etc/ffrtmp/webhook.key"))
    );
    assert_eq!((webhook.timeout, webhook.retries), (Duration::from_secs(3), 0));
    assert_eq!(webhook.shown(), "http://127.0.0.1:8080");
    assert!(!format!("{webhook:?}").contains("s3cret"));
}

#[test]
fn what_is_wrong_with_a_webhook_is_told_at_once_and_without_its_address() {
    assert_snapshot!(told("{retries: -1, timeout: 1h, secret_file: key, events: []}"), @r#"
    node.yaml:1:10: webhook: has no url; write url: https://HOST/PATH
    node.yaml:1:10: webhook.events: names no event, so that nothing would be sent; leave the key out for the usual ones
    node.yaml:1:20: webhook.retries: -1 is not possible; write 0 to 1000
    node.yaml:1:33: webhook.timeout: 1h is not possible; write 100ms to 5m
    node.yaml:1:50: webhook.secret_file: "key" is no file's absolute path; start it with /
    "#);
    assert_snapshot!(told("{url: 'ftp://user:pass@host/'}"), @r"node.yaml:1:16: webhook.url: is no address of a server; write http://HOST/PATH or https://HOST/PATH");
    assert_snapshot!(told("{url: 'http://h/', headers: {'bad name': x, Good: \"a\\nb\"}}"), @r"
    node.yaml:1:51: webhook.headers.bad name: is no name of a header; write letters, digits and hyphens
    node.yaml:1:60: webhook.headers.Good: has a value with control characters; write it in one line
    ");
    assert_snapshot!(told("{url: 'http://h/', events: [ended]}"), @r#"node.yaml:1:38: webhook.events[0]: "ended" is not possible; write discovered, placed, not_placed, moved, limit_breached, exited, oom, sla_missed, closed or released"#);
}
