//! Who may do what.

use std::time::Duration;

use ffrtmp_api::Scope;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::config::ClientCerts;

use super::*;

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
