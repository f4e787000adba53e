//! G1 and G2: how many durable submissions a second, in batches and one by one.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use hyper::Method;

use crate::figure::{Figure, Times, ms};
use crate::naive::Naive;
use crate::server::{MASTER, Server, scheme};
use crate::{Args, Size};

const JOB: &str =
    r#"{"scenario":"1080p-h264","parameters":{"duration":300,"bitrate":"5M"},"priority":"medium"}"#;
/// Jobs in a batch.
const BATCH: usize = 1_000;

/// What a flood did.
struct Flood {
    per_sec: f64,
    times: Times,
    failed: usize,
}

async fn flood(
    server: &Server,
    lines: usize,
    seconds: u64,
    path: &'static str,
    body: Bytes,
    jobs: usize,
) -> Flood {
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..lines {
        let mut line = server.peer.connect().await.expect("a connection");
        let body = body.clone();
        tasks.spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            while Instant::now() < end {
                let sent = Instant::now();
                let answer = line.send(Method::POST, path, MASTER, body.clone()).await;
                match answer {
                    Some((200 | 201, _)) => times.push(sent.elapsed()),
                    _ => failed += 1,
                }
            }
            (times, failed)
        });
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (own, broken) = done.unwrap();
        times.extend(own);
        failed += broken;
    }
    Flood {
        per_sec: (times.len() * jobs) as f64 / began.elapsed().as_secs_f64(),
        times: Times::of(times),
        failed,
    }
}

/// Both floods on a scheduler of their own.
pub(crate) async fn measure(args: &Args, size: Size, tls: bool, naive: &Naive) -> Vec<Figure> {
    let place = tempfile::tempdir_in(&args.directory).unwrap();
    let server = Server::start(&args.server, &place.path().join("queue.db"), tls, 0);
    let idle = server.rss_kib();
    let single = flood(&server, 256, size.flood_sec, "/jobs", JOB.into(), 1).await;
    let body = format!("{{\"jobs\":[{}]}}", vec![JOB; BATCH].join(","));
    let batch = flood(&server, 4, size.flood_sec, "/jobs/batch", body.into(), BATCH).await;
    let over = |figure: f64| {
        let times = figure / naive.submits_per_sec;
        format!("{figure:.0} jobs/s, {times:.0} times the naive design")
    };
    let mut all = vec![
        Figure::judged(
            "G1",
            format!(
                "durable submission, {BATCH} a call, 4 connections, {}",
                scheme(tls)
            ),
            format!("{}, {} failed", over(batch.per_sec), batch.failed),
            ">= 80000 jobs/s",
            batch.per_sec >= 80_000.0 && batch.failed == 0,
        ),
        Figure::judged(
            "G2",
            format!("durable submission, single, 256 connections, {}", scheme(tls)),
            format!(
                "{}, p99 {}, {} failed",
                over(single.per_sec),
                ms(single.times.percentile(99)),
                single.failed
            ),
            ">= 25000 jobs/s",
            single.per_sec >= 25_000.0 && single.failed == 0,
        ),
    ];
    if tls {
        // 15 MiB and half as much again.
        all.push(Figure::judged(
            "G16",
            "resident memory, idle, TLS",
            format!("{idle} KiB"),
            "<= 22.5 MiB",
            idle <= 23_040,
        ));
    }
    all
}
