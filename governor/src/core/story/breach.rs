//! Limits a job ran into, and what it missed: told once each, in this order, before it is closed.

use ffrtmp_api::LimitBreach;

use super::*;

fn breach(limit: &str, times: u64, killed: Option<u64>) -> LimitBreach {
    LimitBreach {
        limit: limit.to_owned(),
        times,
        killed,
    }
}

fn governed() -> (Stage, ProcessKey) {
    let mut stage = Stage::ffmpeg();
    let key = ProcessKey::new(12, 1_000);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    let placement = in_group(2_900);
    stage.at(3_000, Event::Placed { key, placement });
    (stage, key)
}

fn ended(stage: &mut Stage, key: ProcessKey, group: GroupUsage) -> Vec<String> {
    let exit = exit(9_000, 0);
    stage.at(9_000, Event::Exited { key, exit, live: 0 });
    stage.at(9_000, drained(key, 9_000));
    let warnings = Vec::new();
    stage.at(9_500, Event::Retired { key, group, warnings })
}

#[test]
fn an_announced_limit_is_told_once_and_closed_with_its_last_figures() {
    let (mut stage, key) = governed();
    let reached = |times| Event::LimitReached {
        key,
        breach: breach("memory_max", times, Some(0)),
    };
    assert_eq!(
        stage.at(4_000, reached(1)),
        ["publish LimitBreached governed", "save 12 open"]
    );
    assert!(stage.at(5_000, reached(7)).is_empty());
    let group = GroupUsage {
        memory_max_hits: Some(40),
        oom_kills: Some(1),
        ..GroupUsage::default()
    };
    assert_eq!(
        ended(&mut stage, key, group),
        ["save 12 closed", "publish Closed closed"]
    );
    assert_eq!(
        stage.view(key).report.limits.breached,
        [breach("memory_max", 40, Some(1))]
    );
    assert!(
        stage.at(9_600, reached(50)).is_empty(),
        "late word of a closed job"
    );
}

#[test]
fn what_nobody_announced_is_told_at_the_end_and_only_for_limits_in_force() {
    let (mut stage, key) = governed();
    let group = GroupUsage {
        memory_max_hits: Some(3),
        oom_kills: Some(0),
        pids_max_hits: Some(9),
        cpu_periods: Some((20, 20)),
        ..GroupUsage::default()
    };
    assert_eq!(
        ended(&mut stage, key, group),
        [
            "publish LimitBreached closed",
            "save 12 closed",
            "publish Closed closed"
        ],
        "it has a limit of memory and no other"
    );
}

#[test]
fn a_quota_that_holds_a_job_back_now_and_then_is_no_breach() {
    for (periods, told) in [
        (Some((1, 9)), false),
        (Some((9, 9)), false),
        (Some((49, 100)), false),
        (Some((50, 100)), true),
        (None, false),
    ] {
        let mut stage = Stage::ffmpeg();
        let key = ProcessKey::new(12, 1_000);
        stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
        let mut placement = in_group(2_900);
        placement.applied[0].limit = "cpu_max".to_owned();
        stage.at(3_000, Event::Placed { key, placement });
        let group = GroupUsage {
            cpu_periods: periods,
            ..GroupUsage::default()
        };
        let effects = ended(&mut stage, key, group);
        assert_eq!(
            effects.contains(&"publish LimitBreached closed".to_owned()),
            told,
            "{periods:?}"
        );
    }
}

#[test]
fn a_missed_sla_is_told_between_the_oom_and_the_close_and_only_of_jobs_that_count() {
    for (eligible, missed) in [(true, true), (false, false)] {
        let mut act = action("media");
        act.sla_eligible = eligible;
        let mut stage = Stage::new(TestRules::default().and("ffmpeg", 0, act));
        let key = ProcessKey::new(12, 1_000);
        stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
        let mut placement = in_group(2_900);
        placement.applied.clear();
        stage.at(3_000, Event::Placed { key, placement });
        let mut end = exit(9_000, SIGKILL);
        end.oom = true;
        let told = stage.at(
            9_000,
            Event::Exited {
                key,
                exit: end,
                live: 0,
            },
        );
        assert_eq!(told, ["publish Exited draining", "publish Oom draining"]);
        stage.at(9_000, drained(key, 9_000));
        let told = stage.at(9_500, retired(key));
        let sla = told.iter().position(|word| word == "publish SlaMissed closed");
        let closed = told.iter().position(|word| word == "publish Closed closed");
        assert_eq!(sla.is_some(), missed, "{told:?}");
        assert!(sla < closed, "{told:?}");
    }
}
