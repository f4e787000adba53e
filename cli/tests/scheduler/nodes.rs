//! Nodes, as operators see them.

use crate::world::{FakeNode, World};

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
