//! Bodies, paths and queries, good and bad.

use reqwest::Method;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn the_predecessors_bodies_are_taken_and_their_answers_given() {
    let w = World::new(|_| {}).await;
    let body = json!({"scenario": "1080p-h264", "confidence": "auto", "classification": "production",
        "parameters": {"duration": 300, "bitrate": "5M"}, "resource_limits": {"max_cpu_percent": 150, "max_memory_mb": 1024}});
    let (status, job) = w.post("/jobs", &body).await;
    assert_eq!(
        (status, &job["sequence_number"], &job["status"]),
        (201, &json!(1), &json!("queued")),
        "{job}"
    );
    assert_eq!(job["limits"]["memory_max"], 1024 << 20);
    let other = json!({"scenario_name": "h264_nvenc_5mbps", "encoder": "h264_nvenc", "sla_eligible": false,
        "wrapper_constraints": {"cpu_quota_percent": 200, "memory_limit_mb": 4096, "nice_priority": -5}});
    let (status, job) = w.post("/api/jobs", &other).await;
    assert_eq!(
        (status, &job["encoder"], &job["sla_eligible"]),
        (201, &json!("h264_nvenc"), &json!(false)),
        "{job}"
    );
    let (status, list) = w.get("/api/v1/jobs?status=queued&limit=10").await;
    assert_eq!((status, &list["count"]), (200, &json!(2)));
    let (status, acted) = w.post("/jobs/1/cancel", &json!({})).await;
    assert_eq!((status, &acted["status"]), (200, &json!("canceled")));
    assert_eq!(w.post("/jobs/1/cancel", &json!({})).await.0, 409);
    assert_eq!(w.get("/jobs/99").await.0, 404);
    assert_eq!(w.get("/jobs/0/logs").await.0, 404);
    let (status, gone) = w.get("/jobs/next?node_id=x").await;
    assert_eq!((status, &gone["code"]), (410, &json!("gone")));
    assert!(gone["detail"].as_str().unwrap().contains("/claim"));
    assert_eq!(w.post("/results", &json!({})).await.0, 410);
    drop(w.end().await);
}

#[tokio::test]
async fn bad_input_is_named_field_by_field_and_never_a_fault_of_ours() {
    let w = World::new(|config| config.limits.body_bytes = 100_000).await;
    for (path, body, field) in [
        ("/jobs", json!({}), "scenario"),
        (
            "/jobs",
            json!({"scenario": "1080p-h264", "queue": "urgent"}),
            "queue",
        ),
        (
            "/jobs",
            json!({"scenario": "1080p-h264", "priority": "x"}),
            "priority",
        ),
        (
            "/jobs",
            json!({"scenario": "1080p-h264", "engine": "vlc"}),
            "engine",
        ),
        (
            "/jobs",
            json!({"scenario": "1080p-h264", "parameters": {"duration": -1}}),
            "parameters.duration",
        ),
        ("/jobs/batch", json!({"jobs": []}), "jobs"),
        ("/keys", json!({"name": "x", "scopes": []}), "scopes"),
        ("/tokens", json!({"uses": 0}), "uses"),
    ] {
        let (status, problem) = w.post(path, &body).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (400, &json!(field)),
            "{path} {body}: {problem}"
        );
    }
    let big = w
        .ask(Method::POST, "/jobs", Some(MASTER))
        .body(vec![b' '; 10 << 20]);
    assert_eq!(told(big).await.0, 413);
    let comment = w
        .ask(Method::POST, "/jobs", Some(MASTER))
        .body("{ // a comment\n}");
    let (status, problem) = told(comment).await;
    assert!(
        status == 400 && problem["detail"].as_str().unwrap().contains("remove it"),
        "{problem}"
    );
    drop(w.end().await);
}

#[tokio::test]
async fn bad_paths_and_queries_are_problems_too() {
    let w = World::new(|_| {}).await;
    for (path, status) in [
        ("/jobs?limit=0", 400),
        ("/jobs?limit=-1", 400),
        ("/jobs?cursor=xx", 400),
        ("/jobs?state=done", 400),
        ("/jobs?sort=id", 400),
        ("/jobs?limit=1&limit=2", 400),
        ("/jobs?created_after=yesterday", 400),
        ("/events?after=-1", 400),
        ("/nothing", 404),
        ("/nodes/..%2f", 404),
        ("/jobs/%ff", 400),
    ] {
        let (found, problem) = w.get(path).await;
        assert_eq!(found, status, "{path}: {problem}");
        assert!(
            problem["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("urn:ffrtmp:error:")),
            "{path}: {problem}"
        );
    }
    assert_eq!(told(w.ask(Method::PUT, "/jobs", Some(MASTER))).await.0, 405);
    drop(w.end().await);
}

#[tokio::test]
async fn the_same_key_gives_the_same_job_and_another_body_is_refused() {
    let w = World::new(|_| {}).await;
    let body = json!({"scenario": "1080p-h264"});
    let with_key = |body: &Value| {
        w.ask(Method::POST, "/jobs", Some(MASTER))
            .header("Idempotency-Key", "\"k1\"")
            .json(body)
    };
    let (first, job) = told(with_key(&body)).await;
    let (second, again) = told(with_key(&body)).await;
    assert_eq!((first, second, &job["id"]), (201, 200, &again["id"]));
    assert_eq!(told(with_key(&json!({"scenario": "720p-vp9"}))).await.0, 422);
    let batch = json!({"jobs": [body, {"scenario": "nonsense!"}, {"scenario": "720p-vp9"}]});
    let send = || {
        w.ask(Method::POST, "/jobs/batch", Some(MASTER))
            .header("Idempotency-Key", "b")
            .json(&batch)
    };
    let (_, answer) = told(send()).await;
    assert_eq!(
        (&answer["created"], &answer["items"][1]["outcome"]),
        (&json!(2), &json!("refused")),
        "{answer}"
    );
    let (_, answer) = told(send()).await;
    assert_eq!(
        (&answer["created"], &answer["items"][2]["outcome"]),
        (&json!(0), &json!("existing")),
        "{answer}"
    );
    drop(w.end().await);
}

#[tokio::test]
async fn an_address_has_a_hundred_requests_a_second_and_is_told_when_to_come_again() {
    let w = World::new(|config| config.access.per_address = 100).await;
    let mut refused = None;
    let mut taken = 0;
    for _ in 0..400 {
        let answer = w.ask(Method::GET, "/nodes", Some(MASTER)).send().await.unwrap();
        if answer.status() != 200 {
            refused = Some(answer);
            break;
        }
        taken += 1;
    }
    let refused = refused.expect("400 requests at once were all taken");
    assert!(taken >= 100, "{taken}");
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(
        w.probe("/metrics")
            .await
            .1
            .contains("ffrtmp_rate_limited_total{budget=\"address\"} 1\n")
    );
    drop(w.end().await);
}
