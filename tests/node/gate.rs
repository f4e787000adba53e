//! The exec gate: whoever executes a held file sits in its group at the first instruction, and nothing hangs.
//!
//! Every held file is a copy in the world's own directory; no program of the system is ever marked.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use ffrtmp_governor::control::types::GateStatus;
use ffrtmp_tests::{Options, World, eventually};

/// A world whose rule holds the execs of its workload.
fn gated(rule: &str, config: &str) -> World {
    let world = World::idle(Options {
        rule: format!("admission: gate\n{rule}"),
        ..Options::default()
    });
    let dir = world.path("");
    let path = world.path("governor.yaml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str(&format!("gate: {{directories: [{}], ready: 16}}\n{config}\n", dir.display()));
    std::fs::write(path, text).unwrap();
    let world = world.started();
    armed(&world);
    world
}

fn status(world: &World) -> GateStatus {
    let output = world.output(&["doctor", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(value["governor"]["gate"].clone()).unwrap_or_default()
}

/// Waits until the world's workload is held and groups are ready.
fn armed(world: &World) -> GateStatus {
    let what = format!("an armed gate; log: {}", world.log());
    eventually(&what, || {
        let status = status(world);
        let held = status.marked.iter().any(|line| line.in_force);
        (status.pid.is_some() && held && status.ready >= 16).then_some(status)
    })
}

fn count(world: &World, name: &str) -> u64 {
    status(world).counters.get(name).copied().unwrap_or(0)
}

/// What the workload saw of its groups first thing.
fn groups_at_start(path: &Path) -> String {
    eventually("the workload's own look at its groups", || {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
}

fn reap(mut child: Child) {
    let _ended = child.kill();
    child.wait().unwrap();
}

#[test]
fn a_held_exec_starts_in_its_group() {
    let world = gated("class: studio\nlimits: {cpu_quota: 50}", "");
    let file = world.path("groups");
    let child = world
        .workload
        .spawn(&["own-group", file.to_str().unwrap(), "sleep-us", "30000000"]);
    let text = groups_at_start(&file);
    assert!(text.contains("ffrtmp.slice/studio/s"), "{text}");
    let job = world.job(child.id());
    assert_eq!(job.state, "governed", "{job:#?}; log: {}", world.log());
    assert!(job.report.placement.groups[0].contains("/studio/s"), "{job:#?}");
    let applied = job.report.limits.applied.iter().any(|limit| limit.limit == "cpu_max");
    assert!(applied, "{:?}", job.report.limits);
    reap(child);
    let closed = world.closed(job.report.pid);
    for group in &closed.report.placement.groups {
        assert!(!Path::new(group).exists(), "{group} is left behind");
    }
    assert_eq!(count(&world, "placed"), 1);
    let _ = (Duration::ZERO, Instant::now());
}
