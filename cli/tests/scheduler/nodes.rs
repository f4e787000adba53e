//! Nodes, as operators see them.

use std::process::Stdio;
use std::time::Duration;

use crate::world::{FakeNode, Said, World};

#[test]
fn a_node_is_listed_described_drained_resumed_and_removed() {
    let world = World::new();
    let node = FakeNode::join(&world, "node-a");
    let table = world.run(&["nodes", "list"]).ends(0);
    assert!(
        table.out.contains("name-of-node-a") && table.err.contains("Nodes: 1"),
        "{table:?}"
    );
    let shown = world.run(&["nodes", "describe", &node.id]).ends(0).out;
    assert!(
        shown.contains("Total RAM") && shown.contains("16.0G") && shown.contains("0/4"),
        "{shown}"
    );
    let status = || {
        let said = world.run(&["nodes", "describe", &node.id, "-o", "json"]).ends(0);
        said.json()["status"].as_str().unwrap().to_owned()
    };
    world.run(&["nodes", "cordon", &node.id]).ends(0);
    assert_eq!(status(), "cordoned");
    world.submitted();
    let why = world.run(&["jobs", "explain", "1"]).ends(0).out;
    assert!(why.contains("cordoned") && why.contains("node-a"), "{why}");
    let drained = world.run(&["nodes", "drain", &node.id]).ends(0).out;
    assert!(drained.contains("draining; it has no work"), "{drained}");
    world.run(&["nodes", "resume", &node.id]).ends(0);
    assert_eq!(status(), "available");
    let grant = node.claim();
    world.run(&["nodes", "remove", &node.id]).ends(8);
    node.complete(&grant);
    let gone = world.run(&["nodes", "remove", &node.id]).ends(0).out;
    assert!(gone.contains("removed"), "{gone}");
    world.run(&["nodes", "describe", &node.id]).ends(7);
}

#[test]
fn a_drain_waits_until_the_node_has_no_work_or_the_time_is_up() {
    let world = World::new();
    let node = FakeNode::join(&world, "node-a");
    world.run(&["nodes", "drain", &node.id, "--wait"]).ends(0);
    world.run(&["nodes", "resume", &node.id]).ends(0);
    world.submitted();
    let grant = node.claim();
    node.start(&grant, 10.0);
    let short = world.run(&["nodes", "drain", &node.id, "--wait", "--timeout", "300ms"]);
    let short = short
        .ends(12)
        .says(&["1 job goes on there", "The time is up", "stays draining"]);
    assert!(short.out.contains("1 job goes on there"), "{short:?}");
    let waiting = world
        .command(&["nodes", "drain", &node.id, "--wait", "--timeout", "1m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    node.complete(&grant);
    let said: Said = waiting.wait_with_output().unwrap().into();
    let said = said.ends(0);
    assert!(said.out.contains("draining; it has no work"), "{said:?}");
}
