//! Deliveries over real sockets: servers that refuse, fail, sleep or are not there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use tokio::net::TcpListener;

use super::deliver::{DELIVERY, EVENT, LOST, SIGNATURE};
use super::*;
use crate::control::types::Happened;
use crate::testing::{ended, live_job};

/// One request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn event(&self) -> JobEvent {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// What the server does with its Nth request, from 0.
type Behaviour = Arc<dyn Fn(usize) -> (Duration, Response) + Send + Sync>;

#[derive(Clone)]
struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    behaviour: Behaviour,
}

impl Server {
    fn new(behaviour: impl Fn(usize) -> (Duration, Response) + Send + Sync + 'static) -> Self {
        Self {
            seen: Arc::default(),
            behaviour: Arc::new(behaviour),
        }
    }

    /// Answers with these, then 200 to everything else.
    fn answering(first: &'static [u16]) -> Self {
        Self::new(move |n| {
            let status = first.get(n).copied().unwrap_or(200);
            (
                Duration::ZERO,
                StatusCode::from_u16(status).unwrap().into_response(),
            )
        })
    }

    fn routes(&self) -> Router {
        Router::new().route("/hook", post(take)).with_state(self.clone())
    }

    async fn serve(&self, listener: TcpListener) {
        axum::serve(listener, self.routes()).await.unwrap();
    }

    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move { server.serve(listener).await });
        address
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn take(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let number = {
        let mut seen = server.seen.lock().unwrap();
        seen.push(Seen { headers, body });
        seen.len() - 1
    };
    let (pause, response) = (server.behaviour)(number);
    tokio::time::sleep(pause).await;
    response
}

fn config(address: SocketAddr) -> WebhookConfig {
    WebhookConfig {
        timeout: Duration::from_millis(500),
        first_pause: Duration::from_millis(5),
        ..WebhookConfig::new(format!("http://{address}/hook").parse().unwrap())
    }
}

fn event(what: Happened, pid: u32) -> JobEvent {
    let mut job = live_job(pid, 5, 0, "job");
    if matches!(what, Happened::Exited) {
        job = ended(job, 0);
    }
    JobEvent {
        at: jiff::Timestamp::now(),
        what,
        job,
    }
}

async fn settled(stats: &WebhookStats) -> WebhookSnapshot {
    let start = Instant::now();
    loop {
        let snapshot = stats.snapshot();
        let done = snapshot.delivered + snapshot.lost() > 0 && snapshot.queued == 0;
        if done || start.elapsed() > Duration::from_secs(20) {
            return snapshot;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pids(seen: &[Seen]) -> Vec<u32> {
    seen.iter().map(|one| one.event().job.report.pid).collect()
}

#[tokio::test]
async fn events_arrive_once_each_in_order_as_the_json_of_the_events_verb() {
    let server = Server::answering(&[]);
    let (webhook, events) = Webhook::start(config(server.start().await)).unwrap();
    let mut sent = Vec::new();
    for pid in 1..=200 {
        let what = if pid % 2 == 0 {
            Happened::Exited
        } else {
            Happened::Placed
        };
        sent.push(event(what, pid));
        events.send(sent.last().unwrap().clone()).await.unwrap();
    }
    // Nobody asked for these.
    events.send(event(Happened::Closed, 999)).await.unwrap();
    events.send(event(Happened::Moved, 999)).await.unwrap();
    let figures = settled(&webhook.stats).await;
    assert_eq!((figures.delivered, figures.lost()), (200, 0), "{figures:?}");
    let seen = server.seen();
    let got: Vec<JobEvent> = seen.iter().map(Seen::event).collect();
    assert_eq!(got, sent);
    assert_eq!(seen[0].header(EVENT), "placed");
    assert_eq!(seen[1].header(EVENT), "exited");
    assert_eq!(seen[0].header("content-type"), "application/json");
    let mut ids: Vec<&str> = seen.iter().map(|one| one.header(DELIVERY)).collect();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    drop(events);
    webhook.close().await;
}

#[tokio::test]
async fn a_server_that_fails_twice_gets_the_same_delivery_again_before_any_other() {
    let server = Server::answering(&[500, 503, 200, 429, 408]);
    let (webhook, events) = Webhook::start(config(server.start().await)).unwrap();
    for pid in 1..=3 {
        events.send(event(Happened::Placed, pid)).await.unwrap();
    }
    let figures = settled(&webhook.stats).await;
    assert_eq!((figures.delivered, figures.retried, figures.lost()), (3, 4, 0));
    let seen = server.seen();
    assert_eq!(pids(&seen), [1, 1, 1, 2, 2, 2, 3]);
    assert_eq!(seen[0].header(DELIVERY), seen[2].header(DELIVERY));
    assert_ne!(seen[2].header(DELIVERY), seen[3].header(DELIVERY));
}

#[tokio::test]
async fn a_refusal_and_a_redirect_are_final_counted_and_told_to_the_server() {
    let server = Server::answering(&[400, 302, 410]);
    let (webhook, events) = Webhook::start(config(server.start().await)).unwrap();
    for pid in 1..=4 {
        events.send(event(Happened::Placed, pid)).await.unwrap();
    }
    let figures = settled(&webhook.stats).await;
    assert_eq!((figures.delivered, figures.refused, figures.retried), (1, 3, 0));
    let seen = server.seen();
    assert_eq!(pids(&seen), [1, 2, 3, 4]);
    assert_eq!(seen[3].header(LOST), "3");
}

#[tokio::test]
async fn a_slow_server_is_left_after_the_timeout_and_tried_again() {
    let server = Server::new(|n| {
        let pause = Duration::from_secs(if n == 0 { 60 } else { 0 });
        (pause, StatusCode::OK.into_response())
    });
    let (webhook, events) = Webhook::start(config(server.start().await)).unwrap();
    let start = Instant::now();
    events.send(event(Happened::Oom, 1)).await.unwrap();
    let figures = settled(&webhook.stats).await;
    assert_eq!((figures.delivered, figures.retried), (1, 1));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_comes_late_gets_everything_that_waited() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (webhook, events) = Webhook::start(config(address)).unwrap();
    for pid in 1..=5 {
        events.send(event(Happened::Placed, pid)).await.unwrap();
    }
    while webhook.stats.snapshot().retried < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let server = Server::answering(&[]);
    let late = TcpListener::bind(address).await.unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(late).await });
    let figures = settled(&webhook.stats).await;
    assert_eq!((figures.delivered, figures.lost()), (5, 0), "{figures:?}");
    assert_eq!(pids(&server.seen()), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_dead_server_fills_the_queue_and_the_rest_is_dropped_counted_and_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let patient = WebhookConfig {
        first_pause: Duration::from_secs(30),
        ..config(address)
    };
    let (webhook, events) = Webhook::with_queue(patient, 16).unwrap();
    let start = Instant::now();
    for pid in 1..=500 {
        // As the engine does; the collector empties this far faster than it fills.
        while events.try_send(event(Happened::Placed, pid)).is_err() {
            tokio::task::yield_now().await;
        }
    }
    while webhook.stats.snapshot().dropped + webhook.stats.snapshot().queued < 500 {
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let figures = webhook.stats.snapshot();
    assert_eq!(figures.delivered, 0);
    // Sixteen wait, and one is on its way.
    assert!((16..=17).contains(&figures.queued), "{figures:?}");
    drop(events);
    let stats = webhook.stats.clone();
    let stopping = Instant::now();
    webhook.close().await;
    assert!(
        stopping.elapsed() < LAST_WORDS,
        "a refused connection is no reason to wait"
    );
    assert_eq!(
        stats.snapshot().queued,
        figures.queued,
        "undelivered ones are said, not forgotten"
    );
}

#[tokio::test]
async fn tries_end_and_the_event_is_given_up_for_the_next_one() {
    let server = Server::answering(&[500, 500, 500]);
    let short = WebhookConfig {
        retries: 2,
        ..config(server.start().await)
    };
    let (webhook, events) = Webhook::start(short).unwrap();
    for pid in 1..=2 {
        events.send(event(Happened::Placed, pid)).await.unwrap();
    }
    let figures = settled(&webhook.stats).await;
    assert_eq!((figures.delivered, figures.given_up), (1, 1), "{figures:?}");
    assert_eq!(pids(&server.seen()), [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_stop_delivers_what_waits() {
    let server = Server::new(|_| (Duration::from_millis(20), StatusCode::OK.into_response()));
    let (webhook, events) = Webhook::start(config(server.start().await)).unwrap();
    for pid in 1..=20 {
        events.send(event(Happened::Placed, pid)).await.unwrap();
    }
    drop(events);
    let stats = webhook.stats.clone();
    webhook.close().await;
    assert_eq!(stats.snapshot().delivered, 20);
    assert_eq!(server.seen().len(), 20);
}

#[tokio::test]
async fn over_https_a_server_is_known_by_its_authority_and_a_stranger_gets_nothing() {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let chain = vec![issued.cert.der().to_vec()];
    crate::tls::use_ring();
    let tls = RustlsConfig::from_der(chain, issued.signing_key.serialize_der())
        .await
        .unwrap();
    let server = Server::answering(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = axum_server::from_tcp_rustls(listener, tls).unwrap();
    tokio::spawn(serving.serve(server.routes().into_make_service()));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let trusting = WebhookConfig {
        url: format!("https://{address}/hook").parse().unwrap(),
        ca_file: Some(path.clone()),
        retries: 1,
        ..config(address)
    };
    let figures = async |pid| {
        let (webhook, events) = Webhook::start(trusting.clone()).unwrap();
        events.send(event(Happened::Placed, pid)).await.unwrap();
        settled(&webhook.stats).await
    };
    std::fs::write(&path, issued.cert.pem()).unwrap();
    assert_eq!(figures(1).await.delivered, 1);
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&path, other.cert.pem()).unwrap();
    let refused = figures(2).await;
    assert_eq!((refused.delivered, refused.given_up), (0, 1), "{refused:?}");
    assert_eq!(pids(&server.seen()), [1]);
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(
        Webhook::start(trusting.clone()),
        Err(WebhookError::NoAuthority { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        Webhook::start(trusting),
        Err(WebhookError::Authorities { .. })
    ));
}

#[tokio::test]
async fn the_signature_is_that_of_the_body_under_the_key_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "Jefe\n").unwrap();
    let server = Server::answering(&[]);
    let mut signed = config(server.start().await);
    signed.secret_file = Some(path.clone());
    signed.headers.insert("x-site", "north".parse().unwrap());
    let (webhook, events) = Webhook::start(signed.clone()).unwrap();
    events.send(event(Happened::Placed, 1)).await.unwrap();
    settled(&webhook.stats).await;
    let seen = server.seen();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"Jefe");
    let hex = seen[0].header(SIGNATURE).strip_prefix("sha256=").unwrap();
    let tag = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    ring::hmac::verify(&key, &seen[0].body, &tag).unwrap();
    assert_eq!(seen[0].header("x-site"), "north");
    std::fs::write(&path, "\n").unwrap();
    assert!(matches!(
        Webhook::start(signed.clone()),
        Err(WebhookError::NoSecret { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Webhook::start(signed), Err(WebhookError::Secret { .. })));
}
