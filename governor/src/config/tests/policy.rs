//! The node's policy in the file: what it means, and what is refused word for word.

use insta::assert_snapshot;

use super::super::parse;
use crate::core::policy::Reserve;
use crate::core::pressure::{Resource, Share};

const RULES: &str = "rules:\n  - {commands: [a], class: live}\n  - {commands: [b], class: batch}\n";

fn wrong(policy: &str) -> String {
    match parse("node.yaml", &format!("{RULES}{policy}")) {
        Ok(config) => format!("accepted: {:?}", config.policy),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_policy_means_what_it_says_and_its_defaults() {
    let text = "reserve_cpus: 0.5\nreserve_memory: 2GiB\npressure:\n  - watch: {class: live, resource: cpu, stall: \
                150ms}\n    lower: {class: batch, cpu_weight: 10, cpu_quota: 50}\n  - name: disk\n    watch: {resource: \
                io, share: full, stall: 1s, window: 5s}\n    lower: {class: batch, io_weight: 1}\n    restore_after: 1m\n";
    let policy = parse("node.yaml", &format!("{RULES}{text}")).unwrap().policy;
    assert_eq!(
        policy.reserve,
        Reserve {
            milli_cpus: Some(500),
            memory: Some(2 << 30)
        }
    );
    let [first, second] = &policy.pressure[..] else {
        panic!("{policy:?}")
    };
    assert_eq!(first.name, "pressure-1");
    assert_eq!(first.watch.to_string(), "class live: cpu some 150 ms in 1000 ms");
    assert_eq!(first.restore_after_ns, 10_000_000_000);
    assert_eq!(first.limits.cpu_max.unwrap().to_string(), "50000 100000");
    assert_eq!(first.limits.cpu_weight, Some(10));
    assert_eq!(
        (second.watch.resource, second.watch.share),
        (Resource::Io, Share::Full)
    );
    assert_eq!(
        second.watch.to_string(),
        "the machine: io full 1000 ms in 5000 ms"
    );
    assert_eq!(second.limits.io_weight, Some(1));
    let nothing = parse("node.yaml", "reserve_cpus: 0\nreserve_memory: 0")
        .unwrap()
        .policy;
    assert_eq!(nothing.reserve, Reserve::default());
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_its_place() {
    assert_snapshot!(wrong("reserve_cpus: -1\nreserve_memory: lots"), @r#"
    node.yaml:4:15: reserve_cpus: -1 is not possible; write how many CPUs to leave free, such as 1 or 0.5
    node.yaml:5:17: reserve_memory: "lots" is not possible; write MiB, or a size such as 2GiB, or 0 for none
    "#);
    assert_snapshot!(wrong("reserve_cpus: half"), @r#"node.yaml:4:15: reserve_cpus: write a number"#);
    assert_snapshot!(wrong("pressure: [{}]"), @r#"
    node.yaml:4:12: pressure[0]: has no lower; write lower: {class: batch, cpu_weight: 10}
    node.yaml:4:12: pressure[0]: has no watch; write watch: {class: live, resource: cpu, stall: 150ms}
    "#);
    assert_snapshot!(wrong("pressure:\n  - watch: {class: live}\n    lower: {class: batch}"), @r#"
    node.yaml:5:5: pressure[0]: has no limit to lower; write one of cpu_quota, cpu_weight, io_weight
    node.yaml:5:5: pressure[0]: has no watch.resource; write resource: cpu, memory or io
    node.yaml:5:5: pressure[0]: has no watch.stall; write stall: 150ms, for instance
    "#);
    assert_snapshot!(wrong("pressure:\n  - watch: {class: lvie, resource: cpu, stall: 150}\n    lower: {class: live, cpu_quota: 0}\n    restore_after: 10ms"), @r#"
    node.yaml:5:20: pressure[0].watch.class: "lvie" is the class of no rule; the rules have batch, default, live
    node.yaml:5:48: pressure[0].watch.stall: "150" is no duration; write a number with its unit, such as 10s, 5m or 1h30m
    node.yaml:6:37: pressure[0].lower.cpu_quota: 0 is no limit, which would lower nothing; write 1 or more
    node.yaml:7:20: pressure[0].restore_after: 10ms is not possible; write 1s to 1day
    "#);
    assert_snapshot!(wrong("pressure:\n  - watch: {class: live, resource: cpu, stall: 2s, window: 20s}\n    lower: {class: batch, cpu_weight: 0}"), @r#"
    node.yaml:5:60: pressure[0].watch.window: 20s is not possible; write 500ms to 10s
    node.yaml:6:39: pressure[0].lower.cpu_weight: 0 is not possible; write 1 to 10000; 100 is normal
    "#);
    assert_snapshot!(wrong("pressure:\n  - watch: {class: live, resource: cpu, stall: 2s}\n    lower: {class: live, cpu_weight: 10}"), @r#"
    node.yaml:5:5: pressure[0]: class "live" would be lowered because it stalls; watch another
    node.yaml:5:48: pressure[0].watch.stall: 2s is not possible; write 5ms to 1s
    "#);
    assert_snapshot!(wrong("pressure:\n  - watch: {class: batch, resource: cpu, stall: 2s, window: 5s}\n    lower: {class: live, cpu_weight: 10}\n    restore_after: 2s\n  - name: pressure-1\n    watch: {resource: gpu, stall: 2s}\n    lower: {class: live, cpu_weight: 10}"), @r#"node.yaml:9:23: pressure[1].watch.resource: "gpu" is not possible; write cpu, memory or io"#);
    assert_snapshot!(wrong("pressure:\n  - {name: x, watch: {class: batch, resource: io, stall: 20ms}, lower: {class: live, cpu_weight: 10}}\n  - {name: x, watch: {class: batch, resource: io, stall: 20ms}, lower: {class: live, cpu_weight: 10}}"), @r#"node.yaml:6:5: pressure[1]: the name "x" is used twice; choose another"#);
    assert_snapshot!(wrong("pressure:\n  - watch: {class: batch, resource: cpu, stall: 2s, window: 5s}\n    lower: {class: live, cpu_weight: 10}\n    restore_after: 2s"), @r#"node.yaml:7:20: pressure[0].restore_after: is shorter than the window, so that the class would be lifted while the stall lasts"#);
    assert_snapshot!(wrong("presure: []"), @r#"node.yaml:4:1: unknown key "presure"; did you mean "pressure"?"#);
}
