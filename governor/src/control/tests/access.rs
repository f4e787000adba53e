//! What is open to whom.

use serde_json::{Value, json};

use super::{NOBODY, Sleeper, World, attach};

#[test]
fn anybody_may_list_but_not_read_the_command_lines_of_others() {
    let world = World::start();
    let (status, jobs) = world.nobody("GET", "/v1/jobs", &Value::Null);
    assert_eq!(status, 200);
    let commands: Vec<_> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| &job["report"]["command"])
        .collect();
    assert_eq!(commands, [&Value::Null, &json!(["ffmpeg", "-i", "x.mp4"])]);
    let (_, job) = world.nobody("GET", "/v1/jobs/of-root", &Value::Null);
    assert_eq!(
        (&job["key"], &job["report"]["command"]),
        (&json!("10-5"), &Value::Null)
    );
    let (_, jobs) = world.root("GET", "/v1/jobs", "");
    assert!(
        jobs.as_array()
            .unwrap()
            .iter()
            .all(|job| job["report"]["command"].is_array())
    );
}

#[test]
fn without_privilege_only_own_processes_are_attached_and_only_downwards() {
    let world = World::start();
    let own = Sleeper::start();
    let pid = own.0.id();
    let rows = [
        (attach(std::process::id(), &json!({})), 403),
        (attach(1, &json!({})), 403),
        (attach(pid, &json!({"nice": -5})), 403),
        (attach(pid, &json!({"oom_score_adj": -500})), 403),
        (attach(pid, &json!({"cpu_weight": 200})), 403),
        (attach(u32::MAX, &json!({})), 404),
        (attach(pid, &json!({"nice": 5, "memory_max": 64 << 20})), 200),
        (attach(pid, &json!({"nice": 5})), 403),
        (attach(pid, &json!({"nice": 6, "memory_max": 32 << 20})), 200),
    ];
    for (body, status) in rows {
        let (got, answer) = world.nobody("POST", "/v1/attach", &body);
        assert_eq!(got, status, "{body}: {answer}");
        assert_eq!(got == 403, answer["code"] == "not_allowed");
        assert_eq!(got == 200, answer["hint"].is_null(), "{answer}");
    }
    let attached = world.engine.state.lock().unwrap().attached.clone();
    assert_eq!(attached.len(), 2);
    assert!(
        attached
            .iter()
            .all(|(_, peer)| peer.uid == NOBODY && !peer.privileged)
    );
    let (status, _) = world.root(
        "POST",
        "/v1/attach",
        attach(pid, &json!({"nice": -5})).to_string(),
    );
    assert_eq!(status, 200, "root may raise");
}

#[test]
fn without_privilege_rules_are_not_changed_and_others_not_explained() {
    let world = World::start();
    for (method, route, body) in [
        ("POST", "/v1/reload", Value::Null),
        ("POST", "/v1/sessions", json!({"targets": ["ffmpeg"]})),
        ("POST", "/v1/release", json!("all")),
        ("POST", "/v1/release", json!({"one": "of-root"})),
        ("POST", "/v1/release", json!({"one": "11"})),
        ("GET", "/v1/explain/10", Value::Null),
        ("GET", "/v1/explain/1", Value::Null),
    ] {
        let (status, answer) = world.nobody(method, route, &body);
        assert_eq!(
            (status, &answer["code"]),
            (403, &json!("not_allowed")),
            "{route} {body}"
        );
        assert!(answer["hint"].as_str().unwrap().contains("group"), "{answer}");
    }
    assert_eq!(world.nobody("GET", "/v1/explain/11", &Value::Null).0, 200);
    let state = world.engine.state.lock().unwrap();
    assert!(state.released.is_empty() && state.last_session == 0);
}

#[test]
fn a_member_of_the_group_may_do_what_root_may() {
    let nogroup = nix::unistd::Group::from_gid(NOBODY.into()).unwrap().unwrap().name;
    let world = World::with(|_| None, &nogroup);
    assert_eq!(world.nobody("POST", "/v1/reload", &Value::Null).0, 200);
    assert_eq!(world.nobody("POST", "/v1/release", &json!("all")).0, 200);
    let (_, jobs) = world.nobody("GET", "/v1/jobs", &Value::Null);
    assert!(
        jobs.as_array()
            .unwrap()
            .iter()
            .all(|job| job["report"]["command"].is_array())
    );
}
