//! Attach, run, release, cancel: what people ask for.

use super::*;

#[test]
fn a_cancel_is_carried_out_once_and_recorded_as_asked_for() {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    stage.effects.clear();
    for _ in 0..2 {
        stage
            .governor
            .cancel(5_000, key, &mut stage.effects)
            .expect("it lives");
    }
    let words: Vec<String> = stage.effects.iter().map(word).collect();
    assert_eq!(
        words,
        [
            format!("signal 12 {SIGTERM} Everyone"),
            format!("wake {}", 5_000 + 5_000 * MS)
        ]
    );
    stage.at(
        9_000,
        Event::Exited {
            key,
            exit: exit(8_000, SIGTERM),
            live: 0,
        },
    );
    assert_eq!(stage.view(key).report.exit_reason.as_deref(), Some("canceled"));
    stage.at(9_000, drained(key, 8_000));
    let refused = stage
        .governor
        .cancel(9_100, key, &mut stage.effects)
        .expect_err("it ended");
    assert_eq!(refused.code, ErrorCode::NoSuchProcess);
}

#[test]
fn attaching_to_a_watched_job_takes_over_its_name_and_limits() {
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
    let mut request = attach_request(12);
    request.job_id = Some(JobId::parse("movie").expect("valid"));
    request.limits = Limits {
        nice: Some(5),
        ..Limits::default()
    };
    stage.effects.clear();
    let same = stage
        .governor
        .attach(4_000, &request, facts(12, 1_000, "ffmpeg"), &mut stage.effects);
    assert_eq!(same, Ok(key));
    let order = stage.order();
    assert_eq!(
        order.limits,
        Limits {
            nice: Some(5),
            ..limits()
        },
        "the rule's other limits stay"
    );
    assert_eq!(order.name, "movie");
    let view = stage.view(key);
    assert_eq!(
        (view.state.as_str(), view.report.mode.as_str()),
        ("placing", "attach")
    );
    assert_eq!(view.report.rule.as_deref(), Some("media-rule"));
    stage.at(
        5_000,
        Event::Placed {
            key,
            placement: in_group(4_900),
        },
    );
    assert_eq!(stage.view(key).state, "governed");
    let mut other = attach_request(13);
    other.job_id = Some(JobId::parse("movie").expect("valid"));
    let refused = stage
        .governor
        .attach(6_000, &other, facts(13, 1_500, "ffmpeg"), &mut stage.effects);
    assert_eq!(refused.map_err(|e| e.code), Err(ErrorCode::JobIdInUse));
    other.job_id = Some(JobId::auto("ffmpeg", 12));
    assert!(
        stage
            .governor
            .attach(6_000, &other, facts(13, 1_500, "ffmpeg"), &mut stage.effects)
            .is_ok()
    );
}

#[test]
fn nobody_is_called_unknown_and_so_the_id_may_recur() {
    let mut stage = Stage::new(TestRules::default());
    for pid in [12, 13] {
        let mut request = attach_request(pid);
        request.job_id = Some(JobId::unknown());
        let attached = stage
            .governor
            .attach(2_000, &request, facts(pid, 1_000, "x"), &mut stage.effects);
        assert!(attached.is_ok());
    }
    assert_eq!(
        stage
            .governor
            .release(
                3_000,
                &ReleaseRequest::One("unknown".to_owned()),
                &mut stage.effects
            )
            .map(|k| k.len()),
        Ok(2)
    );
}

#[test]
fn requests_that_make_no_sense_are_refused_and_change_nothing() {
    let mut stage = Stage::ffmpeg();
    let mut refuse = |change: &dyn Fn(&mut crate::control::types::AttachRequest)| {
        let mut request = attach_request(12);
        change(&mut request);
        stage.effects.clear();
        let refused = stage
            .governor
            .attach(2_000, &request, facts(12, 1_000, "ffmpeg"), &mut stage.effects);
        assert!(stage.effects.is_empty());
        assert!(stage.governor.jobs().is_empty());
        refused.expect_err("it makes no sense").code
    };
    assert_eq!(
        refuse(&|request| request.timeout_ms = Some(0)),
        ErrorCode::Invalid
    );
    assert_eq!(
        refuse(&|request| request.limits.nice = Some(99)),
        ErrorCode::Invalid
    );
    assert_eq!(refuse(&|request| request.found = Found::Exec), ErrorCode::Invalid);
}

#[test]
fn a_process_that_ended_cannot_be_attached() {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    let attach = |stage: &mut Stage| {
        stage
            .governor
            .attach(
                4_000,
                &attach_request(12),
                facts(12, 1_000, "ffmpeg"),
                &mut stage.effects,
            )
            .map_err(|e| e.code)
    };
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    stage.at(
        3_000,
        Event::Exited {
            key,
            exit: exit(2_500, 0),
            live: 1,
        },
    );
    assert_eq!(attach(&mut stage), Err(ErrorCode::NoSuchProcess), "draining");
    stage.at(3_000, drained(key, 2_500));
    stage.at(3_100, retired(key));
    assert_eq!(attach(&mut stage), Err(ErrorCode::NoSuchProcess), "closed");
    stage.at(3_200, Event::Saved { key });
    assert_eq!(attach(&mut stage), Err(ErrorCode::NoSuchProcess), "gone");
}

#[test]
fn a_run_child_gets_its_start_and_arguments_at_its_exec() {
    let mut stage = Stage::new(TestRules::default());
    let mut request = attach_request(12);
    request.found = Found::Run;
    request.command = Some(vec!["ffmpeg".to_owned(), "asked".to_owned()]);
    let key = ProcessKey::new(12, 1_000);
    stage
        .governor
        .attach(2_000, &request, facts(12, 1_000, "ffrtmp"), &mut stage.effects)
        .expect("attached");
    assert_eq!(stage.view(key).report.command, request.command);
    let exec = ProcessFacts {
        key,
        started_ns: 7 * MS,
        ..facts(12, 7 * MS, "ffmpeg")
    };
    stage.at(
        7 * MS,
        Event::Reexeced {
            root: key,
            facts: exec.clone(),
        },
    );
    let child = ProcessFacts {
        argv: None,
        ..facts(20, 9 * MS, "sh")
    };
    stage.at(
        9 * MS,
        Event::Reexeced {
            root: key,
            facts: child,
        },
    );
    let report = stage.view(key).report;
    assert_eq!(report.mode, "run");
    assert_eq!(report.start_time.as_nanosecond(), i128::from(7 * MS));
    assert_eq!(report.command, exec.argv);
}

#[test]
fn a_release_undoes_the_placement_and_follows_the_job_to_its_exit() {
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
    for name in ["auto-ffmpeg-12", "12", "12-1000"] {
        stage.effects.clear();
        let keys = stage
            .governor
            .release(4_000, &ReleaseRequest::One(name.to_owned()), &mut stage.effects);
        assert_eq!(keys, Ok(vec![key]), "{name}");
        assert_eq!(stage.effects, [Effect::Release { key }]);
    }
    let refused = stage.governor.release(
        4_000,
        &ReleaseRequest::One("nobody".to_owned()),
        &mut stage.effects,
    );
    assert_eq!(refused.map_err(|e| e.code), Err(ErrorCode::NoSuchJob));
    let undone = Event::Released {
        key,
        undone: vec!["moved back to /".to_owned()],
        warnings: Vec::new(),
    };
    assert_eq!(
        stage.at(5_000, undone),
        ["publish Released observed", "save 12 open"]
    );
    let report = stage.view(key).report;
    assert_eq!(report.placement.mode, "observe");
    assert!(report.limits.applied.is_empty());
    assert_eq!(
        stage
            .governor
            .release(5_500, &ReleaseRequest::All, &mut stage.effects),
        Ok(Vec::new())
    );
    assert_eq!(
        stage.at(
            6_000,
            Event::Exited {
                key,
                exit: exit(6_000, 0),
                live: 0
            }
        ),
        ["publish Exited draining"]
    );
}

#[test]
fn signals_reach_everyone_or_nobody() {
    // The first process alone is never signalled by the core: a job is all its processes.
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    stage
        .governor
        .cancel(3_000, key, &mut stage.effects)
        .expect("it lives");
    let whom: Vec<Whom> = stage
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Signal { whom, .. } => Some(*whom),
            _ => None,
        })
        .collect();
    assert_eq!(whom, [Whom::Everyone]);
    let published = |what| {
        stage
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Publish { what: w, .. } if *w == what))
    };
    assert!(!published(Happened::Exited), "a signal is no exit");
}
