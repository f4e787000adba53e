//! Lists, filters, events, nodes and figures.

use ffrtmp_api::{JobFilter, JobRef, JobState, NodeIntent, NodeStatus, Paging, Queue};
use ffrtmp_scheduler::store::{Control, StoreError};

use crate::farm::done;
use crate::on_every_store;

#[test]
fn pages_follow_each_other_without_gap_or_repeat_while_jobs_arrive() {
    on_every_store(async |farm| {
        for _ in 0..25 {
            farm.submit(r#"{"scenario":"transcode"}"#).await;
        }
        let mut seen = Vec::new();
        let mut paging = Paging {
            limit: 10,
            cursor: None,
        };
        loop {
            let page = farm.store.list(JobFilter::default(), paging).await.unwrap();
            seen.extend(page.jobs.iter().map(|job| job.sequence_number));
            farm.submit(r#"{"scenario":"transcode"}"#).await;
            paging.cursor = page.next_cursor;
            if paging.cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, (1..=25).rev().collect::<Vec<_>>());
    });
}

#[test]
fn filters_hold_together() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        let live = farm
            .submit(r#"{"scenario":"live-4k","queue":"live","tenant_id":"t"}"#)
            .await;
        farm.submit(r#"{"scenario":"transcode","engine":"gstreamer"}"#)
            .await;
        let grant = farm.claim(&node).await.unwrap();
        farm.finish(&node, &grant, done()).await.unwrap();
        let count = async |filter: JobFilter| {
            farm.store
                .list(filter, Paging::default())
                .await
                .unwrap()
                .jobs
                .iter()
                .map(|job| job.id)
                .collect::<Vec<_>>()
        };
        let filter = |text: &str| serde_json::from_str::<JobFilter>(text).unwrap();
        assert_eq!(count(filter(r#"{"queue":"live"}"#)).await, [live]);
        assert_eq!(
            count(filter(r#"{"status":["completed"],"node":"a"}"#)).await,
            [live]
        );
        assert_eq!(
            count(filter(r#"{"status":["queued","completed"]}"#)).await.len(),
            2
        );
        assert_eq!(
            count(filter(r#"{"tenant":"t","scenario":"live-4k"}"#)).await,
            [live]
        );
        assert_eq!(count(filter(r#"{"engine":"gstreamer"}"#)).await.len(), 1);
        assert_eq!(count(filter(r#"{"priority":"low"}"#)).await.len(), 0);
        assert_eq!(
            count(filter(r#"{"created_before":"2000-01-01T00:00:00Z"}"#))
                .await
                .len(),
            0
        );
        let contrary =
            filter(r#"{"created_after":"2024-01-02T00:00:00Z","created_before":"2024-01-01T00:00:00Z"}"#);
        let refused = farm.store.list(contrary, Paging::default()).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
    });
}

#[test]
fn jobs_are_found_by_id_and_by_number() {
    on_every_store(async |farm| {
        let id = farm.submit(r#"{"scenario":"transcode"}"#).await;
        let by_number = farm.store.get(JobRef::Sequence(1)).await.unwrap();
        assert_eq!(by_number.id, id);
        assert_eq!(farm.store.get(id.into()).await.unwrap(), by_number);
        let none = farm.store.get(JobRef::Sequence(2)).await;
        assert!(matches!(none, Err(StoreError::NoJob(_))));
        let none = farm.store.control(JobRef::Sequence(2), Control::Cancel).await;
        assert!(matches!(none, Err(StoreError::NoJob(_))));
    });
}

#[test]
fn events_go_on_from_a_number_and_the_watch_tells_of_new_ones() {
    on_every_store(async |farm| {
        let watch = farm.store.watch();
        let before = *watch.borrow();
        let id = farm.submit(r#"{"scenario":"transcode"}"#).await;
        farm.store.control(id.into(), Control::Cancel).await.unwrap();
        assert!(before < *watch.borrow());
        let events = farm.store.events(before, 100).await.unwrap();
        let words: Vec<_> = events.iter().map(|event| (event.n, event.step.to)).collect();
        assert_eq!(words, [(1, JobState::Queued), (2, JobState::Canceled)]);
        let rest = farm.store.events(events[0].id, 100).await.unwrap();
        assert_eq!(rest, events[1..]);
    });
}

#[test]
fn operators_take_nodes_out_and_put_them_back() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        farm.submit(r#"{"scenario":"transcode"}"#).await;
        for (intent, status) in [
            (NodeIntent::Cordoned, NodeStatus::Cordoned),
            (NodeIntent::Draining, NodeStatus::Draining),
        ] {
            let shown = farm.store.node_intent(node.clone(), intent).await.unwrap();
            assert_eq!(shown.status, status);
            assert!(farm.claim(&node).await.is_none());
        }
        farm.store
            .node_intent(node.clone(), NodeIntent::Active)
            .await
            .unwrap();
        let grant = farm.claim(&node).await.unwrap();
        let shown = farm.store.node(node.clone()).await.unwrap();
        assert_eq!(shown.status, NodeStatus::Busy);
        assert_eq!(shown.current_job_id, Some(grant.key.job_id));
        assert!(farm.store.remove_node(node.clone()).await.is_err());
        farm.finish(&node, &grant, done()).await.unwrap();
        farm.store.remove_node(node.clone()).await.unwrap();
        assert!(farm.store.nodes().await.unwrap().is_empty());
        let heartbeat = farm.store.heartbeat(node, ffrtmp_api::Heartbeat::default()).await;
        assert!(matches!(heartbeat, Err(StoreError::NoNode(_))));
    });
}

#[test]
fn a_node_that_registers_again_brings_its_new_hardware() {
    on_every_store(async |farm| {
        let node = farm.node("a", 1).await;
        farm.node("a", 7).await;
        let shown = farm.store.nodes().await.unwrap();
        assert_eq!(shown.len(), 1);
        assert_eq!((&shown[0].id, shown[0].info.slots()), (&node, 7));
    });
}

#[test]
fn figures_add_up() {
    on_every_store(async |farm| {
        farm.node("a", 3).await;
        farm.submit(r#"{"scenario":"transcode"}"#).await;
        farm.submit(r#"{"scenario":"transcode","hold":true}"#).await;
        let stats = farm.store.stats().await.unwrap();
        assert_eq!(stats.jobs_by_state.get(&JobState::Queued), Some(&2));
        assert_eq!((stats.held, stats.slots, stats.slots_used), (1, 3, 0));
        let waiting: u64 = stats
            .waiting
            .iter()
            .filter(|band| band.queue == Queue::Default)
            .map(|band| band.jobs)
            .sum();
        assert_eq!(waiting, 1);
        assert_eq!(stats.totals.get("submitted"), Some(&2));
        assert!(farm.store.health().await.unwrap().accepts_jobs);
    });
}
