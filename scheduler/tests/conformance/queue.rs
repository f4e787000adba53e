//! Submission, order, claims and what becomes of them.

use ffrtmp_api::{
    ClaimRequest, FailureReason, ItemOutcome, JobEdit, JobState, NodeInfo, Priority, WaitReason,
};
use ffrtmp_scheduler::store::{Control, StoreError};

use crate::farm::{done, failed};
use crate::on_every_store;

const PLAIN: &str = r#"{"scenario":"1080p-h264"}"#;

#[test]
fn a_job_goes_from_submission_to_completion() {
    on_every_store(async |farm| {
        let id = farm.submit(PLAIN).await;
        let node = farm.node("a", 1).await;
        let grant = farm.claim(&node).await.unwrap();
        assert_eq!((grant.key.job_id, grant.key.attempt), (id, 1));
        assert_eq!(farm.job(id).await.status, JobState::Assigned);
        farm.start(&node, &grant).await.unwrap();
        farm.finish(&node, &grant, done()).await.unwrap();
        let job = farm.job(id).await;
        assert_eq!(job.status, JobState::Completed);
        assert_eq!(job.platform_sla_compliant, Some(true));
        assert_eq!(job.progress, Some(100.0));
        assert_eq!(farm.story(id).await, "queued assigned running completed");
        assert_eq!(job.attempts.unwrap().len(), 1);
    });
}

#[test]
fn the_same_key_gives_the_same_job_and_another_body_is_refused() {
    on_every_store(async |farm| {
        let keyed = r#"{"scenario":"1080p-h264","idempotency_key":"k"}"#;
        let id = farm.submit(keyed).await;
        let again = vec![
            farm.new_job(keyed),
            farm.new_job(r#"{"scenario":"720p-vp9","idempotency_key":"k"}"#),
        ];
        let items = farm.store.submit("tests".to_owned(), again).await.unwrap();
        assert!(matches!(items[0], ItemOutcome::Existing { id: same, .. } if same == id));
        assert!(matches!(items[1], ItemOutcome::KeyReused { id: same } if same == id));
        let other = farm
            .store
            .submit("another key".to_owned(), vec![farm.new_job(keyed)])
            .await
            .unwrap();
        assert!(matches!(other[0], ItemOutcome::Created { .. }), "scopes met");
    });
}

#[test]
fn a_bad_item_is_refused_by_field_and_its_batch_mates_are_taken() {
    on_every_store(async |farm| {
        let jobs = vec![farm.new_job(r#"{"scenario":"1080p-h26x"}"#), farm.new_job(PLAIN)];
        let items = farm.store.submit("tests".to_owned(), jobs).await.unwrap();
        assert!(matches!(&items[0], ItemOutcome::Refused { errors } if errors[0].field == "scenario"));
        assert!(matches!(items[1], ItemOutcome::Created { .. }));
        let stats = farm.store.stats().await.unwrap();
        assert_eq!(stats.jobs_by_state.get(&JobState::Queued), Some(&1));
    });
}

#[test]
fn urgent_work_first_and_a_gpu_job_blocks_no_cpu_node() {
    on_every_store(async |farm| {
        let batch = farm.submit(r#"{"scenario":"transcode","queue":"batch"}"#).await;
        let high = farm.submit(r#"{"scenario":"transcode","priority":"high"}"#).await;
        let live = farm.submit(r#"{"scenario":"live-4k","queue":"live"}"#).await;
        let gpu = farm
            .submit(r#"{"scenario":"transcode","queue":"live","priority":"live","encoder":"h264_nvenc"}"#)
            .await;
        let node = farm.node("cpu", 10).await;
        let mut order = Vec::new();
        while let Some(grant) = farm.claim(&node).await {
            order.push(grant.key.job_id);
        }
        assert_eq!(order, [live, high, batch]);
        let why = farm.store.explain(gpu.into()).await.unwrap();
        assert_eq!(
            why.reasons,
            [WaitReason::NoCapableNode {
                missing: vec!["a GPU".to_owned()]
            }]
        );
        let info = NodeInfo {
            has_gpu: true,
            encoders: Some(vec!["h264_nvenc".to_owned()]),
            ..NodeInfo::default()
        };
        let node = farm.node_with("gpu", info).await;
        assert_eq!(farm.claim(&node).await.unwrap().key.job_id, gpu);
    });
}

#[test]
fn a_waiting_claim_gets_the_job_in_the_commit_of_its_submission() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let request = ClaimRequest {
            claim_id: "c1".to_owned(),
            max: 1,
            wait_sec: 30,
        };
        let claim = farm.store.claim(node.clone(), request.clone());
        let id = farm.submit(PLAIN).await;
        // Assigned by the time the submission is answered: both were one commit.
        assert_eq!(farm.job(id).await.status, JobState::Assigned);
        let first = claim.await.unwrap();
        assert_eq!(first.grants[0].key.job_id, id);
        // The answer was lost: the same claim gets the same grant again.
        let second = farm.store.claim(node, request).await.unwrap();
        assert_eq!(first, second);
    });
}

#[test]
fn failures_of_the_program_are_final_and_those_of_the_platform_are_tried_again() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let own = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.finish(&node, &grant, failed(FailureReason::RuntimeError))
            .await
            .unwrap();
        let job = farm.job(own).await;
        assert_eq!((job.status, job.retry_count), (JobState::Failed, 0));
        assert_eq!(job.error.as_deref(), Some("it was runtime_error"));
        let ours = farm.submit(r#"{"scenario":"720p-vp9","max_retries":2}"#).await;
        for tried in 1..=2 {
            let grant = farm.claim(&node).await.unwrap();
            farm.finish(&node, &grant, failed(FailureReason::NetworkError))
                .await
                .unwrap();
            let job = farm.job(ours).await;
            assert_eq!((job.status, job.retry_count), (JobState::Retrying, tried));
            assert!(farm.claim(&node).await.is_none(), "no pause before the retry");
            farm.pass_beating(10, &node, &[]).await;
        }
        let grant = farm.claim(&node).await.unwrap();
        farm.finish(&node, &grant, failed(FailureReason::NetworkError))
            .await
            .unwrap();
        assert_eq!(farm.job(ours).await.status, JobState::Failed);
        farm.store.control(ours.into(), Control::Retry).await.unwrap();
        assert_eq!(farm.claim(&node).await.unwrap().key.attempt, 4);
    });
}

#[test]
fn a_node_that_fails_a_kind_of_work_is_not_given_it_for_a_while() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        for _ in 0..3 {
            farm.submit(r#"{"scenario":"1080p-h265","max_retries":0}"#).await;
            let grant = farm.claim(&node).await.unwrap();
            farm.finish(&node, &grant, failed(FailureReason::PlatformError))
                .await
                .unwrap();
        }
        let next = farm.submit(r#"{"scenario":"1080p-h265"}"#).await;
        assert!(farm.claim(&node).await.is_none());
        let why = farm.store.explain(next.into()).await.unwrap();
        assert_eq!(why.reasons, [WaitReason::Blocklisted]);
        farm.submit(r#"{"scenario":"720p-vp9"}"#).await;
        assert!(farm.claim(&node).await.is_some(), "other work is not blocked");
        assert_eq!(farm.store.node(node).await.unwrap().blocked.len(), 1);
    });
}

#[test]
fn held_jobs_wait_and_edits_move_them() {
    on_every_store(async |farm| {
        let node = farm.node("a", 4).await;
        let one = farm.submit(r#"{"scenario":"transcode","hold":true}"#).await;
        let two = farm.submit(r#"{"scenario":"transcode"}"#).await;
        let three = farm.submit(r#"{"scenario":"transcode","priority":"low"}"#).await;
        let edit = JobEdit {
            priority: Some(Priority::High),
            ..JobEdit::default()
        };
        farm.store.edit(three.into(), edit).await.unwrap();
        assert_eq!(farm.claim(&node).await.unwrap().key.job_id, three);
        assert_eq!(farm.claim(&node).await.unwrap().key.job_id, two);
        assert!(farm.claim(&node).await.is_none());
        let why = farm.store.explain(one.into()).await.unwrap();
        assert_eq!(why.reasons[0], WaitReason::Held);
        farm.store.control(one.into(), Control::Resume).await.unwrap();
        assert_eq!(farm.claim(&node).await.unwrap().key.job_id, one);
        assert!(farm.store.edit(one.into(), edit).await.is_err());
    });
}

#[test]
fn a_tenant_runs_no_more_than_it_may() {
    on_every_store(async |farm| {
        let node = farm.node("a", 4).await;
        farm.store.set_tenant("t".to_owned(), Some(1)).await.unwrap();
        let one = farm.submit(r#"{"scenario":"transcode","tenant_id":"t"}"#).await;
        let two = farm.submit(r#"{"scenario":"transcode","tenant_id":"t"}"#).await;
        let grant = farm.claim(&node).await.unwrap();
        assert_eq!(grant.key.job_id, one);
        assert!(farm.claim(&node).await.is_none());
        let why = farm.store.explain(two.into()).await.unwrap();
        assert!(why.reasons.contains(&WaitReason::TenantCap { cap: 1 }), "{why:?}");
        farm.finish(&node, &grant, done()).await.unwrap();
        assert_eq!(farm.claim(&node).await.unwrap().key.job_id, two);
    });
}

#[test]
fn explain_estimates_a_start_from_history() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        farm.clock.pass(20_000);
        farm.finish(&node, &grant, done()).await.unwrap();
        farm.submit(PLAIN).await;
        let running = farm.claim(&node).await.unwrap();
        farm.beat(&node, &[&running], 1).await;
        farm.submit(PLAIN).await;
        let last = farm.submit(PLAIN).await;
        let why = farm.store.explain(last.into()).await.unwrap();
        // One job ahead of it on one slot, 20 s each, the running one half done.
        assert_eq!((why.ahead, why.start_estimate_sec), (Some(1), Some(30)));
        assert_eq!(
            why.reasons,
            [WaitReason::CapableNodesBusy, WaitReason::Behind { jobs: 1 }]
        );
    });
}

#[test]
fn a_live_job_that_no_node_can_run_is_rejected_after_a_while() {
    on_every_store(async |farm| {
        let live = farm
            .submit(r#"{"scenario":"live-4k","queue":"live","encoder":"h264_nvenc"}"#)
            .await;
        let other = farm
            .submit(r#"{"scenario":"transcode","encoder":"h264_nvenc"}"#)
            .await;
        farm.clock.pass(299_000);
        farm.pass(3).await;
        assert_eq!(farm.job(live).await.status, JobState::Rejected);
        assert_eq!(farm.job(other).await.status, JobState::Queued);
    });
}

#[test]
fn submissions_that_wait_together_share_commits() {
    on_every_store(async |farm| {
        let before = farm.store.health().await.unwrap();
        let jobs: Vec<_> = (0..500).map(|_| farm.new_job(PLAIN)).collect();
        let answers: Vec<_> = jobs
            .into_iter()
            .map(|job| farm.store.submit("tests".to_owned(), vec![job]))
            .collect();
        for answer in answers {
            assert!(matches!(
                answer.await.unwrap().as_slice(),
                [ItemOutcome::Created { .. }]
            ));
        }
        let after = farm.store.health().await.unwrap();
        let (commits, commands) = (after.commits - before.commits, after.commands - before.commands);
        assert!(
            500 <= commands && 2 * commits < commands,
            "{commits} commits for {commands}"
        );
    });
}

#[test]
fn when_too_many_wait_the_answer_is_busy_and_nothing_is_half_done() {
    on_every_store(async |farm| {
        let jobs: Vec<_> = (0..20_000).map(|_| farm.new_job(PLAIN)).collect();
        let answers: Vec<_> = jobs
            .into_iter()
            .map(|job| farm.store.submit("tests".to_owned(), vec![job]))
            .collect();
        let (mut taken, mut busy) = (0, 0);
        for answer in answers {
            match answer.await {
                Ok(_) => taken += 1,
                Err(StoreError::Busy) => busy += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(0 < busy, "20,000 at once fitted into the queue");
        let stats = farm.store.stats().await.unwrap();
        assert_eq!(stats.jobs_by_state.get(&JobState::Queued), Some(&taken));
    });
}
