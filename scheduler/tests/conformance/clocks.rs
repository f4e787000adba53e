//! The wall clock is set, forth and back, while jobs run: leases, pauses and staleness are durations and notice nothing.

use ffrtmp_api::{FailureReason, JobState};

use crate::farm::{Farm, done, failed};
use crate::on_every_store;

const PLAIN: &str = r#"{"scenario":"1080p-h264"}"#;
const OTHER: &str = r#"{"scenario":"720p-vp9"}"#;
const DAY_MS: i64 = 86_400_000;
/// A bad time server, a summer time of old, a dead battery.
const STEPS: [i64; 4] = [DAY_MS, -3_600_000, -DAY_MS, -10_000 * DAY_MS];

#[test]
fn a_lease_ends_with_the_silence_of_its_node_whatever_the_wall_clock_says() {
    for by in STEPS {
        on_every_store(async |farm| {
            let node = farm.node("a", 1).await;
            let id = farm.submit(PLAIN).await;
            let grant = farm.claim(&node).await.unwrap();
            farm.start(&node, &grant).await.unwrap();
            farm.pass_beating(21, &node, &[&grant]).await;
            farm.clock.set_wall(by);
            farm.store.sweep().await.unwrap();
            assert_eq!(farm.job(id).await.status, JobState::Running, "set by {by} ms");
            // 20 s of silence are no lease, 32 s are.
            farm.clock.set_wall(-by);
            farm.pass(20).await;
            assert_eq!(
                farm.job(id).await.status,
                JobState::Running,
                "set back by {by} ms"
            );
            farm.clock.set_wall(by);
            farm.pass(12).await;
            assert_ne!(farm.job(id).await.status, JobState::Running, "set by {by} ms");
        });
    }
}

#[test]
fn a_pause_before_a_retry_lasts_as_long_as_it_was_to() {
    for by in STEPS {
        on_every_store(async |farm| {
            let node = farm.node("a", 1).await;
            let id = paused(farm, &node).await;
            farm.clock.set_wall(by);
            farm.store.sweep().await.unwrap();
            assert_eq!(farm.job(id).await.status, JobState::Retrying, "set by {by} ms");
            farm.pass(31).await;
            assert_eq!(farm.job(id).await.status, JobState::Queued, "set by {by} ms");
        });
    }
}

#[test]
fn a_clock_that_was_set_while_the_scheduler_was_down_holds_no_job_back() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for by in STEPS {
        for farm in crate::farm::farms() {
            runtime.block_on(async {
                let node = farm.node("a", 2).await;
                let running = farm.submit(PLAIN).await;
                let grant = farm.claim(&node).await.unwrap();
                farm.start(&node, &grant).await.unwrap();
                let pausing = paused(&farm, &node).await;
                let farm = {
                    farm.clock.set_wall(by);
                    farm.reopen()
                };
                farm.store.sweep().await.unwrap();
                assert_eq!(
                    farm.job(running).await.status,
                    JobState::Running,
                    "set by {by} ms"
                );
                farm.pass_beating(31, &node, &[&grant]).await;
                assert_eq!(farm.job(pausing).await.status, JobState::Queued, "set by {by} ms");
                farm.finish(&node, &grant, done()).await.unwrap();
                assert_eq!(farm.job(running).await.status, JobState::Completed);
            });
        }
    }
}

/// A job that waits for its next try.
async fn paused(farm: &Farm, node: &ffrtmp_api::NodeId) -> ffrtmp_api::JobUuid {
    let id = farm.submit(OTHER).await;
    let grant = farm.claim(node).await.unwrap();
    farm.finish(node, &grant, failed(FailureReason::NetworkError))
        .await
        .unwrap();
    assert_eq!(farm.job(id).await.status, JobState::Retrying);
    id
}
