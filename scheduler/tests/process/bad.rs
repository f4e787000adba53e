//! What a scheduler refuses, and that it goes on after it: words, numbers, bodies, keys, certificates.

use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{MASTER, Place, Server, client, told};

/// A job with one thing wrong, and the field that is to be named.
const WRONG: &[(&str, &str)] = &[
    ("{}", "scenario"),
    (r#"{"scenario": ""}"#, "scenario"),
    (r#"{"scenario": "1080q-h264"}"#, "scenario"),
    (r#"{"scenario": "1080p-h264; rm -rf /"}"#, "scenario"),
    (r#"{"scenario": -1}"#, "scenario"),
    (r#"{"scenario": "1080p-h264", "engine": "vlc"}"#, "engine"),
    (r#"{"scenario": "1080p-h264", "queue": "urgent"}"#, "queue"),
    (r#"{"scenario": "1080p-h264", "priority": "highest"}"#, "priority"),
    (r#"{"scenario": "1080p-h264", "priority": 1}"#, "priority"),
    (
        r#"{"scenario": "1080p-h264", "classification": "x"}"#,
        "classification",
    ),
    (r#"{"scenario": "1080p-h264", "max_retries": -1}"#, "max_retries"),
    (r#"{"scenario": "1080p-h264", "max_retries": 101}"#, "max_retries"),
    (r#"{"scenario": "1080p-h264", "slots": -1}"#, "slots"),
    (r#"{"scenario": "1080p-h264", "slots": 0}"#, "slots"),
    (
        r#"{"scenario": "1080p-h264", "parameters": {"duration": -1}}"#,
        "parameters.duration",
    ),
    (
        r#"{"scenario": "1080p-h264", "parameters": {"duration": 1e300}}"#,
        "parameters.duration",
    ),
    (
        r#"{"scenario": "1080p-h264", "parameters": {"bitrate": -5}}"#,
        "parameters.bitrate",
    ),
    (
        r#"{"scenario": "1080p-h264", "resource_limits": {"max_cpu_percent": -1}}"#,
        "resource_limits.max_cpu_percent",
    ),
    (
        r#"{"scenario": "1080p-h264", "resource_limits": {"max_memory_mb": -1}}"#,
        "resource_limits.max_memory_mb",
    ),
    (
        r#"{"scenario": "1080p-h264", "resource_limits": {"timeout_sec": -1}}"#,
        "resource_limits.timeout_sec",
    ),
    (
        r#"{"scenario": "1080p-h264", "wrapper_constraints": {"cpu_quota_percent": -1}}"#,
        "wrapper_constraints.cpu_quota_percent",
    ),
    (
        r#"{"scenario": "1080p-h264", "wrapper_constraints": {"memory_limit_mb": -1}}"#,
        "wrapper_constraints.memory_limit_mb",
    ),
    (
        r#"{"scenario": "1080p-h264", "wrapper_constraints": {"nice_priority": -99}}"#,
        "wrapper_constraints.nice_priority",
    ),
    (r#"{"scenario": "1080p-h264", "tenant_id": ""}"#, "tenant_id"),
    (r#"{"scenario": "1080p-h264", "scenarios": "x"}"#, "scenarios"),
    ("[]", "body"),
    ("null", "body"),
    ("{\"scenario\": \"\\u0000\"}", "scenario"),
    ("\u{feff}{}", "body"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_one_thing_wrong_is_refused_by_the_name_of_that_thing() {
    let place = Place::new("");
    let server = place.start();
    for (body, field) in WRONG {
        let request = server.ask(Method::POST, "/jobs").body(*body);
        let (status, problem) = told(request).await;
        let fields: Vec<&str> = problem["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|error| error["field"].as_str())
            .collect();
        assert!(
            status == 400 && fields.contains(field),
            "{body}: {status} {problem}"
        );
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| !detail.contains('\0')),
            "{problem}"
        );
    }
    let (_, list) = server.get("/jobs").await;
    assert_eq!(list["count"], 0, "a refused job was kept");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_ten_mebibytes_are_refused_and_cost_the_next_caller_nothing() {
    let place = Place::new("");
    let server = place.start();
    let padded = |bytes: usize| {
        let mut body = br#"{"scenario": "1080p-h264", "confidence": ""#.to_vec();
        body.resize(bytes, b'x');
        body.extend(b"\"}");
        body
    };
    for path in ["/jobs", "/jobs/batch", "/keys", "/nodes/register", "/backup"] {
        let sent = server.ask(Method::POST, path).body(padded(10 << 20)).send().await;
        // The connection may be closed before the body is through; then there is no answer to read.
        if let Ok(answer) = sent {
            assert_eq!(answer.status(), 413, "{path}");
        }
        assert_eq!(server.get("/jobs").await.0, 200, "after {path}");
    }
    let chunks = tokio_stream::iter((0..160).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 << 10])));
    let unannounced = server
        .ask(Method::POST, "/jobs")
        .body(reqwest::Body::wrap_stream(chunks));
    if let Ok(answer) = unannounced.send().await {
        assert_eq!(answer.status(), 413);
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_is_told_so_however_large_the_body() {
    let place = Place::new("");
    let server = place.start();
    for _ in 0..20 {
        let body = vec![b'x'; 1 << 20];
        let sent = server
            .ask(Method::POST, "/nodes/someone/reports")
            .body(body)
            .send()
            .await;
        assert_eq!(sent.expect("an answer, not a closed connection").status(), 403);
    }
    server.stop();
}

async fn whoami(server: &Server, key: &str) -> (u16, Value) {
    let request = server.client.get(format!("{}/whoami", server.url));
    told(request.bearer_auth(key)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_expired_and_revoked_keys_are_told_apart_from_each_other_and_from_a_missing_right() {
    let place = Place::new("");
    let server = place.start();
    let make = async |body: Value| server.post("/keys", &body).await.1;
    let key = |made: &Value| made["key"].as_str().unwrap().to_owned();
    let short = make(json!({"name": "short", "scopes": ["read"], "expires_in_sec": 1})).await;
    let gone = make(json!({"name": "gone", "scopes": ["read"]})).await;
    let reader = make(json!({"name": "reader", "scopes": ["read"]})).await;
    let revoke = format!("/keys/{}", gone["id"].as_str().unwrap());
    assert_eq!(
        server.ask(Method::DELETE, &revoke).send().await.unwrap().status(),
        204
    );
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut mistyped = key(&reader);
    mistyped.pop();
    let other = if key(&reader).ends_with('a') { 'b' } else { 'a' };
    mistyped.push(other);
    let padded = "x".repeat(2_000);
    for (shown, part) in [
        (key(&short), "expired"),
        (key(&gone), "revoked"),
        (mistyped, "not valid"),
        (format!("{MASTER}x"), "not valid"),
        (padded, "not valid"),
    ] {
        let (status, problem) = whoami(&server, &shown).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            status == 401 && detail.contains(part),
            "{part}: {status} {problem}"
        );
        assert!(
            !problem.to_string().contains(&shown),
            "the answer repeats the key"
        );
    }
    let request = server.client.post(format!("{}/jobs", server.url));
    let (status, problem) = told(
        request
            .bearer_auth(key(&reader))
            .json(&json!({"scenario": "1080p-h264"})),
    )
    .await;
    assert_eq!(
        (status, &problem["code"]),
        (403, &json!("forbidden")),
        "{problem}"
    );
    let log = server.stop();
    assert!(
        !log.contains(&key(&reader)) && !log.contains(MASTER),
        "the log holds a key"
    );
}

/// A client certificate of this scheduler's CA for node n1, valid over these days from now; PEM with its key.
fn identity(place: &Place, from: i64, to: i64) -> String {
    let file = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(
        &file("queue.d/ca.crt"),
        KeyPair::from_pem(&file("queue.d/ca.key")).unwrap(),
    )
    .unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "n1");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let at = |days: i64| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let seconds = now.as_secs().checked_add_signed(days * 86_400).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (params.not_before, params.not_after) = (at(from), at(to));
    let cert = params.signed_by(&key, &issuer).unwrap();
    format!("{}{}", cert.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_expired_not_yet_valid_or_of_strangers_open_no_connection() {
    let place = Place::new("");
    let server = place.start();
    let body = json!({"address": "a", "node_id": "n1"});
    assert_eq!(server.post("/nodes/register", &body).await.0, 201);
    let ca = std::fs::read(place.path("queue.d/ca.crt")).unwrap();
    let beat = async |identity: &str| {
        let request = client(&ca, Some(identity)).post(format!("{}/nodes/n1/heartbeat", server.url));
        request.json(&json!({"held": []})).send().await
    };
    assert_eq!(beat(&identity(&place, -1, 1)).await.unwrap().status(), 200);
    for (from, to) in [(-9, -2), (2, 9)] {
        assert!(
            beat(&identity(&place, from, to)).await.is_err(),
            "{from} to {to} days"
        );
    }
    let stranger = Place::new("");
    drop(stranger.start());
    assert!(beat(&identity(&stranger, -1, 1)).await.is_err(), "of another CA");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_certificate_that_expired_while_it_was_down_is_renewed_at_the_start() {
    let place = Place::new("");
    place.start().stop();
    let file = |name: &str| place.path(&format!("queue.d/{name}"));
    let ca = std::fs::read_to_string(file("ca.crt")).unwrap();
    let key = KeyPair::from_pem(&std::fs::read_to_string(file("ca.key")).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca, key).unwrap();
    let own = KeyPair::generate().unwrap();
    let mut request = CertificateSigningRequestParams::from_pem(
        &CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
            .unwrap()
            .serialize_request(&own)
            .unwrap()
            .pem()
            .unwrap(),
    )
    .unwrap();
    request.params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    request.params.not_after = rcgen::date_time_ymd(2020, 4, 1);
    let old = request.signed_by(&issuer).unwrap().pem();
    std::fs::write(file("server.crt"), format!("{old}{ca}")).unwrap();
    std::fs::write(file("server.key"), own.serialize_pem()).unwrap();
    let server = place.start();
    assert_eq!(server.get("/jobs").await.0, 200);
    assert!(
        !std::fs::read_to_string(file("server.crt"))
            .unwrap()
            .starts_with(&old)
    );
    server.stop();
}
