//! What a write of a node is worth: once, in force, and by the node that was given the attempt.

use ffrtmp_api::{
    Action, AttemptReport, AttemptResult, Epoch, FailureReason, JobState, ReportAnswer, ResultStatus,
    StaleAdvice,
};
use ffrtmp_scheduler::store::{Control, StoreError};

use crate::farm::{done, failed};
use crate::on_every_store;

const PLAIN: &str = r#"{"scenario":"1080p-h264"}"#;

fn stale(answer: Result<ReportAnswer, StoreError>, advice: StaleAdvice) {
    match answer {
        Err(StoreError::Stale { advice: given, .. }) => assert_eq!(given, advice),
        other => panic!("{other:?} instead of stale"),
    }
}

#[test]
fn a_result_is_taken_once_and_the_same_again_is_answered_the_same() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        // The word of the start was lost: the result alone is enough.
        let first = farm.finish(&node, &grant, done()).await.unwrap();
        assert_eq!(first, ReportAnswer::Accepted);
        let again = farm.finish(&node, &grant, done()).await.unwrap();
        assert_eq!(again, ReportAnswer::AlreadyAccepted);
        let other = farm
            .finish(&node, &grant, failed(FailureReason::RuntimeError))
            .await;
        stale(other, StaleAdvice::Discard);
        assert_eq!(farm.job(id).await.status, JobState::Completed);
    });
}

#[test]
fn another_node_or_another_epoch_writes_nothing() {
    on_every_store(async |farm| {
        let (node, other) = (farm.node("a", 1).await, farm.node("b", 1).await);
        let id = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        stale(farm.finish(&other, &grant, done()).await, StaleAdvice::Discard);
        let mut forged = grant.clone();
        forged.key.epoch = Epoch(grant.key.epoch.0 + 1);
        stale(farm.start(&node, &forged).await, StaleAdvice::Stop);
        forged = grant.clone();
        forged.key.attempt += 1;
        stale(farm.finish(&node, &forged, done()).await, StaleAdvice::Discard);
        assert_eq!(farm.job(id).await.status, JobState::Assigned);
    });
}

#[test]
fn a_cancelled_job_never_succeeds_and_its_slot_is_free_once_it_is_gone() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        let before = farm.store.orders(node.clone(), 0, 0).await.unwrap();
        let job = farm.store.control(id.into(), Control::Cancel).await.unwrap();
        assert_eq!(job.status, JobState::Canceled);
        let orders = farm.store.orders(node.clone(), before.version, 5).await.unwrap();
        assert_eq!(orders.orders[0].action, Action::Cancel);
        assert!(farm.store.control(id.into(), Control::Retry).await.is_err());
        farm.submit(PLAIN).await;
        assert!(farm.claim(&node).await.is_none(), "its slot is still taken");
        let answer = farm.finish(&node, &grant, done()).await.unwrap();
        let discard = ReportAnswer::Noted {
            advice: StaleAdvice::Discard,
        };
        assert_eq!(answer, discard);
        assert_eq!(farm.finish(&node, &grant, done()).await.unwrap(), discard);
        assert_eq!(farm.job(id).await.status, JobState::Canceled);
        assert!(farm.claim(&node).await.is_some());
    });
}

#[test]
fn a_zombie_that_returns_after_its_job_went_on_is_told_to_stop() {
    on_every_store(async |farm| {
        let zombie = farm.node("zombie", 1).await;
        let id = farm.submit(PLAIN).await;
        let old = farm.claim(&zombie).await.unwrap();
        farm.start(&zombie, &old).await.unwrap();
        farm.pass(31).await;
        assert_eq!(farm.story(id).await, "queued assigned running retrying queued");
        let heir = farm.node("heir", 1).await;
        let new = farm.claim(&heir).await.unwrap();
        assert!(old.key.epoch < new.key.epoch);
        let orders = farm.beat(&zombie, &[&old], 9).await;
        assert_eq!(orders[0].action, Action::Stop);
        stale(farm.finish(&zombie, &old, done()).await, StaleAdvice::Discard);
        farm.finish(&heir, &new, done()).await.unwrap();
        let job = farm.job(id).await;
        assert_eq!(
            (job.status, job.retry_count, job.node_losses),
            (JobState::Completed, 0, 1)
        );
    });
}

#[test]
fn a_node_that_comes_back_in_time_goes_on_with_the_same_attempt() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        farm.pass(29).await;
        assert!(farm.beat(&node, &[&grant], 5).await.is_empty());
        assert_eq!(
            farm.finish(&node, &grant, done()).await.unwrap(),
            ReportAnswer::Accepted
        );
    });
}

#[test]
fn a_grant_whose_answer_was_lost_is_taken_back_and_costs_nothing() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(PLAIN).await;
        let lost = farm.claim(&node).await.unwrap();
        farm.beat(&node, &[], 0).await;
        assert_eq!(farm.job(id).await.status, JobState::Assigned, "too early");
        farm.clock.pass(10_000);
        farm.beat(&node, &[], 0).await;
        let job = farm.job(id).await;
        assert_eq!((job.status, job.retry_count), (JobState::Queued, 0));
        stale(farm.start(&node, &lost).await, StaleAdvice::Stop);
        assert_eq!(farm.claim(&node).await.unwrap().key.attempt, 2);
    });
}

#[test]
fn no_progress_means_timed_out_then_ended_and_only_then_tried_again() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(r#"{"scenario":"live-4k","queue":"live"}"#).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        farm.pass_beating(302, &node, &[&grant]).await;
        assert_eq!(farm.job(id).await.status, JobState::TimedOut);
        let orders = farm.beat(&node, &[&grant], 0).await;
        assert_eq!(orders[0].action, Action::Stop);
        // Its late success is noted and not taken; with it the process is gone and the job goes on.
        let answer = farm.finish(&node, &grant, done()).await.unwrap();
        assert!(matches!(answer, ReportAnswer::Noted { .. }));
        // The answer was lost: the same result again is no more welcome than before.
        let again = farm.finish(&node, &grant, done()).await.unwrap();
        assert_eq!(again, answer);
        let job = farm.job(id).await;
        assert_eq!(
            (job.status, job.failure_reason),
            (JobState::Retrying, Some(FailureReason::Stalled))
        );
    });
}

#[test]
fn progress_keeps_a_job_from_going_stale_and_batch_work_has_longer() {
    on_every_store(async |farm| {
        let (fast, slow) = (farm.node("a", 1).await, farm.node("b", 1).await);
        let live = farm.submit(r#"{"scenario":"live-4k","queue":"live"}"#).await;
        let batch = farm.submit(r#"{"scenario":"transcode","queue":"batch"}"#).await;
        let moving = farm.claim(&fast).await.unwrap();
        let still = farm.claim(&slow).await.unwrap();
        for frame in 0..80 {
            farm.clock.pass(10_000);
            // Both are held; only the live one moves.
            farm.beat(&fast, &[&moving], frame).await;
            farm.beat(&slow, &[&still], 0).await;
            farm.store.sweep().await.unwrap();
        }
        let live = farm.job(live).await;
        assert_eq!(live.status, JobState::Running);
        assert_eq!(live.progress_detail.unwrap().frame, Some(79));
        assert_eq!(farm.job(batch).await.status, JobState::Running);
        farm.pass_beating(1020, &slow, &[&still]).await;
        assert_eq!(farm.job(batch).await.status, JobState::TimedOut);
    });
}

#[test]
fn its_own_time_limit_is_final() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        let result = AttemptResult::new(ResultStatus::TimedOut);
        farm.finish(&node, &grant, result).await.unwrap();
        assert_eq!(farm.story(id).await, "queued assigned running timed_out failed");
    });
}

#[test]
fn a_pause_reaches_the_node_and_keeps_the_job_from_going_stale() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(r#"{"scenario":"live-4k","queue":"live"}"#).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        assert!(
            farm.store
                .control(id.into(), Control::Pause)
                .await
                .unwrap()
                .paused
        );
        assert_eq!(farm.beat(&node, &[&grant], 0).await[0].action, Action::Pause);
        farm.pass_beating(600, &node, &[&grant]).await;
        let job = farm.store.control(id.into(), Control::Resume).await.unwrap();
        assert_eq!((job.status, job.paused), (JobState::Running, false));
    });
}

#[test]
fn a_node_gives_back_what_it_did_not_start_and_nothing_else() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        let back = || AttemptReport::Returned {
            reason: "draining".to_owned(),
        };
        farm.store.report(node.clone(), grant.key, back()).await.unwrap();
        assert_eq!(farm.job(id).await.status, JobState::Queued);
        let again = farm.store.report(node.clone(), grant.key, back()).await;
        assert_eq!(again, Ok(ReportAnswer::AlreadyAccepted));
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        assert!(farm.store.report(node, grant.key, back()).await.is_err());
    });
}
