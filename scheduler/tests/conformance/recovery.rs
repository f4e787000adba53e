//! Restarts, retention, backups and a full disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffrtmp_api::{FailureReason, ItemOutcome, JobState};
use ffrtmp_scheduler::store::sqlite::{OpenError, Options, SqliteStore, restore};
use ffrtmp_scheduler::store::{Control, ManualClock, StoreError};

use crate::farm::{Farm, START, done, failed};

const PLAIN: &str = r#"{"scenario":"1080p-h264"}"#;

fn run(story: impl AsyncFn(Farm)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for farm in crate::farm::farms() {
        runtime.block_on(story(farm));
    }
}

#[test]
fn a_restart_forgets_nothing_and_ends_nothing_early() {
    run(async |farm| {
        let node = farm.node("a", 2).await;
        let running = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        let retrying = farm.submit(r#"{"scenario":"720p-vp9"}"#).await;
        let second = farm.claim(&node).await.unwrap();
        farm.finish(&node, &second, failed(FailureReason::NetworkError))
            .await
            .unwrap();
        let waiting = farm.submit(PLAIN).await;
        let before = farm.store.stats().await.unwrap();
        // Down for much longer than a lease.
        farm.clock.pass(3_600_000);
        let farm = farm.reopen();
        farm.store.sweep().await.unwrap();
        let after = farm.store.stats().await.unwrap();
        assert_eq!(
            before.jobs_by_state.values().sum::<u64>(),
            after.jobs_by_state.values().sum::<u64>()
        );
        assert_eq!(farm.job(running).await.status, JobState::Running);
        assert_eq!(
            farm.job(retrying).await.status,
            JobState::Queued,
            "its pause is over"
        );
        // The node comes back within a lease of the restart and its attempt goes on.
        farm.clock.pass(29_000);
        farm.store.sweep().await.unwrap();
        assert!(farm.beat(&node, &[&grant], 3).await.is_empty());
        farm.finish(&node, &grant, done()).await.unwrap();
        assert_eq!(farm.job(running).await.status, JobState::Completed);
        assert_eq!(farm.claim(&node).await.unwrap().key.job_id, retrying);
        assert_eq!(farm.claim(&node).await.unwrap().key.job_id, waiting);
    });
}

#[test]
fn a_node_that_stays_away_after_a_restart_is_lost_one_lease_later() {
    run(async |farm| {
        let node = farm.node("a", 1).await;
        let id = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        farm.start(&node, &grant).await.unwrap();
        let farm = farm.reopen();
        farm.pass(30).await;
        assert_eq!(farm.job(id).await.status, JobState::Running);
        farm.pass(1).await;
        assert_eq!(farm.job(id).await.status, JobState::Queued);
    });
}

#[test]
fn old_jobs_are_forgotten_with_all_that_belongs_to_them_and_young_ones_are_not() {
    run(async |farm| {
        let old = farm
            .submit(r#"{"scenario":"transcode","idempotency_key":"k"}"#)
            .await;
        farm.store.control(old.into(), Control::Cancel).await.unwrap();
        let waiting = farm.submit(PLAIN).await;
        farm.clock.pass(7 * 86_400_000 + 1);
        let young = farm.submit(PLAIN).await;
        farm.store.control(young.into(), Control::Cancel).await.unwrap();
        assert_eq!(farm.store.sweep().await.unwrap().forgotten, 1);
        assert!(matches!(
            farm.store.get(old.into()).await,
            Err(StoreError::NoJob(_))
        ));
        assert_eq!(farm.job(waiting).await.status, JobState::Queued);
        assert_eq!(farm.job(young).await.status, JobState::Canceled);
        assert!(matches!(farm.store.events(1, 10).await, Err(StoreError::Gone(2))));
        // The key lived as long as its job.
        farm.submit(r#"{"scenario":"transcode","idempotency_key":"k"}"#)
            .await;
    });
}

#[test]
fn a_backup_made_under_way_restores_and_old_fences_are_worth_nothing_there() {
    run(async |farm| {
        let node = farm.node("a", 2).await;
        let kept = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        let copy = farm.directory.path().join("copy.db");
        assert!(farm.store.backup(copy.clone()).await.unwrap() > 0);
        assert!(matches!(
            farm.store.backup(copy.clone()).await,
            Err(StoreError::Conflict(_))
        ));
        let lost = farm.submit(PLAIN).await;
        let second = farm.claim(&node).await.unwrap();
        let path = farm.directory.path().join("queue.db");
        assert!(matches!(restore(&copy, &path), Err(OpenError::Held(_))));
        let Farm {
            store,
            clock,
            directory,
            made,
        } = farm;
        drop(store);
        let aside = restore(&copy, &path).unwrap().unwrap();
        assert!(aside.exists());
        let farm = Farm {
            made,
            ..Farm::sqlite(directory, Some(clock))
        };
        assert_eq!(farm.job(kept).await.status, JobState::Assigned);
        assert!(matches!(
            farm.store.get(lost.into()).await,
            Err(StoreError::NoJob(_))
        ));
        farm.submit(PLAIN).await;
        let third = farm.claim(&node).await.unwrap();
        assert!(second.key.epoch.0 + 1_000_000 < third.key.epoch.0);
        // What was granted before the backup is still in force.
        farm.finish(&node, &grant, done()).await.unwrap();
        assert!(farm.finish(&node, &second, done()).await.is_err());
        std::fs::write(farm.directory.path().join("no.db"), "no database").unwrap();
        assert!(restore(&farm.directory.path().join("no.db"), &copy).is_err());
    });
}

#[test]
fn a_nearly_full_disk_refuses_submissions_and_lets_work_and_cancels_go_on() {
    run(async |farm| {
        let clock = Arc::new(ManualClock::at(START));
        let free = Arc::new(AtomicU64::new(1 << 40));
        let told = Arc::clone(&free);
        let options = Options {
            clock: clock.clone(),
            free_space: Some(Box::new(move || Some(told.load(Ordering::SeqCst)))),
            ..Options::new(farm.directory.path().join("full.db"))
        };
        let farm = Farm {
            store: Box::new(SqliteStore::open(options).unwrap()),
            clock,
            ..farm
        };
        let node = farm.node("a", 1).await;
        let running = farm.submit(PLAIN).await;
        let waiting = farm.submit(PLAIN).await;
        let grant = farm.claim(&node).await.unwrap();
        free.store(1 << 20, Ordering::SeqCst);
        farm.clock.pass(1_000);
        let refused = farm
            .store
            .submit("tests".to_owned(), vec![farm.new_job(PLAIN)])
            .await;
        assert_eq!(refused, Err(StoreError::Full));
        assert!(!farm.store.health().await.unwrap().accepts_jobs);
        farm.finish(&node, &grant, done()).await.unwrap();
        assert_eq!(farm.job(running).await.status, JobState::Completed);
        farm.store.control(waiting.into(), Control::Cancel).await.unwrap();
        free.store(1 << 40, Ordering::SeqCst);
        farm.clock.pass(1_000);
        let taken = farm
            .store
            .submit("tests".to_owned(), vec![farm.new_job(PLAIN)])
            .await
            .unwrap();
        assert!(matches!(taken[0], ItemOutcome::Created { .. }));
    });
}

#[test]
fn a_flood_of_large_jobs_does_not_make_the_log_grow_with_it() {
    run(async |farm| {
        let ballast = "x".repeat(60_000);
        let large = format!(r#"{{"scenario":"1080p-h264","parameters":{{"ballast":"{ballast}"}}}}"#);
        let mut most = 0;
        for _ in 0..40 {
            let jobs = (0..100).map(|_| farm.new_job(&large)).collect();
            farm.store.submit("tests".to_owned(), jobs).await.unwrap();
            most = most.max(farm.store.health().await.unwrap().wal_bytes);
        }
        // 240 MB went through it.
        assert!(most < 80 << 20, "the log had {} MiB", most >> 20);
    });
}
