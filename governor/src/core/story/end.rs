//! Exits and drains in every order, time limits, and the records they leave.

use super::*;

#[test]
fn a_process_that_is_gone_before_it_can_be_placed_has_a_complete_record_and_blames_nobody() {
    let mut stage = Stage::ffmpeg();
    let ffmpeg = facts(12, 1_000, "ffmpeg");
    let key = ffmpeg.key;
    stage.at(40_000, Event::Appeared(ffmpeg));
    stage.at(
        60_000,
        Event::Exited {
            key,
            exit: exit(51_000, 0),
            live: 0,
        },
    );
    assert_eq!(stage.at(60_000, drained(key, 51_000)), ["retire 12"]);
    let late = Event::PlaceFailed {
        key,
        why: "the process has ended".to_owned(),
        placement: Placement::default(),
    };
    assert_eq!(stage.at(70_000, late), ["publish NotPlaced retiring"]);
    let none = Event::Retired {
        key,
        group: GroupUsage::default(),
        warnings: Vec::new(),
    };
    stage.at(80_000, none);
    let report = stage.view(key).report;
    assert_eq!(report.exit_reason.as_deref(), Some("success"));
    assert_eq!(report.duration_sec, Some(0.000_05));
    assert_eq!(report.placement.mode, "none");
    assert_eq!(
        report.placement.not_placed.as_deref(),
        Some("the process has ended")
    );
    assert_eq!(report.platform_sla_compliant, Some(true));
    assert_eq!(report.usage.cpu_sec, Some(0.002));
    assert!(
        report
            .usage
            .absent
            .iter()
            .any(|why| why.contains("no group of its own"))
    );
}

#[test]
fn a_placement_that_fails_is_tried_again_with_growing_pauses_and_then_left() {
    let mut stage = Stage::ffmpeg();
    let ffmpeg = facts(12, 0, "ffmpeg");
    let key = ffmpeg.key;
    let failed = || Event::PlaceFailed {
        key,
        why: "making the group failed: no space left".to_owned(),
        placement: Placement::default(),
    };
    stage.at(0, Event::Appeared(ffmpeg));
    let mut now = 0;
    for seconds in [1, 2, 4] {
        let told = stage.at(now, failed());
        let wake = now + seconds * 1_000 * MS;
        assert!(told.contains(&format!("wake {wake}")), "{told:?}");
        assert!(
            stage
                .at(wake - 1, Event::DeadlinePassed)
                .iter()
                .all(|line| !line.starts_with("place"))
        );
        let told = stage.at(wake, Event::DeadlinePassed);
        assert!(told.iter().any(|line| line.starts_with("place 12")), "{told:?}");
        now = wake;
    }
    let told = stage.at(now, failed());
    assert!(told.iter().all(|line| !line.starts_with("wake")), "{told:?}");
}

#[test]
fn a_release_ends_the_retries() {
    let mut stage = Stage::ffmpeg();
    let ffmpeg = facts(12, 0, "ffmpeg");
    let key = ffmpeg.key;
    stage.at(0, Event::Appeared(ffmpeg));
    let why = "making the group failed: no space left".to_owned();
    let placement = Placement::default();
    stage.at(0, Event::PlaceFailed { key, why, placement });
    let released = Event::Released {
        key,
        undone: Vec::new(),
        warnings: Vec::new(),
    };
    stage.at(MS, released);
    let told = stage.at(1_000 * MS, Event::DeadlinePassed);
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn limits_that_could_not_be_placed_on_a_process_that_lived_on_are_the_platforms_fault() {
    let mut stage = Stage::ffmpeg();
    let ffmpeg = facts(12, 1_000, "ffmpeg");
    let key = ffmpeg.key;
    stage.at(40_000, Event::Appeared(ffmpeg));
    let failed = Event::PlaceFailed {
        key,
        why: "making the group failed: no space left".to_owned(),
        placement: Placement::default(),
    };
    assert_eq!(
        stage.at(70_000, failed),
        ["publish NotPlaced unplaced", "save 12 open", "wake 1000070000"]
    );
    stage.at(
        5 * MS,
        Event::Exited {
            key,
            exit: exit(4 * MS, 1 << 8),
            live: 0,
        },
    );
    let report = stage.view(key).report;
    assert_eq!(report.exit_reason.as_deref(), Some("error"));
    assert_eq!(report.platform_sla_compliant, Some(false));
    assert_eq!(report.platform_sla_reason.as_deref(), Some("limits_not_enforced"));
}

#[test]
fn a_process_that_ends_younger_than_its_rule_wants_is_forgotten() {
    let mut stage = Stage::new(TestRules::waiting("ffmpeg", 2));
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    let end = Event::Exited {
        key,
        exit: exit(5_000, 0),
        live: 0,
    };
    assert_eq!(stage.at(6_000, end), ["forget 12"]);
    assert!(stage.at(2_001_000, Event::DeadlinePassed).is_empty());
    let verdict = stage.governor.explain(12, 0).expect("remembered").verdict;
    assert!(verdict.contains("ended before the age of 2 ms"), "{verdict}");
}

#[test]
fn an_exit_that_comes_before_its_exec_is_kept_for_it() {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    let end = Event::Exited {
        key,
        exit: exit(5_000, 9),
        live: 0,
    };
    assert!(stage.at(6_000, end).is_empty());
    assert!(stage.at(6_000, drained(key, 5_000)).is_empty());
    assert_eq!(
        stage.at(7_000, Event::Appeared(facts(12, 1_000, "ffmpeg"))),
        [
            "place 12 media/auto-ffmpeg-12",
            "publish Discovered placing",
            "publish Exited draining",
            "retire 12"
        ]
    );
    assert_eq!(stage.view(key).report.signal, Some(9));
}

#[test]
fn a_drain_without_an_exit_closes_as_unobserved_and_a_late_exit_corrects_it() {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    assert_eq!(
        stage.at(9_000, drained(key, 8_000)),
        ["retire 12", "publish Exited retiring"]
    );
    let report = stage.view(key).report;
    assert_eq!(report.exit_reason.as_deref(), Some("unobserved"));
    assert_eq!((report.exit_code, report.platform_sla_compliant), (None, None));
    assert!(
        stage
            .at(
                9_500,
                Event::Exited {
                    key,
                    exit: exit(7_500, 3 << 8),
                    live: 0
                }
            )
            .is_empty()
    );
    assert_eq!(stage.view(key).report.exit_code, Some(3));
}

#[test]
fn children_that_outlive_the_first_process_keep_the_job_open() {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    stage.at(
        3_000,
        Event::Placed {
            key,
            placement: in_group(2_900),
        },
    );
    stage.at(
        9_000,
        Event::Exited {
            key,
            exit: exit(8_000, 0),
            live: 2,
        },
    );
    let view = stage.view(key);
    assert_eq!((view.state.as_str(), view.live), ("draining", 2));
    // The pid may be used again meanwhile: another job, and another id.
    stage.at(20_000, Event::Appeared(facts(12, 19_000, "ffmpeg")));
    let second = stage.view(ProcessKey::new(12, 19_000));
    assert_eq!(second.report.job_id.as_str(), "auto-ffmpeg-12-2");
    let explained = stage
        .governor
        .explain(12, 21_000)
        .expect("known")
        .job
        .expect("a job");
    assert_eq!(explained.key, second.key, "the pid means the youngest process");
    assert_eq!(stage.at(30_000, drained(key, 29_000)), ["retire 12"]);
    assert_eq!(stage.governor.live(), 1);
}

#[test]
fn a_record_that_appears_again_after_its_commit_is_dropped_again_and_not_opened() {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    stage.at(
        3_000,
        Event::Exited {
            key,
            exit: exit(2_500, 0),
            live: 0,
        },
    );
    stage.at(3_000, drained(key, 2_500));
    stage.at(3_100, retired(key));
    assert!(
        stage
            .at(3_150, Event::Appeared(facts(12, 1_000, "ffmpeg")))
            .is_empty()
    );
    assert_eq!(stage.at(3_200, Event::Saved { key }), ["drop 12"]);
    assert!(stage.at(3_300, Event::Saved { key }).is_empty());
    assert_eq!(
        stage.at(4_000, Event::Appeared(facts(12, 1_000, "ffmpeg"))),
        ["drop 12"]
    );
    assert_eq!(stage.governor.jobs().len(), 1);
}

#[test]
fn a_time_limit_asks_first_and_kills_five_seconds_later() {
    let mut stage = Stage::ffmpeg();
    let mut request = attach_request(12);
    request.timeout_ms = Some(10);
    request.found = Found::Run;
    let key = ProcessKey::new(12, 1_000);
    stage
        .governor
        .attach(2_000, &request, facts(12, 1_000, "ffmpeg"), &mut stage.effects)
        .expect("attached");
    assert_eq!(stage.effects.last().map(word).as_deref(), Some("wake 10002000"));
    let first = 10 * MS + 2_000;
    assert_eq!(
        stage.at(first, Event::DeadlinePassed),
        [
            format!("signal 12 {SIGTERM} Everyone"),
            format!("wake {}", first + 5_000 * MS)
        ]
    );
    stage.at(
        first + MS,
        Event::Exited {
            key,
            exit: exit(first + MS, 255 << 8),
            live: 1,
        },
    );
    let report = stage.view(key).report;
    assert_eq!(report.exit_reason.as_deref(), Some("timeout"));
    assert_eq!(report.platform_sla_reason.as_deref(), Some("user_timeout"));
    assert_eq!(
        stage.at(first + 5_000 * MS, Event::DeadlinePassed),
        [format!("signal 12 {SIGKILL} Everyone")],
        "a child that lives on is part of the job"
    );
}

#[test]
fn a_time_limit_of_a_job_that_ended_signals_nobody() {
    let mut stage = Stage::ffmpeg();
    let mut request = attach_request(12);
    request.timeout_ms = Some(10);
    let key = ProcessKey::new(12, 1_000);
    stage
        .governor
        .attach(2_000, &request, facts(12, 1_000, "ffmpeg"), &mut stage.effects)
        .expect("attached");
    stage.at(
        MS,
        Event::Exited {
            key,
            exit: exit(MS, 0),
            live: 0,
        },
    );
    assert!(stage.at(11 * MS, Event::DeadlinePassed).is_empty());
}

#[test]
fn an_oom_kill_is_judged_again_when_the_group_was_read() {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    stage.at(
        3_000,
        Event::Placed {
            key,
            placement: in_group(2_900),
        },
    );
    let mut end = exit(9_000, SIGKILL);
    end.oom = true;
    end.killer = Some(Killer {
        signal: 9,
        pid: 0,
        uid: 0,
        comm: "ffmpeg".to_owned(),
        kernel: true,
    });
    stage.at(
        9_000,
        Event::Exited {
            key,
            exit: end,
            live: 0,
        },
    );
    let reason = |stage: &Stage| stage.view(key).report.platform_sla_reason;
    assert_eq!(reason(&stage).as_deref(), Some("workload_exceeded_limit"));
    stage.at(9_000, drained(key, 9_000));
    let group = GroupUsage {
        memory_peak: Some(9 << 20),
        ..GroupUsage::default()
    };
    stage.at(
        9_500,
        Event::Retired {
            key,
            group,
            warnings: Vec::new(),
        },
    );
    assert_eq!(reason(&stage).as_deref(), Some("platform_out_of_memory"));
    assert_eq!(stage.view(key).report.killed_by, Some(ffrtmp_api::Sender::Kernel));
}
