//! The power fails at random under load, on a disk that forgets what nobody synced; and a disk that fills up.
//!
//! 8 cuts by default, 20 with `FFRTMP_TEST_LONG`.

use std::time::Duration;

use ffrtmp_api::JobState;
use rand::RngExt as _;
use serde_json::json;

use crate::audit;
use crate::crash::{kept, verdict};
use crate::drive::{Drive, inside};
use crate::farm::Farm;
use crate::server::Place;

fn cuts() -> usize {
    if std::env::var_os("FFRTMP_TEST_LONG").is_some() {
        20
    } else {
        8
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_under_load_lose_nothing_that_was_acknowledged() {
    if !inside("power::power_cuts_under_load_lose_nothing_that_was_acknowledged") {
        return;
    }
    let mut drive = Drive::new(4 << 30);
    let place = Place::at(drive.path(), "");
    let mut server = place.start();
    let farm = Farm::start(&server, 6, 2).await.on_a_bad_disk();
    for _ in 0..cuts() {
        let life = rand::rng().random_range(50..500);
        tokio::time::sleep(Duration::from_millis(life)).await;
        drive.disk().cut();
        // Whoever was answered before the cut is in these books; so may be some who were answered a moment later from
        // what was synced a moment before.
        server.kill();
        farm.moved(None);
        let known = farm.ledger.submitted.lock().unwrap().clone();
        let survives = [0.0, 0.5, 0.9, 1.0][rand::rng().random_range(0..4)];
        drive.restore(survives);
        kept(&known, &audit::read(&place.database()));
        server = place.start();
        farm.moved(Some(&server));
    }
    let ledger = farm.end().await;
    server.stop();
    verdict(&ledger, &audit::read(&place.database()));
    eprintln!(
        "{} cuts: {} acknowledged jobs, {} results, {} syncs",
        cuts(),
        ledger.submitted.lock().unwrap().len(),
        ledger.completed.lock().unwrap().len(),
        drive.disk().syncs
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_submissions_are_refused_and_running_jobs_and_cancels_go_on() {
    if !inside("power::on_a_full_disk_submissions_are_refused_and_running_jobs_and_cancels_go_on") {
        return;
    }
    let drive = Drive::new(256 << 20);
    let place = Place::at(drive.path(), "limits: {disk_reserve_bytes: 16777216}");
    let server = place.start();
    let job = json!({"scenario": "1080p-h264"});
    let jobs = json!({"jobs": vec![job.clone(); 200]});
    let (_, batch) = server.post("/jobs/batch", &jobs).await;
    assert_eq!(batch["created"], 200, "{batch}");
    let (_, joined) = server
        .post(
            "/nodes/register",
            &json!({"address": "a", "node_id": "n1", "slots": 64}),
        )
        .await;
    let key = joined["node_key"].as_str().unwrap().to_owned();
    let node = async |path: &str, body: &serde_json::Value| {
        let request = server.client.post(format!("{}/nodes/n1/{path}", server.url));
        crate::server::told(request.bearer_auth(&key).json(body)).await
    };
    // Half of the reserve is left: less than submissions may use, enough for what runs.
    let used = drive.disk().used();
    drive.disk().capacity = used + (8 << 20);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for path in ["/jobs", "/jobs/batch"] {
        let body = if path == "/jobs" { &job } else { &jobs };
        let (status, problem) = server.post(path, body).await;
        assert_eq!(
            (status, &problem["code"]),
            (507, &json!("storage_full")),
            "{problem}"
        );
    }
    assert_eq!(server.get("/readyz").await.0, 503);
    assert_eq!(server.get("/healthz").await.0, 200);
    let (status, grants) = node("claim", &json!({"claim_id": "c", "max": 10})).await;
    assert_eq!((status, grants["grants"].as_array().unwrap().len()), (200, 10));
    for grant in grants["grants"].as_array().unwrap() {
        for more in [
            json!({"event": "started", "pid": 7, "engine": "ffmpeg"}),
            json!({"event": "finished", "result": {"status": "completed", "duration_sec": 1.5}}),
        ] {
            let mut body =
                json!({"job_id": grant["job_id"], "attempt": grant["attempt"], "epoch": grant["epoch"]});
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let (status, answer) = node("reports", &body).await;
            assert_eq!(
                (status, &answer["verdict"]),
                (200, &json!("accepted")),
                "{answer}"
            );
        }
    }
    for number in 101..=200 {
        let (status, answer) = server.post(&format!("/jobs/{number}/cancel"), &json!({})).await;
        assert_eq!(status, 200, "{answer}");
    }
    // Not a byte is left: what is asked is answered, what would be written is refused, nothing is damaged.
    let used = drive.disk().used();
    drive.disk().capacity = used;
    assert_eq!(server.get("/jobs/1").await.0, 200);
    assert_eq!(server.post("/jobs", &job).await.0, 507);
    drive.disk().capacity = 256 << 20;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(server.post("/jobs", &job).await.0, 201, "space is back");
    server.stop();
    let rows = audit::read(&place.database());
    let count = |state| rows.values().filter(|row| row.state == state).count();
    assert_eq!(
        (count(JobState::Completed), count(JobState::Canceled), rows.len()),
        (10, 100, 201)
    );
}
