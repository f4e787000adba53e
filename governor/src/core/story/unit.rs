//! Members of systemd services: which mode they get, and what the order says of their unit.

use super::*;

impl Stage {
    /// On a machine that systemd runs.
    fn with_systemd(mut self) -> Self {
        self.governor.settings.no_scopes = None;
        self
    }
}

fn inside(cgroup: &str) -> ProcessFacts {
    ProcessFacts {
        cgroup: Some(cgroup.to_owned()),
        ..facts(12, 1_000, "ffmpeg")
    }
}

#[test]
fn the_mode_follows_from_the_group_a_process_was_found_in() {
    for (cgroup, mode, unit) in [
        (
            "/system.slice/nginx.service",
            PlacementMode::Scope,
            Some("nginx.service"),
        ),
        (
            "/user.slice/user-1000.slice/session-1.scope",
            PlacementMode::Place,
            None,
        ),
        ("/", PlacementMode::Place, None),
    ] {
        let mut stage = Stage::ffmpeg().with_systemd();
        stage.at(2_000, Event::Appeared(inside(cgroup)));
        let order = stage.order();
        assert_eq!(order.mode, mode, "{cgroup}");
        assert_eq!(order.unit.map(|unit| unit.name).as_deref(), unit, "{cgroup}");
        assert!(!order.inside_unit);
    }
}

#[test]
fn what_a_rule_says_of_the_placement_wins_over_the_unit() {
    let rules = TestRules::default().and("ffmpeg", 0, placed("media", PlacementMode::Place));
    let mut stage = Stage::new(rules).with_systemd();
    stage.at(2_000, Event::Appeared(inside("/system.slice/nginx.service")));
    assert_eq!(stage.order().mode, PlacementMode::Place);
}

#[test]
fn without_systemd_a_path_that_looks_like_a_unit_means_nothing() {
    let mut stage = Stage::ffmpeg();
    stage.at(2_000, Event::Appeared(inside("/system.slice/nginx.service")));
    let order = stage.order();
    assert_eq!((order.mode, order.unit), (PlacementMode::Place, None));
}

#[test]
fn a_run_inside_a_service_stays_in_it() {
    let mut stage = Stage::ffmpeg().with_systemd();
    let mut request = attach_request(12);
    request.found = Found::Run;
    request.placement = None;
    let facts = inside("/system.slice/wrapped.service");
    let attached = stage.governor.attach(2_000, &request, facts, &mut stage.effects);
    assert!(attached.is_ok());
    let order = stage.order();
    assert_eq!(order.mode, PlacementMode::InPlace);
    assert!(order.inside_unit);
    assert_eq!(
        order.unit.map(|unit| unit.group).as_deref(),
        Some("/system.slice/wrapped.service")
    );
}
