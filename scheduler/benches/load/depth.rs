//! G4, G5, G9 and a part of G16: a queue of a million jobs is as fast as one of ten thousand, and starts at once.

use std::path::Path;
use std::time::{Duration, Instant};

use ffrtmp_api::{ClaimRequest, JobFilter, JobRequest, JobUuid, NodeId, NodeInfo, Paging};
use ffrtmp_scheduler::store::sqlite::{Options, SqliteStore};
use ffrtmp_scheduler::store::{NewJob, Store};
use hyper::Method;

use crate::figure::{Figure, Times, ms};
use crate::naive::Naive;
use crate::server::{MASTER, Server};
use crate::{Args, Size};

/// Calls of each kind.
const CALLS: u32 = 500;
/// Depth of the shallow queue.
const SHALLOW: u32 = 10_000;

/// Times of one depth.
struct Depth {
    claim: Times,
    list: Times,
    status: Times,
}

fn job(number: u32) -> NewJob {
    let request: JobRequest =
        serde_json::from_str(r#"{"scenario":"1080p-h264","parameters":{"duration":300,"bitrate":"5M"}}"#)
            .unwrap();
    let mut random = [0; 10];
    random[6..].copy_from_slice(&number.to_be_bytes());
    NewJob::new(
        JobUuid::from_parts(1_700_000_000_000 + u64::from(number), random),
        &request,
    )
    .unwrap()
}

async fn fill(store: &SqliteStore, from: u32, to: u32) {
    for start in (from..to).step_by(1_000) {
        let jobs = (start..to.min(start + 1_000)).map(job).collect();
        store.submit("bench".to_owned(), jobs).await.unwrap();
    }
}

async fn timed(mut call: impl AsyncFnMut(u32)) -> Times {
    let mut times = Vec::new();
    for number in 0..CALLS {
        let began = Instant::now();
        call(number).await;
        times.push(began.elapsed());
    }
    Times::of(times)
}

async fn look(store: &SqliteStore, node: &NodeId, depth: u32) -> Depth {
    let claim = timed(async |number| {
        let request = ClaimRequest {
            claim_id: format!("{depth}-{number}"),
            max: 1,
            wait_sec: 0,
        };
        let answer = store.claim(node.clone(), request).await.unwrap();
        assert_eq!(answer.grants.len(), 1);
    })
    .await;
    let list = timed(async |number| {
        let paging = Paging {
            limit: 50,
            cursor: Some(ffrtmp_api::Cursor::behind(i64::from(
                depth / CALLS * (number + 1),
            ))),
        };
        store.list(JobFilter::default(), paging).await.unwrap();
    })
    .await;
    let status = timed(async |number| {
        let seq = i64::from(depth / CALLS * number) + 1;
        store.get(ffrtmp_api::JobRef::Sequence(seq)).await.unwrap();
    })
    .await;
    Depth { claim, list, status }
}

async fn store_figures(database: &Path, size: Size, naive: &Naive) -> Vec<Figure> {
    let store = SqliteStore::open(Options::new(database)).unwrap();
    let node = NodeId::parse("bench").unwrap();
    let info = NodeInfo {
        slots: Some(4_096),
        ..NodeInfo::default()
    };
    store.register(node.clone(), info).await.unwrap();
    fill(&store, 0, SHALLOW).await;
    let shallow = look(&store, &node, SHALLOW).await;
    fill(&store, SHALLOW, size.deep).await;
    let deep = look(&store, &node, size.deep).await;
    let p99 = deep.claim.percentile(99);
    let faster = naive.claim_deep.as_secs_f64() / deep.claim.percentile(50).as_secs_f64();
    let mut all = vec![Figure::judged(
        "G4",
        format!("claim, one commit each, {} queued", size.deep),
        format!(
            "{}; the naive design takes {faster:.0} times as long",
            deep.claim.line()
        ),
        "p99 <= 5 ms",
        p99 <= Duration::from_millis(5),
    )];
    for (what, low, high) in [
        ("claim", &shallow.claim, &deep.claim),
        ("list of 50", &shallow.list, &deep.list),
        ("status", &shallow.status, &deep.status),
    ] {
        let ratio = high.percentile(99).as_secs_f64() / low.percentile(99).as_secs_f64();
        all.push(Figure::judged(
            "G5",
            format!("{what} at {} over {SHALLOW}, p99", size.deep),
            format!(
                "{ratio:.2} ({} over {})",
                ms(high.percentile(99)),
                ms(low.percentile(99))
            ),
            "<= 2",
            ratio <= 2.0,
        ));
    }
    all
}

/// All of it.
pub(crate) async fn measure(args: &Args, size: Size, naive: &Naive) -> Vec<Figure> {
    let place = tempfile::tempdir_in(&args.directory).unwrap();
    let database = place.path().join("queue.db");
    let mut all = store_figures(&database, size, naive).await;
    let mut slowest = Duration::ZERO;
    let mut rss = 0;
    for _ in 0..3 {
        let began = Instant::now();
        let server = Server::start(&args.server, &database, true, 0);
        let mut line = server.peer.connect().await.expect("a connection");
        let (status, _) = line
            .send(Method::GET, "/jobs/1", MASTER, axum::body::Bytes::new())
            .await
            .expect("an answer");
        assert_eq!(status, 200);
        slowest = slowest.max(began.elapsed());
        rss = server.rss_kib();
        let body = serde_json::json!({"jobs": vec![serde_json::json!({"scenario": "1080p-h264"}); 1_000]});
        // It is killed with a log to recover.
        assert_eq!(
            line.post("/jobs/batch", MASTER, &body)
                .await
                .expect("an answer")
                .0,
            200
        );
    }
    all.push(Figure::judged(
        "G9",
        format!(
            "SIGKILL to the first answer over TLS, {} jobs, slowest of 3",
            size.deep
        ),
        ms(slowest),
        "<= 2 s",
        slowest <= Duration::from_secs(2),
    ));
    // 150 MiB and half as much again.
    all.push(Figure::judged(
        "G16",
        format!("resident memory with {} queued, after the start", size.deep),
        format!("{} MiB", rss >> 10),
        "<= 225 MiB",
        rss <= 225 << 10,
    ));
    all
}
