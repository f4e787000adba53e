//! Moves by others: recorded, undone where the rule says so, and not without end.

use super::*;
use crate::core::foreign::{RESTORES_MAX, WINDOW_NS};

const ROOT: ProcessKey = ProcessKey::new(12, 1_000);
const GROUP: &str = "/sys/fs/cgroup/cpu/ffrtmp.slice/media/s1";

fn moved(process: ProcessKey, at_ns: u64) -> ForeignMove {
    ForeignMove {
        process,
        hierarchy: 4,
        mover: 99,
        at_ns,
    }
}

/// A job in its group, under a rule that restores or not.
fn governed(rules: TestRules) -> Stage {
    let mut stage = Stage::new(rules);
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    let mut placement = in_group(3_000);
    placement.applied[0].target = format!("{GROUP}/memory.limit_in_bytes");
    stage.at(3_000, Event::Placed { key: ROOT, placement });
    stage
}

fn restored() -> Stage {
    governed(TestRules::default().and("ffmpeg", 0, restoring("media")))
}

fn accepted() -> Stage {
    governed(TestRules::governing(&["ffmpeg"], "media"))
}

/// Tells of a move and of what the host found then.
fn tell(stage: &mut Stage, at_ns: u64, moved: ForeignMove, found: Whereabouts) -> Vec<String> {
    let words = stage.at(at_ns, Event::Moved { root: ROOT, moved });
    let key = ROOT;
    stage.at(at_ns, Event::Rechecked { key, moved, found });
    words
}

fn away() -> Whereabouts {
    Whereabouts {
        outside: vec![GROUP.to_owned()],
        ..Whereabouts::default()
    }
}

fn back() -> Whereabouts {
    Whereabouts {
        restored: 1,
        ..Whereabouts::default()
    }
}

fn warnings(stage: &Stage) -> Vec<String> {
    stage.view(ROOT).report.limits.warnings
}

#[test]
fn before_there_is_a_group_a_move_is_only_recorded() {
    let mut stage = Stage::ffmpeg();
    stage.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    for _ in 0..200 {
        let moved = moved(ROOT, 2_500);
        assert_eq!(
            stage.at(3_000, Event::Moved { root: ROOT, moved }),
            ["publish Moved placing"]
        );
    }
    let warnings = warnings(&stage);
    assert_eq!(warnings.len(), 1, "the same warning is kept once");
    assert!(warnings[0].contains("pid 99 moved pid 12"), "{warnings:?}");
    let steps = stage.governor.explain(12, 4_000).expect("known").steps;
    let last = &steps.last().expect("a last step").what;
    assert!(last.ends_with("more steps were not kept"), "{last}");
}

#[test]
fn an_accepted_move_costs_the_limits_of_the_group_that_was_left() {
    let mut stage = accepted();
    let words = tell(&mut stage, 90_000, moved(ROOT, 4_000), away());
    assert_eq!(words, ["recheck 12 12 look", "publish Moved governed"]);
    let report = stage.view(ROOT).report;
    assert!(report.limits.applied.is_empty(), "{:?}", report.limits);
    insta::assert_snapshot!(report.limits.warnings.join("\n"), @r"
    pid 99 moved pid 12 to another group in hierarchy 4; limits there may no longer hold
    memory_max is not enforced: pid 99 moved the process out of the group
    ");
    let steps = stage.governor.explain(12, 4_000).expect("known").steps;
    assert!(
        steps
            .iter()
            .any(|step| step.what.ends_with("noticed after 86 µs")),
        "{steps:?}"
    );
    // Somebody brought it back himself.
    tell(&mut stage, 95_000, moved(ROOT, 94_000), Whereabouts::default());
    assert_eq!(stage.view(ROOT).report.limits.applied.len(), 1);
}

#[test]
fn a_child_that_is_moved_costs_the_first_process_no_limit() {
    let mut stage = accepted();
    tell(
        &mut stage,
        9_000,
        moved(ProcessKey::new(13, 5_000), 8_000),
        away(),
    );
    assert_eq!(stage.view(ROOT).report.limits.applied.len(), 1);
    assert!(
        warnings(&stage)[0].contains("pid 99 moved pid 13"),
        "{:?}",
        warnings(&stage)
    );
}

#[test]
fn a_rule_that_restores_orders_the_move_back_and_keeps_the_limits() {
    let mut stage = restored();
    let words = tell(&mut stage, 9_000, moved(ROOT, 8_000), back());
    assert_eq!(words, ["recheck 12 12 restore", "publish Moved governed"]);
    assert_eq!(stage.view(ROOT).report.limits.applied.len(), 1);
    assert_eq!(
        warnings(&stage),
        ["pid 99 moved pid 12 to another group in hierarchy 4; it is in the job's group again"]
    );
}

#[test]
fn what_cannot_be_brought_back_says_why() {
    let mut stage = restored();
    let found = Whereabouts {
        failed: Some("device or resource busy".to_owned()),
        ..away()
    };
    tell(&mut stage, 9_000, moved(ROOT, 8_000), found);
    let warnings = warnings(&stage);
    assert_eq!(
        warnings[0],
        "pid 12 could not be moved back: device or resource busy"
    );
    assert!(
        warnings[2].starts_with("memory_max is not enforced: pid 99 "),
        "{warnings:?}"
    );
}

#[test]
fn two_managers_that_insist_do_not_move_a_process_for_ever() {
    let mut stage = restored();
    let mut now = 10_000;
    for _ in 0..RESTORES_MAX {
        let words = tell(&mut stage, now, moved(ROOT, now), back());
        assert_eq!(words[0], "recheck 12 12 restore");
        now += MS;
    }
    for _ in 0..3 {
        let words = tell(&mut stage, now, moved(ROOT, now), away());
        assert_eq!(words[0], "recheck 12 12 look");
        now += 2 * WINDOW_NS;
    }
    let given_in = warnings(&stage)
        .into_iter()
        .filter(|text| text.contains("keeps moving"))
        .count();
    assert_eq!(given_in, 1, "{:?}", warnings(&stage));
    assert!(stage.view(ROOT).report.limits.applied.is_empty());
    // Whoever attaches anew wants it placed anew, and patience begins again.
    let request = attach_request(12);
    let again = facts(12, 1_000, "ffmpeg");
    stage
        .governor
        .attach(now, &request, again, &mut stage.effects)
        .expect("attached");
    let placement = in_group(now);
    stage.at(now, Event::Placed { key: ROOT, placement });
    assert_eq!(
        tell(&mut stage, now, moved(ROOT, now), back())[0],
        "recheck 12 12 restore"
    );
}

#[test]
fn moves_that_lie_far_apart_are_undone_each_time() {
    let mut stage = restored();
    for round in 0..u64::from(RESTORES_MAX) * 4 {
        let now = 10_000 + round * (WINDOW_NS / 4);
        let words = tell(&mut stage, now, moved(ROOT, now), back());
        assert_eq!(words[0], "recheck 12 12 restore", "round {round}");
    }
}

#[test]
fn the_processes_of_one_job_are_counted_apart() {
    let mut stage = restored();
    for pid in 100..200 {
        let child = ProcessKey::new(pid, 5_000);
        let words = tell(&mut stage, 10_000, moved(child, 10_000), back());
        assert_eq!(words[0], format!("recheck 12 {pid} restore"));
    }
}

#[test]
fn a_released_job_is_nobodys_to_bring_back() {
    let mut stage = restored();
    let released = Event::Released {
        key: ROOT,
        undone: Vec::new(),
        warnings: Vec::new(),
    };
    stage.at(9_000, released);
    let moved = moved(ROOT, 9_500);
    assert_eq!(
        stage.at(10_000, Event::Moved { root: ROOT, moved }),
        ["publish Moved observed"]
    );
}

#[test]
fn the_origin_and_the_policy_outlive_a_restart() {
    let mut first = Stage::new(TestRules::default().and("ffmpeg", 0, restoring("media")));
    first.at(2_000, Event::Appeared(facts(12, 1_000, "ffmpeg")));
    let origin = crate::core::origin::Origin {
        groups: vec![("cpu".to_owned(), "/user.slice".to_owned())],
        ..Default::default()
    };
    let placement = Placement {
        origin: Some(Box::new(origin.clone())),
        ..in_group(3_000)
    };
    first.at(3_000, Event::Placed { key: ROOT, placement });
    let stored = serde_json::to_string(&first.view(ROOT)).expect("a record");
    let remembered: JobView = serde_json::from_str(&stored).expect("a record");
    assert_eq!(remembered.origin, Some(origin));

    let mut second = Stage::new(TestRules::default());
    second.governor.restore(9_000, &remembered, &mut second.effects);
    assert_eq!(second.view(ROOT), remembered);
    assert_eq!(
        tell(&mut second, 10_000, moved(ROOT, 9_000), back())[0],
        "recheck 12 12 restore"
    );
}
