//! Found, judged, placed, observed, moved: jobs while they live.

use super::*;
use crate::core::facts::NAMESPACE;
use crate::core::observe::mode;

#[test]
fn an_exec_becomes_a_governed_job_and_a_closed_record() {
    let mut stage = Stage::ffmpeg();
    let ffmpeg = facts(12, 1_000_000, "ffmpeg");
    let key = ffmpeg.key;
    assert_eq!(
        stage.at(1_020_000, Event::Appeared(ffmpeg)),
        ["place 12 media/auto-ffmpeg-12", "publish Discovered placing"]
    );
    assert_eq!(stage.order().limits, limits());
    assert_eq!(
        stage.at(
            1_100_000,
            Event::Placed {
                key,
                placement: in_group(1_090_000)
            }
        ),
        ["publish Placed governed", "save 12 open"]
    );
    let end = Event::Exited {
        key,
        exit: exit(9_000_000, 0),
        live: 0,
    };
    assert_eq!(stage.at(9_010_000, end), ["publish Exited draining"]);
    assert_eq!(stage.at(9_010_000, drained(key, 9_000_000)), ["retire 12"]);
    assert_eq!(
        stage.at(9_200_000, retired(key)),
        ["save 12 closed", "publish Closed closed"]
    );
    assert_eq!(stage.at(9_900_000, Event::Saved { key }), ["drop 12"]);
    assert_eq!(stage.governor.strays(), 0);
    insta::assert_json_snapshot!(stage.view(key));
    insta::assert_json_snapshot!(stage.governor.explain(12, 10_000_000).expect("known").steps);
}

#[test]
fn a_process_no_rule_wants_is_forgotten_and_explained() {
    let mut stage = Stage::ffmpeg();
    assert_eq!(stage.at(50, Event::Appeared(facts(7, 10, "sh"))), ["forget 7"]);
    let explain = stage.governor.explain(7, 60).expect("remembered");
    assert_eq!(explain.verdict, "left alone: no rule names `sh`");
    assert!(explain.job.is_none());
    assert!(stage.governor.explain(8, 60).is_none());
    // Its exit may be on the way already; the record is gone, so nothing is to be done.
    let end = Event::Exited {
        key: ProcessKey::new(7, 10),
        exit: exit(20, 0),
        live: 0,
    };
    assert!(stage.at(70, end).is_empty());
    // A doubled word of its exec must not open a job, whatever the rules say by then: nobody would ever end it.
    let rules = TestRules::governing(&["sh"], "shells");
    stage
        .governor
        .replace_rules(80, Box::new(rules), &mut stage.effects);
    assert_eq!(stage.at(90, Event::Appeared(facts(7, 10, "sh"))), ["forget 7"]);
    assert_eq!(
        stage.at(90, Event::Appeared(facts(9, 10, "sh")))[0],
        "place 9 shells/auto-sh-9"
    );
}

#[test]
fn a_container_and_a_rule_that_says_so_are_only_observed() {
    let rules =
        TestRules::governing(&["ffmpeg"], "media").and("gst", 0, placed("media", PlacementMode::Observe));
    let mut stage = Stage::new(rules);
    let inside = ProcessFacts {
        container: Some("docker".to_owned()),
        ..facts(12, 1_000, "ffmpeg")
    };
    assert_eq!(
        stage.at(2_000, Event::Appeared(inside)),
        ["save 12 open", "publish Discovered observed"]
    );
    assert_eq!(
        stage.at(2_000, Event::Appeared(facts(13, 1_500, "gst"))),
        ["save 13 open", "publish Discovered observed"]
    );
    let key = ProcessKey::new(12, 1_000);
    stage.at(
        9_000,
        Event::Exited {
            key,
            exit: exit(8_000, 0),
            live: 0,
        },
    );
    assert_eq!(stage.at(9_000, drained(key, 8_000)), ["retire 12"]);
    let report = stage.view(key).report;
    assert_eq!(report.placement.mode, "observe");
    assert_eq!(
        report.limits.warnings,
        ["cpu_max", "memory_max"].map(|limit| format!(
            "{limit} is not enforced: it belongs to docker, so it is only followed; \
             placement `place` would move it into a group of ours"
        ))
    );
    assert_eq!(
        report.platform_sla_reason.as_deref(),
        Some("observed_to_completion")
    );
}

#[test]
fn a_pid_namespace_is_left_alone_unless_somebody_names_the_pid() {
    let mut stage = Stage::new(TestRules::governing(&["ffmpeg"], "media"));
    let sandboxed = |pid| ProcessFacts {
        container: Some(NAMESPACE.to_owned()),
        ..facts(pid, 1_000, "ffmpeg")
    };
    assert_eq!(
        stage.at(2_000, Event::Appeared(sandboxed(12))),
        ["save 12 open", "publish Discovered observed"]
    );
    let steps = stage.governor.explain(12, 3_000).expect("followed").steps;
    let step = steps.last().expect("a step");
    assert_eq!(step.what, "followed only: it runs in a pid namespace of its own");
    for (found, default) in [
        (Found::Exec, PlacementMode::Observe),
        (Found::Adopted, PlacementMode::Observe),
        (Found::Attach, PlacementMode::Place),
        (Found::Run, PlacementMode::Place),
    ] {
        let facts = ProcessFacts {
            found,
            ..sandboxed(13)
        };
        assert_eq!(mode(None, &facts), default, "{found:?}");
        let engine = ProcessFacts {
            container: Some("docker".to_owned()),
            ..facts
        };
        assert_eq!(mode(None, &engine), PlacementMode::Observe, "{found:?}");
        assert_eq!(mode(Some(PlacementMode::Place), &engine), PlacementMode::Place);
    }
}

#[test]
fn a_rule_that_places_containers_wins_over_the_default() {
    let mut stage = Stage::new(TestRules::default().and("ffmpeg", 0, placed("media", PlacementMode::Place)));
    let inside = ProcessFacts {
        container: Some("docker".to_owned()),
        ..facts(12, 1_000, "ffmpeg")
    };
    assert_eq!(
        stage.at(2_000, Event::Appeared(inside))[0],
        "place 12 media/auto-ffmpeg-12"
    );
}

#[test]
fn placement_scope_falls_back_to_in_place_and_says_so() {
    let mut stage = Stage::new(TestRules::default().and("ffmpeg", 0, placed("media", PlacementMode::Scope)));
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    assert_eq!(stage.order().mode, PlacementMode::InPlace);
    let report = stage.view(ProcessKey::new(12, 1_000)).report;
    assert_eq!(report.placement.mode, "in-place");
    assert!(report.limits.warnings[0].contains("`scope`"));
}

#[test]
fn a_rule_with_an_age_judges_again_when_the_age_is_reached() {
    let mut stage = Stage::new(TestRules::waiting("ffmpeg", 2));
    let key = ProcessKey::new(12, 1_000);
    assert_eq!(
        stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg"))),
        ["wake 2001000"]
    );
    let explain = stage.governor.explain(12, 1_001_000).expect("it waits");
    assert_eq!(
        explain.verdict,
        "waits: a rule wants it once it is older; it is 1 ms old, judged again at 2 ms"
    );
    // A timer that fires too early is ordered anew.
    assert_eq!(stage.at(3_000, Event::DeadlinePassed), ["wake 2001000"]);
    assert_eq!(
        stage.at(2_001_000, Event::DeadlinePassed),
        ["place 12 late/auto-ffmpeg-12", "publish Discovered placing"]
    );
    assert_eq!(stage.view(key).state, "placing");
}

#[test]
fn other_rules_leave_governed_jobs_alone_and_judge_waiting_ones_anew() {
    let mut stage = Stage::new(TestRules::waiting("ffmpeg", 60_000).and("gst", 0, action("media")));
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    stage.at(2_000, Event::Appeared(facts(13, 1_000, "gst")));
    stage.effects.clear();
    let session = TestRules::governing(&["ffmpeg"], "session");
    stage
        .governor
        .open_session(3_000, 1, Box::new(session), &mut stage.effects);
    let words: Vec<String> = stage.effects.iter().map(word).collect();
    assert_eq!(
        words,
        [
            "sync",
            "place 12 session/auto-ffmpeg-12",
            "publish Discovered placing"
        ]
    );
    assert_eq!(stage.governor.names(), ["ffmpeg", "gst"]);
    assert_eq!(stage.at(4_000, Event::SessionClosed { session: 1 }), ["sync"]);
    assert!(stage.at(4_000, Event::SessionClosed { session: 1 }).is_empty());
    assert_eq!(
        stage.at(5_000, Event::RulesReplaced(RuleSet::default())),
        ["sync"]
    );
    assert_eq!(stage.governor.live(), 2, "who is governed stays so");
}

#[test]
fn only_the_last_closed_jobs_and_ignored_processes_are_remembered() {
    let mut small = settings();
    small.keep_closed = 2;
    small.keep_ignored = 2;
    let mut stage = Stage::ffmpeg();
    stage.governor = Governor::new(small);
    let rules = Box::new(TestRules::governing(&["ffmpeg"], "media"));
    stage.governor.replace_rules(0, rules, &mut stage.effects);
    for pid in 1..=5 {
        let key = ProcessKey::new(pid, 1_000);
        stage.at(2_000, Event::Appeared(facts(pid, 1_000, "ffmpeg")));
        stage.at(2_000, drained(key, 1_500));
        stage.at(2_000, retired(key));
        stage.at(2_000, Event::Saved { key });
        stage.at(2_000, Event::Appeared(facts(pid + 100, 1_000, "sh")));
    }
    let pids: Vec<u32> = stage.governor.jobs().iter().map(|job| job.report.pid).collect();
    assert_eq!(pids, [4, 5]);
    assert!(stage.governor.explain(103, 0).is_none());
    assert!(stage.governor.explain(104, 0).is_some());
}

#[test]
fn a_restored_job_is_what_it_was_and_orders_nothing() {
    let mut first = Stage::new(TestRules::default());
    let mut request = attach_request(12);
    request.job_id = Some(JobId::parse("movie").expect("valid"));
    request.limits = limits();
    let found = facts(12, 1_000, "ffmpeg");
    let key = found.key;
    first
        .governor
        .attach(1_000, &request, found.clone(), &mut first.effects)
        .expect("attached");
    let placement = in_group(9_000);
    first.at(10_000, Event::Placed { key, placement });
    let remembered = first.view(key);

    let mut second = Stage::new(TestRules::default());
    second.governor.restore(90_000, &remembered, &mut second.effects);
    assert!(second.effects.is_empty());
    assert_eq!(second.view(key), remembered);
    assert!(
        second.at(91_000, Event::Appeared(found)).is_empty(),
        "it is known"
    );
    let mut other = attach_request(13);
    other.job_id = request.job_id;
    let refused = second
        .governor
        .attach(92_000, &other, facts(13, 1_500, "x"), &mut second.effects);
    assert_eq!(refused.map_err(|e| e.code), Err(ErrorCode::JobIdInUse));
}
