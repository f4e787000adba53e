//! The whole daemon over real sockets with real TLS, before a queue of a few lines.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::{ClientCerts, Secret};
use crate::testing::FakeStore;
use ffrtmp_api::Scope;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

const MASTER: &str = "a-master-key-of-the-operator";

struct World {
    place: tempfile::TempDir,
    store: Arc<FakeStore>,
    running: Option<Running>,
    client: Client,
}

fn client(running: &Running, identity: Option<&str>) -> Client {
    let ca = reqwest::Certificate::from_pem(running.security.authority.pem().as_bytes()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder().no_proxy().tls_certs_only([ca]);
    if let Some(pem) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

impl World {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut config = config(place.path());
        change(&mut config);
        let store = Arc::new(FakeStore::default());
        let queue = Queue::new(Arc::clone(&store));
        let running = start(&config, queue).await.unwrap();
        Self {
            client: client(&running, None),
            running: Some(running),
            store,
            place,
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.running().api)
    }

    fn ask(&self, method: Method, path: &str, key: Option<&str>) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        told(self.ask(Method::GET, path, Some(MASTER))).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        told(self.ask(Method::POST, path, Some(MASTER)).json(body)).await
    }

    async fn probe(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.running().metrics.unwrap());
        let answer = self.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn end(self) -> tempfile::TempDir {
        let Self {
            place,
            running,
            store,
            ..
        } = self;
        drop(store);
        running.unwrap().stop().await;
        place
    }
}

fn config(place: &Path) -> Config {
    let mut config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics: Some("127.0.0.1:0".parse().unwrap()),
        database: place.join("master.db"),
        drain: Duration::from_secs(5),
        ..Config::default()
    };
    config.access.api_key = Secret::new(MASTER);
    config.access.per_address = 0;
    config.limits.disk_reserve_bytes = 0;
    config
}

async fn told(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn without_a_key_only_probes_the_ca_and_the_document_answer() {
    let w = World::new(|_| {}).await;
    for path in [
        "/healthz",
        "/health",
        "/readyz",
        "/ca",
        "/openapi.json",
        "/api/v1/healthz",
    ] {
        assert_eq!(told(w.ask(Method::GET, path, None)).await.0, 200, "{path}");
    }
    for path in [
        "/jobs",
        "/api/v1/jobs",
        "/api/jobs",
        "/nodes",
        "/keys",
        "/queues",
        "/events",
    ] {
        let answer = w.ask(Method::GET, path, None).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(
            answer.headers()["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "unauthorized");
    }
    for (key, status) in [(Some("wrong"), 401), (Some(MASTER), 200)] {
        assert_eq!(told(w.ask(Method::GET, "/jobs", key)).await.0, status);
    }
    let header = w.client.get(w.url("/jobs")).header("X-API-Key", MASTER);
    assert_eq!(told(header).await.0, 200);
    drop(w.end().await);
}

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
async fn keys_do_what_their_scopes_say_rotate_and_end() {
    let w = World::new(|_| {}).await;
    let make = |scopes: Value| json!({"name": "ci", "scopes": scopes});
    let (status, made) = w.post("/keys", &make(json!(["submit"]))).await;
    assert_eq!(status, 201, "{made}");
    let (id, key) = (
        made["id"].as_str().unwrap().to_owned(),
        made["key"].as_str().unwrap().to_owned(),
    );
    let submit = |key: &str| {
        told(
            w.ask(Method::POST, "/jobs", Some(key))
                .json(&json!({"scenario": "1080p-h264"})),
        )
    };
    assert_eq!(submit(&key).await.0, 201);
    let (status, problem) = told(w.ask(Method::GET, "/jobs", Some(&key))).await;
    assert!(
        status == 403 && problem["detail"].as_str().unwrap().contains("read"),
        "{problem}"
    );
    let (_, list) = w.get("/keys").await;
    assert!(
        !list.to_string().contains(&key) && list["keys"][0]["scopes"] == json!(["submit"]),
        "{list}"
    );
    let (_, next) = w
        .post(&format!("/keys/{id}/rotate"), &json!({"overlap_sec": 60}))
        .await;
    let next = next["key"].as_str().unwrap().to_owned();
    assert_eq!((submit(&key).await.0, submit(&next).await.0), (201, 201));
    let revoke = w.ask(Method::DELETE, &format!("/keys/{id}"), Some(MASTER));
    assert_eq!(told(revoke).await.0, 204);
    assert_eq!((submit(&key).await.0, submit(&next).await.0), (401, 201));
    assert_eq!(
        told(w.ask(Method::DELETE, "/keys/none", Some(MASTER))).await.0,
        404
    );
    let place = w.end().await;
    let text = std::fs::read_to_string(place.path().join("master.d/audit.log")).unwrap();
    assert!(text.contains("lacks the scope read"), "{text}");
    for part in [
        "\"action\":\"POST /keys\"",
        "\"status\":403",
        "\"status\":401",
        &format!("\"actor\":\"key:{id}\""),
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains(&key), "the audit log holds a key");
}

#[tokio::test]
async fn whoami_tells_every_kind_of_caller_what_it_is_and_nobody_without_a_key() {
    let w = World::new(|_| {}).await;
    assert_eq!(told(w.ask(Method::GET, "/whoami", None)).await.0, 401);
    let (_, master) = w.get("/api/v1/whoami").await;
    assert_eq!(
        (&master["kind"], &master["scopes"], &master["id"]),
        (
            &json!("master"),
            &json!(["submit", "read", "operate", "admin"]),
            &Value::Null
        )
    );
    assert_eq!(
        master["ca_fingerprint"],
        w.running().security.authority.fingerprint()
    );
    let body = json!({"name": "ci", "scopes": ["submit"], "expires_in_sec": 60});
    let (_, made) = w.post("/keys", &body).await;
    let (_, token) = w.post("/tokens", &json!({})).await;
    let (_, joined) = w
        .post("/nodes/register", &json!({"address": "a", "node_id": "n1"}))
        .await;
    for (key, kind, id, scopes) in [
        (&made["key"], "key", &made["id"], json!(["submit"])),
        (&token["token"], "token", &token["id"], json!([])),
        (&joined["node_key"], "node", &json!("n1"), json!([])),
    ] {
        let (status, who) = told(w.ask(Method::GET, "/whoami", key.as_str())).await;
        assert_eq!(
            (status, &who["kind"], &who["id"], &who["scopes"]),
            (200, &json!(kind), id, &scopes)
        );
        assert_eq!(who["expires_at"].is_string(), kind != "node", "{who}");
    }
    drop(w.end().await);
}

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
async fn with_mtls_nodes_show_certificates_and_foreign_or_expired_ones_get_no_connection() {
    let w = World::new(|config| config.tls.client_certs = ClientCerts::Nodes).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    let (status, joined) = w
        .post(
            "/nodes/register",
            &json!({"address": "a", "node_id": "n1", "certificate_request": request}),
        )
        .await;
    assert_eq!(status, 201, "{joined}");
    assert_eq!(joined.get("node_key"), None);
    let pem = format!(
        "{}{}",
        joined["certificate"].as_str().unwrap(),
        key.serialize_pem()
    );
    let beat = |client: &Client| {
        client
            .post(w.url("/nodes/n1/heartbeat"))
            .json(&json!({"held": []}))
    };
    let node = client(w.running(), Some(&pem));
    assert_eq!(told(beat(&node)).await.0, 200);
    assert_eq!(told(beat(&w.client)).await.0, 401);
    let renewed = node
        .post(w.url("/nodes/n1/certificate"))
        .json(&json!({"certificate_request": request}));
    assert_eq!(told(renewed).await.0, 200);
    let old = Timestamp::now() - Duration::from_hours(24 * 60);
    let expired = w
        .running()
        .security
        .authority
        .issue_node("n1", &request, old)
        .unwrap();
    let expired = client(w.running(), Some(&format!("{expired}{}", key.serialize_pem())));
    assert!(
        beat(&expired).send().await.is_err(),
        "an expired certificate was taken"
    );
    let foreign = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .pem();
    let foreign = client(w.running(), Some(&format!("{foreign}{}", key.serialize_pem())));
    assert!(
        beat(&foreign).send().await.is_err(),
        "a foreign certificate was taken"
    );
    let removed = w.ask(Method::DELETE, "/nodes/n1", Some(MASTER));
    assert_eq!(told(removed).await.0, 200);
    assert_eq!(
        told(beat(&node)).await.0,
        401,
        "a removed node was let in by its old certificate"
    );
    drop(w.end().await);
}

#[tokio::test]
async fn whoever_does_not_trust_our_ca_gets_no_connection() {
    let w = World::new(|_| {}).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stranger = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    assert!(stranger.get(w.url("/healthz")).send().await.is_err());
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
async fn plain_http_and_an_open_api_exist_when_they_are_asked_for() {
    let w = World::new(|config| {
        config.tls.enabled = false;
        config.access.open_api = true;
        config.access.api_key = None;
    })
    .await;
    let url = format!("http://{}/jobs", w.running().api);
    assert_eq!(w.client.get(url).send().await.unwrap().status(), 200);
    drop(w.end().await);
}

#[tokio::test]
async fn keys_changed_on_disk_are_in_force_after_a_hangup() {
    let w = World::new(|_| {}).await;
    let path = w.place.path().join("master.d/credentials.json");
    let other = crate::security::book::Book::open(&path).unwrap();
    let made = other
        .create_key("k", [Scope::Read].into(), None, None, Timestamp::now())
        .unwrap();
    assert_eq!(told(w.ask(Method::GET, "/jobs", Some(&made.text))).await.0, 401);
    w.running().on_hangup().await.unwrap();
    assert_eq!(told(w.ask(Method::GET, "/jobs", Some(&made.text))).await.0, 200);
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
