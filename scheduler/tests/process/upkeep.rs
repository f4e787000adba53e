//! The verbs of the program: backups under way, restores, fingerprints, rotations, and what each refuses.

use std::os::unix::fs::PermissionsExt;

use reqwest::Method;
use serde_json::json;

use crate::server::{Place, client, said, told};

fn plain() -> serde_json::Value {
    json!({"scenario": "1080p-h264"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_scheduler_restores_after_it_was_stopped_and_not_before() {
    let place = Place::new("");
    let copy = place.path("copy.db");
    let name = copy.to_str().unwrap();
    let server = place.start();
    let (_, kept) = server.post("/jobs", &plain()).await;
    let (code, text) = said(&place.run(&["backup", name]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("copy.db ("), "{text}");
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let (code, text) = said(&place.run(&["backup", name]));
    assert!(code == Some(1) && text.contains("exists"), "{code:?} {text}");
    let (_, lost) = server.post("/jobs", &plain()).await;
    let (code, text) = said(&place.run(&["restore", name]));
    assert!(
        code == Some(3) && text.contains("another scheduler uses"),
        "{code:?} {text}"
    );
    server.stop();
    let (code, text) = said(&place.run(&["restore", name]));
    assert!(
        code == Some(0) && text.contains("what was there is"),
        "{code:?} {text}"
    );
    let server = place.start();
    let path = |job: &serde_json::Value| format!("/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(server.get(&path(&kept)).await.0, 200);
    assert_eq!(server.get(&path(&lost)).await.0, 404);
    server.stop();
}

#[test]
fn what_is_no_backup_or_newer_than_the_program_is_refused_by_name() {
    let place = Place::new("");
    let refused = |verb: &str, file: &str, part: &str| {
        let path = place.path(file);
        let (code, text) = said(&place.run(&[verb, path.to_str().unwrap()]));
        assert!(
            code == Some(1) && text.contains(part),
            "{verb} {file}: {code:?} {text}"
        );
    };
    // No database yet: a backup makes none.
    refused("backup", "copy.db", "queue.db");
    assert!(!place.database().exists() && !place.path("copy.db").exists());
    std::fs::write(
        place.path("text.db"),
        "no database at all, but long enough for a header".repeat(20),
    )
    .unwrap();
    refused("restore", "text.db", "text.db");
    refused("restore", "none.db", "none.db");
    drop(place.start());
    refused("backup", "nowhere/copy.db", "nowhere");
    let newer = place.path("newer.db");
    let (code, text) = said(&place.run(&["backup", newer.to_str().unwrap()]));
    assert_eq!(code, Some(0), "{text}");
    for path in [&newer, &place.database()] {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
    }
    refused("restore", "newer.db", "schema 99");
    refused("backup", "copy.db", "schema 99");
    let (code, text) = said(&place.run(&[]));
    assert!(
        code == Some(1) && text.contains("schema 99") && text.contains("newer program"),
        "{code:?} {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_those_who_trust_the_old_ca_get_in_until_it_is_forgotten() {
    let place = Place::new("");
    let (_, before) = said(&place.run(&["fingerprint"]));
    let server = place.start();
    assert!(
        server.log().contains(before.trim()),
        "the start tells the fingerprint"
    );
    let old = std::fs::read(place.path("queue.d/ca.crt")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    let body = json!({"address": "a", "node_id": "n1", "certificate_request": request});
    let (status, joined) = server.post("/nodes/register", &body).await;
    assert_eq!(status, 201, "{joined}");
    let identity = format!(
        "{}{}",
        joined["certificate"].as_str().unwrap(),
        key.serialize_pem()
    );
    let (code, text) = said(&place.run(&["rotate-ca"]));
    assert!(code == Some(0) && !text.contains(before.trim()), "{text}");
    server.stop();
    let server = place.start();
    let beat = |ca: &[u8]| {
        let request = client(ca, Some(&identity)).post(format!("{}/nodes/n1/heartbeat", server.url));
        told(request.json(&json!({"held": []})))
    };
    // Old trust and old certificate; new trust and old certificate.
    let new = std::fs::read(place.path("queue.d/ca.crt")).unwrap();
    assert_ne!(old, new);
    assert_eq!(beat(&old).await.0, 200);
    assert_eq!(beat(&new).await.0, 200);
    let (_, who) = server.get("/whoami").await;
    assert!(text.contains(who["ca_fingerprint"].as_str().unwrap()));
    server.stop();
    let (code, text) = said(&place.run(&["rotate-ca", "--forget-old"]));
    assert_eq!(code, Some(0), "{text}");
    let server = place.start();
    let ask = |ca: &[u8]| client(ca, None).get(format!("{}/healthz", server.url)).send();
    assert!(ask(&old).await.is_err(), "the old CA was forgotten");
    assert_eq!(ask(&new).await.unwrap().status(), 200);
    let stale = client(&new, Some(&identity)).request(Method::GET, format!("{}/whoami", server.url));
    assert!(stale.send().await.is_err(), "a certificate of the forgotten CA");
    server.stop();
}
