//! Nodes, events and the end of the daemon.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_node_joins_by_token_works_by_its_own_key_and_speaks_for_itself_only() {
    let w = World::new(|_| {}).await;
    let (status, token) = w.post("/tokens", &json!({})).await;
    assert_eq!(status, 201);
    let text = token["token"].as_str().unwrap().to_owned();
    assert!(text.ends_with(w.running().security.authority.fingerprint()));
    let info = json!({"address": "n1", "type": "server", "cpu_threads": 8, "node_id": "n1"});
    let join = |key: &str| told(w.ask(Method::POST, "/nodes/register", Some(key)).json(&info));
    let (status, joined) = join(&text).await;
    assert_eq!((status, &joined["id"]), (201, &json!("n1")), "{joined}");
    assert_eq!(join(&text).await.0, 401, "a single use token was used twice");
    let key = joined["node_key"].as_str().unwrap().to_owned();
    let (status, again) = join(&key).await;
    assert_eq!((status, again.get("node_key")), (200, None));
    let node = |path: &str, body: &Value| told(w.ask(Method::POST, path, Some(&key)).json(body));
    assert_eq!(node("/nodes/n1/heartbeat", &json!({"held": []})).await.0, 200);
    assert_eq!(node("/nodes/n2/heartbeat", &json!({"held": []})).await.0, 403);
    assert_eq!(node("/jobs", &json!({"scenario": "1080p-h264"})).await.0, 403);
    assert_eq!(
        w.post("/nodes/n1/claim", &json!({"max": 1})).await.0,
        403,
        "a master key is no node"
    );
    assert_eq!(
        node("/nodes/n1/claim", &json!({"max": 1, "wait_sec": 0})).await.0,
        200
    );
    drop(w.end().await);
}

#[tokio::test]
async fn a_waiting_node_gets_the_job_as_it_is_submitted_and_stale_reports_are_told_what_to_do() {
    let w = World::new(|_| {}).await;
    let (_, joined) = w
        .post("/nodes/register", &json!({"address": "a", "node_id": "n1"}))
        .await;
    let key = joined["node_key"].as_str().unwrap().to_owned();
    let claim = w
        .ask(Method::POST, "/nodes/n1/claim", Some(&key))
        .json(&json!({"max": 1, "wait_sec": 30, "claim_id": "c"}));
    let waiting = tokio::spawn(told(claim));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    let (_, job) = w.post("/jobs", &json!({"scenario": "1080p-h264"})).await;
    let (status, grants) = waiting.await.unwrap();
    let grant = &grants["grants"][0];
    assert_eq!((status, &grant["job_id"]), (200, &job["id"]), "{grants}");
    let report = |epoch: u64, report: Value| {
        let mut body = json!({"job_id": job["id"], "attempt": 1, "epoch": epoch});
        body.as_object_mut()
            .unwrap()
            .extend(report.as_object().unwrap().clone());
        told(w.ask(Method::POST, "/nodes/n1/reports", Some(&key)).json(&body))
    };
    let (status, answer) = report(1, json!({"event": "started", "pid": 7, "engine": "ffmpeg"})).await;
    assert_eq!(
        (status, &answer["verdict"]),
        (200, &json!("accepted")),
        "{answer}"
    );
    let (status, stale) = report(0, json!({"event": "progressed", "progress": {"percent": 3.0}})).await;
    assert_eq!((status, &stale["advice"]), (409, &json!("stop")), "{stale}");
    let finished = json!({"event": "finished", "result": {"status": "completed", "duration_sec": 4.5}});
    assert_eq!(report(1, finished).await.0, 200);
    let (_, text) = w.probe("/metrics").await;
    for line in [
        "ffrtmp_schedule_attempts_total{result=\"success\"} 1",
        "ffrtmp_jobs_completed_by_engine{engine=\"ffmpeg\"} 1",
        "ffrtmp_job_duration_seconds_sum 4.5",
        "scheduler_http_requests_total{endpoint=\"/nodes/{id}/reports\",method=\"POST\",status=\"409\"} 1",
    ] {
        assert!(
            text.contains(&format!("{line}\n")),
            "{line} is missing in\n{text}"
        );
    }
    drop(w.end().await);
}

#[tokio::test]
async fn events_stream_from_where_a_client_left_off_and_end_with_the_daemon() {
    let w = World::new(|_| {}).await;
    for _ in 0..2 {
        w.post("/jobs", &json!({"scenario": "1080p-h264"})).await;
    }
    let request = w
        .ask(Method::GET, "/events", Some(MASTER))
        .header("Last-Event-ID", "1");
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(
        first.contains("id: 2") && first.contains("event: transition"),
        "{first}"
    );
    w.post("/jobs/1/cancel", &json!({})).await;
    let second = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(
        second.contains("id: 3") && second.contains("canceled"),
        "{second}"
    );
    let of_two = w
        .ask(Method::GET, "/jobs/2/events?after=0", Some(MASTER))
        .send()
        .await
        .unwrap();
    drop(w.end().await);
    let rest = tokio::time::timeout(Duration::from_secs(5), stream.text())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, "");
    let text = of_two.text().await.unwrap();
    assert!(
        text.contains("\"sequence_number\":2") && !text.contains("\"sequence_number\":1"),
        "{text}"
    );
}

#[tokio::test]
async fn a_drain_sends_waiting_nodes_home_and_lets_requests_end() {
    let w = World::new(|_| {}).await;
    let (_, joined) = w
        .post("/nodes/register", &json!({"address": "a", "node_id": "n1"}))
        .await;
    let key = joined["node_key"].as_str().unwrap();
    let claim = w
        .ask(Method::POST, "/nodes/n1/claim", Some(key))
        .json(&json!({"max": 1, "wait_sec": 60}));
    let waiting = tokio::spawn(told(claim));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let url = w.url("/healthz");
    let client = w.client.clone();
    let started = std::time::Instant::now();
    drop(w.end().await);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "the drain waited for a long poll"
    );
    let (status, answer) = waiting.await.unwrap();
    assert_eq!((status, &answer["grants"]), (200, &json!([])));
    assert!(client.get(url).send().await.is_err(), "the port is still open");
}

#[tokio::test]
async fn readiness_falls_with_the_database_and_the_disk_and_health_stays() {
    let w = World::new(|_| {}).await;
    assert_eq!(w.probe("/readyz").await.0, 200);
    *w.store.trouble.lock().unwrap() = Some("disk I/O error".to_owned());
    let (status, text) = w.probe("/readyz").await;
    assert!(status == 503 && text.contains("disk I/O error"), "{text}");
    assert_eq!(w.probe("/health").await.0, 200);
    drop(w.end().await);
    let w = World::new(|config| config.limits.disk_reserve_bytes = u64::MAX >> 1).await;
    let (status, text) = w.probe("/readyz").await;
    assert!(status == 503 && text.contains("full"), "{text}");
    let (status, problem) = w.post("/jobs", &json!({"scenario": "1080p-h264"})).await;
    assert_eq!((status, &problem["code"]), (507, &json!("storage_full")));
    assert_eq!(w.get("/jobs").await.0, 200);
    drop(w.end().await);
}

#[tokio::test]
async fn jobs_of_the_real_store_outlive_a_restart_and_a_second_daemon_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let queue = open_queue(&config).await.unwrap();
    let running = start(&config, queue).await.unwrap();
    let https = client(&running, None);
    let url = format!("https://{}/jobs", running.api);
    let sent = https
        .post(url)
        .bearer_auth(MASTER)
        .json(&json!({"scenario": "4K60-h265", "queue": "live", "priority": "high"}));
    let (status, job) = told(sent).await;
    assert_eq!((status, &job["queue"]), (201, &json!("live")), "{job}");
    let second = open_queue(&config).await.err().unwrap();
    assert!(
        matches!(second, DaemonError::Database(OpenError::Held(_))),
        "{second}"
    );
    running.stop().await;
    let queue = open_queue(&config).await.unwrap();
    let running = start(&config, queue).await.unwrap();
    let https = client(&running, None);
    let ask = https
        .get(format!("https://{}/api/v1/jobs/1", running.api))
        .bearer_auth(MASTER);
    let (status, again) = told(ask).await;
    assert_eq!((status, &again["id"]), (200, &job["id"]));
    running.stop().await;
}
