//! G6, G7, G8 and the rest of G16: thousands of nodes that wait, beat, and all come back at once. All over TLS.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Line, Peer};
use crate::figure::{Figure, Times};
use crate::naive::Naive;
use crate::server::{MASTER, Server};
use crate::{Args, Size};

/// How often a governor tells that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// A node as the scheduler knows it.
#[derive(Clone)]
struct Node {
    name: String,
    key: String,
}

async fn register(server: &Server, count: usize) -> Vec<Node> {
    let mut tasks = JoinSet::new();
    for lane in 0..16 {
        let mut line = server.peer.connect().await.expect("a connection");
        tasks.spawn(async move {
            let mut nodes = Vec::new();
            for number in (lane..count).step_by(16) {
                let name = format!("n{number}");
                let body = json!({"address": name, "node_id": name, "slots": 1});
                let (status, joined) = line
                    .post("/nodes/register", MASTER, &body)
                    .await
                    .expect("an answer");
                assert_eq!(status, 201, "{joined}");
                let key = joined["node_key"].as_str().expect("a key").to_owned();
                nodes.push(Node { name, key });
            }
            nodes
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// When which job reached a node.
type Arrivals = Arc<Mutex<HashMap<String, Instant>>>;

async fn connect(peer: &Peer) -> Line {
    loop {
        if let Some(line) = peer.connect().await {
            return line;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for one job after the other, giving each back as done.
async fn wait_for_work(peer: Peer, node: Node, arrivals: Arrivals) {
    let mut line = connect(&peer).await;
    for round in 0.. {
        let body = json!({"claim_id": format!("{round}"), "max": 1, "wait_sec": 60});
        let path = format!("/nodes/{}/claim", node.name);
        let Some((200, answer)) = line.post(&path, &node.key, &body).await else {
            return;
        };
        let now = Instant::now();
        for grant in answer["grants"].as_array().into_iter().flatten() {
            let id = grant["job_id"].as_str().unwrap_or_default().to_owned();
            arrivals.lock().unwrap().insert(id, now);
        }
    }
}

/// G6: submissions, one at a time, into a crowd that waits.
async fn dispatch(server: &Server, size: Size, arrivals: &Arrivals, naive: &Naive) -> Figure {
    let mut line = server.peer.connect().await.expect("a connection");
    let mut sent = Vec::new();
    for _ in 0..size.dispatches {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let began = Instant::now();
        let body = json!({"scenario": "1080p-h264"});
        let (status, job) = line.post("/jobs", MASTER, &body).await.expect("an answer");
        assert_eq!(status, 201, "{job}");
        sent.push((job["id"].as_str().expect("an id").to_owned(), began));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let arrivals = arrivals.lock().unwrap();
    let times: Vec<Duration> = sent
        .iter()
        .filter_map(|(id, began)| Some(arrivals.get(id)?.duration_since(*began)))
        .collect();
    let (all, got) = (sent.len(), times.len());
    let times = Times::of(times);
    let faster = naive.dispatch.percentile(50).as_secs_f64() / times.percentile(50).as_secs_f64();
    Figure::judged(
        "G6",
        format!("submission to the node that has it, {} waiting", size.waiters),
        format!(
            "{}, {} missing; a lone node that asks every 3 s waits {faster:.0} times as long",
            times.line(),
            all - got
        ),
        "p50 <= 2 ms, p99 <= 25 ms",
        times.percentile(50) <= Duration::from_millis(2)
            && times.percentile(99) <= Duration::from_millis(25)
            && all == got,
    )
}

/// The crowd that waits, and what it costs.
async fn waiting(server: &Server, size: Size, nodes: &[Node], naive: &Naive) -> Vec<Figure> {
    let before = server.rss_kib();
    let arrivals = Arrivals::default();
    let mut crowd = JoinSet::new();
    for node in &nodes[..size.waiters] {
        crowd.spawn(wait_for_work(
            server.peer.clone(),
            node.clone(),
            Arc::clone(&arrivals),
        ));
    }
    tokio::time::sleep(Duration::from_secs(if size.waiters > 1_000 { 12 } else { 4 })).await;
    let each = server.rss_kib().saturating_sub(before) as f64 / size.waiters as f64;
    let dispatched = dispatch(server, size, &arrivals, naive).await;
    crowd.shutdown().await;
    vec![
        dispatched,
        // 32 KiB and half as much again.
        Figure::judged(
            "G16",
            format!("resident memory for each of {} waiting nodes, TLS", size.waiters),
            format!("{each:.1} KiB"),
            "<= 48 KiB",
            each <= 48.0,
        ),
    ]
}

async fn beat(line: &mut Line, node: &Node, held: &Value) -> bool {
    let path = format!("/nodes/{}/heartbeat", node.name);
    let answer = line.post(&path, &node.key, &json!({"held": held})).await;
    answer.is_some_and(|(status, _)| status == 200)
}

/// Beats until the end of the run; how many beats failed.
async fn beats(peer: Peer, node: Node, number: usize, fleet: usize, until: Instant) -> usize {
    let mut line = connect(&peer).await;
    tokio::time::sleep(BEAT * number as u32 / fleet as u32).await;
    let mut failed = 0;
    while Instant::now() < until {
        failed += usize::from(!beat(&mut line, &node, &json!([])).await);
        tokio::time::sleep(BEAT).await;
    }
    failed
}

/// How many of these nodes are taken for lost. Those of the crowd that waited have stopped beating, and are.
async fn lost(server: &Server, fleet: &[Node]) -> usize {
    let mut line = server.peer.connect().await.expect("a connection");
    let (_, body) = line
        .send(Method::GET, "/nodes", MASTER, axum::body::Bytes::new())
        .await
        .expect("an answer");
    let list: Value = serde_json::from_slice(&body).unwrap();
    let nodes = list["nodes"].as_array().expect("nodes");
    let offline: HashSet<&str> = nodes
        .iter()
        .filter(|node| node["status"] == "offline")
        .filter_map(|node| node["id"].as_str())
        .collect();
    assert!(
        nodes.len() >= fleet.len(),
        "a list of {} nodes is not whole",
        nodes.len()
    );
    fleet
        .iter()
        .filter(|node| offline.contains(node.name.as_str()))
        .count()
}

/// G7: the fleet beats.
async fn beating(server: &Server, size: Size, nodes: &[Node]) -> Figure {
    let (cpu, began) = (server.cpu(), Instant::now());
    let until = began + Duration::from_secs(size.beats_sec);
    let mut fleet = JoinSet::new();
    for (number, node) in nodes[..size.fleet].iter().enumerate() {
        fleet.spawn(beats(
            server.peer.clone(),
            node.clone(),
            number,
            size.fleet,
            until,
        ));
    }
    let failed: usize = fleet.join_all().await.into_iter().sum();
    let cores = (server.cpu().saturating_sub(cpu)).as_secs_f64() / began.elapsed().as_secs_f64();
    let more = lost(server, &nodes[..size.fleet]).await;
    Figure::judged(
        "G7",
        format!(
            "{} nodes beating every 5 s for {} s, handshakes included",
            size.fleet, size.beats_sec
        ),
        format!("{failed} beats failed, {more} nodes lost, {cores:.2} cores"),
        "0 lost, < 1 core",
        failed == 0 && more == 0 && cores < 1.0,
    )
}

/// G8: killed with the whole fleet at work, started again, and everybody comes at once.
async fn storm(
    args: &Args,
    size: Size,
    server: Server,
    nodes: &[Node],
    database: &std::path::Path,
) -> Figure {
    let nodes = &nodes[..size.fleet];
    let mut line = server.peer.connect().await.expect("a connection");
    let jobs = json!({"jobs": vec![json!({"scenario": "1080p-h264"}); nodes.len().min(1_000)]});
    for _ in 0..nodes.len().div_ceil(1_000) {
        assert_eq!(
            line.post("/jobs/batch", MASTER, &jobs)
                .await
                .expect("an answer")
                .0,
            200
        );
    }
    let mut held = Vec::new();
    for node in nodes {
        let body = json!({"claim_id": "storm", "max": 1, "wait_sec": 0});
        let path = format!("/nodes/{}/claim", node.name);
        let (_, answer) = line.post(&path, &node.key, &body).await.expect("an answer");
        let grant = &answer["grants"][0];
        let key = json!({"job_id": grant["job_id"], "attempt": grant["attempt"], "epoch": grant["epoch"], "started": true});
        held.push(if grant.is_object() {
            json!([key])
        } else {
            json!([])
        });
    }
    let (port, peer) = (server.port(), server.peer.clone());
    drop(server);
    let began = Instant::now();
    let mut fleet = JoinSet::new();
    for (node, held) in nodes.iter().cloned().zip(held) {
        let peer = peer.clone();
        fleet.spawn(async move {
            loop {
                let mut line = connect(&peer).await;
                if beat(&mut line, &node, &held).await {
                    return began.elapsed();
                }
            }
        });
    }
    let server = Server::start(&args.server, database, true, port);
    let all = Times::of(fleet.join_all().await);
    let slowest = all.percentile(100);
    let mut line = server.peer.connect().await.expect("a connection");
    let query = "/jobs?status=retrying,timed_out,failed&limit=1";
    let (_, body) = line
        .send(Method::GET, query, MASTER, axum::body::Bytes::new())
        .await
        .expect("an answer");
    let list: Value = serde_json::from_slice(&body).unwrap();
    let requeued = list["count"].as_u64().unwrap_or(1);
    Figure::judged(
        "G8",
        format!(
            "{} nodes with work come back at once after SIGKILL, TLS",
            nodes.len()
        ),
        format!(
            "all announced after {:.1} s, {requeued} requeued",
            slowest.as_secs_f64()
        ),
        "<= 10 s, 0 requeued",
        slowest <= Duration::from_secs(10) && requeued == 0,
    )
}

/// All of it on one scheduler.
pub(crate) async fn measure(args: &Args, size: Size, naive: &Naive) -> Vec<Figure> {
    let place = tempfile::tempdir_in(&args.directory).unwrap();
    let database = place.path().join("queue.db");
    let server = Server::start(&args.server, &database, true, 0);
    let count = size.waiters.max(size.fleet);
    let began = Instant::now();
    let nodes = register(&server, count).await;
    let mut all = vec![Figure::plain(
        format!("{count} nodes registered, each with a key of its own"),
        format!("{:.1} s", began.elapsed().as_secs_f64()),
    )];
    // The beating fleet first: the others hold work afterwards.
    all.push(beating(&server, size, &nodes).await);
    all.extend(waiting(&server, size, &nodes, naive).await);
    all.push(storm(args, size, server, &nodes, &database).await);
    all
}
