//! What a scrape shows.

use super::*;
use ffrtmp_api::{BandDepth, Epoch, JobState, Priority, Queue};

fn moment() -> Moment {
    let stats = Stats {
        jobs_by_state: BTreeMap::from([
            (JobState::Queued, 3),
            (JobState::Running, 2),
            (JobState::Assigned, 1),
        ]),
        waiting: vec![
            BandDepth {
                queue: Queue::Live,
                priority: Priority::High,
                jobs: 1,
            },
            BandDepth {
                queue: Queue::Batch,
                priority: Priority::High,
                jobs: 2,
            },
        ],
        nodes_by_status: BTreeMap::from([("available".to_owned(), 1), ("offline".to_owned(), 2)]),
        totals: BTreeMap::from([("submitted".to_owned(), 9)]),
        ..Stats::default()
    };
    Moment {
        stats: Some(stats),
        audit_dropped: 4,
        certificate_ends: Some(1_800_000_000),
        disk_free: Some(1 << 30),
    }
}

#[test]
fn a_scrape_has_the_predecessors_names_with_true_meanings() {
    let text = Metrics::new().unwrap().render(&moment()).unwrap();
    for line in [
        "ffrtmp_jobs_total{state=\"queued\"} 3",
        "ffrtmp_jobs_total{state=\"completed\"} 0",
        "# TYPE ffrtmp_jobs_total gauge",
        "ffrtmp_active_jobs 3",
        "ffrtmp_queue_length 3",
        "ffrtmp_queue_by_priority{priority=\"high\"} 3",
        "ffrtmp_queue_by_type{type=\"live\"} 1",
        "ffrtmp_nodes_total 3",
        "ffrtmp_nodes_by_status{status=\"offline\"} 2",
        "ffrtmp_scheduler_events_total{event=\"submitted\"} 9",
        "# TYPE ffrtmp_job_wait_time_seconds histogram",
        "ffrtmp_audit_dropped_total 4",
        "ffrtmp_master_up 1",
    ] {
        assert!(
            text.contains(&format!("{line}\n")),
            "{line} is missing in\n{text}"
        );
    }
    assert!(text.contains("ffrtmp_master_uptime_seconds 0."));
}

#[test]
fn an_absent_queue_is_absent_and_not_zero() {
    let text = Metrics::new().unwrap().render(&Moment::default()).unwrap();
    assert!(text.contains("ffrtmp_master_up 0\n"));
    for name in [
        "ffrtmp_jobs_total",
        "ffrtmp_nodes_total",
        "certificate",
        "disk_free",
    ] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
}

#[test]
fn what_happens_is_counted_once_and_under_bounded_labels() {
    let metrics = Metrics::new().unwrap();
    let key = AttemptKey {
        job_id: JobUuid::from_parts(1_000_000, [0; 10]),
        attempt: 1,
        epoch: Epoch(1),
    };
    metrics.on_first_grant(&key.job_id, 1_002_000);
    metrics.on_started(key, "gstreamer");
    metrics.on_started(AttemptKey { attempt: 2, ..key }, "some text a node made up");
    metrics.on_finished(&key, true, Some(7.0));
    metrics.on_finished(&AttemptKey { attempt: 2, ..key }, true, Some(f64::NAN));
    metrics.on_request(&Traffic {
        method: "GET",
        endpoint: "/jobs/{id}",
        status: 200,
        received: 0,
        sent: 10,
        took: Duration::from_millis(2),
    });
    let text = metrics.render(&Moment::default()).unwrap();
    for line in [
        "ffrtmp_job_wait_time_seconds_sum 2",
        "ffrtmp_jobs_completed_by_engine{engine=\"gstreamer\"} 1",
        "ffrtmp_jobs_completed_by_engine{engine=\"unknown\"} 1",
        "ffrtmp_job_duration_seconds_count 1",
        "scheduler_http_requests_total{endpoint=\"/jobs/{id}\",method=\"GET\",status=\"200\"} 1",
        "scheduler_http_request_duration_seconds_count{endpoint=\"/jobs/{id}\",method=\"GET\"} 1",
    ] {
        assert!(
            text.contains(&format!("{line}\n")),
            "{line} is missing in\n{text}"
        );
    }
}
