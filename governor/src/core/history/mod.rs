//! Random hostile histories: events lost, doubled, swapped; pids reused; placements failed; rules replaced; the governor
//! killed and started again. After every step every invariant holds, and in the end the books balance. Tests only.

mod invariant;
mod world;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::JobId;
use proptest::prelude::*;

use super::event::{Event, ForeignMove, GroupUsage, KernelUsage, Placement};
use super::fixture::{TestRules, action, attach_request, exit, placed, restoring};
use super::rule::PlacementMode;
use crate::control::types::ReleaseRequest;
use world::World;

/// One step of a history. Numbers choose among what exists at that moment.
#[derive(Debug, Clone, Copy)]
enum Step {
    Exec(u32, usize, bool),
    Fork(usize),
    Reexec(usize),
    End(usize, bool, i32),
    Deliver,
    Lose,
    Double,
    Swap,
    Work(bool),
    Answer,
    Commit,
    Acknowledge,
    Pass(u64),
    Resync,
    Rules(usize),
    OpenSession(usize),
    CloseSession,
    Attach(usize, Option<u64>, usize),
    Release(Option<usize>),
    Cancel(usize),
    Move(usize),
    Restart,
    Stray(u32, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let pick = 0usize..8;
    let status = prop_oneof![Just(0), Just(256), Just(9), Just(15), Just(139)];
    prop_oneof![
        8 => (1u32..6, 0usize..4, any::<bool>()).prop_map(|(pid, name, inside)| Step::Exec(pid, name, inside)),
        2 => pick.clone().prop_map(Step::Fork),
        1 => pick.clone().prop_map(Step::Reexec),
        6 => (pick.clone(), any::<bool>(), status).prop_map(|(which, first, status)| Step::End(which, first, status)),
        12 => Just(Step::Deliver),
        2 => Just(Step::Lose),
        2 => Just(Step::Double),
        2 => Just(Step::Swap),
        8 => any::<bool>().prop_map(Step::Work),
        8 => Just(Step::Answer),
        4 => Just(Step::Commit),
        4 => Just(Step::Acknowledge),
        4 => (0u64..8_000_000_000).prop_map(Step::Pass),
        2 => (1u64..3_000_000).prop_map(Step::Pass),
        2 => Just(Step::Resync),
        1 => (0usize..4).prop_map(Step::Rules),
        1 => (0usize..4).prop_map(Step::OpenSession),
        1 => Just(Step::CloseSession),
        2 => (pick.clone(), proptest::option::of(1u64..20), 0usize..4)
            .prop_map(|(which, timeout, id)| Step::Attach(which, timeout, id)),
        2 => proptest::option::of(pick.clone()).prop_map(Step::Release),
        1 => pick.clone().prop_map(Step::Cancel),
        1 => pick.prop_map(Step::Move),
        1 => Just(Step::Restart),
        2 => (1u32..6, 0usize..5).prop_map(|(pid, kind)| Step::Stray(pid, kind)),
    ]
}

const NAMES: [&str; 4] = ["ffmpeg", "gst-launch-1.0", "late", "sh"];

fn rules(variant: usize) -> TestRules {
    match variant {
        0 => TestRules::governing(&["ffmpeg"], "media")
            .and("gst-launch-1.0", 0, restoring("media"))
            .and("late", 2, action("late")),
        1 => TestRules::governing(&["ffmpeg"], "other").and(
            "gst-launch-1.0",
            0,
            placed("seen", PlacementMode::Observe),
        ),
        2 => TestRules::waiting("ffmpeg", 3_000).and("sh", 0, placed("shells", PlacementMode::InPlace)),
        _ => TestRules::default(),
    }
}

/// The `which`-th of all trees, counted around.
fn pick(world: &World, which: usize) -> Option<ProcessKey> {
    let count = world.trees.len();
    world.trees.keys().nth(which % count.max(1)).copied()
}

fn run(world: &mut World, step: Step) {
    world.now += 50;
    match step {
        Step::Exec(pid, name, inside) => world.exec(pid, NAMES[name], inside),
        Step::Pass(ns) => world.pass(ns),
        Step::Deliver => deliver(world),
        Step::Lose => drop(world.ring.pop_front()),
        Step::Double => {
            if let Some(event) = world.ring.front().cloned() {
                world.ring.push_back(event);
            }
        }
        Step::Swap => {
            if 1 < world.ring.len() {
                world.ring.swap(0, 1);
            }
        }
        Step::Work(succeed) => world.work(succeed),
        Step::Answer => world.answer(),
        Step::Commit => world.commit(),
        Step::Acknowledge => world.acknowledge(),
        Step::Resync => world.resync(),
        Step::Rules(variant) => world.replace_rules(rules(variant)),
        Step::OpenSession(variant) => world.open_session(rules(variant)),
        Step::CloseSession => world.tell(Event::SessionClosed { session: 7 }),
        Step::Release(None) => world.release(&ReleaseRequest::All),
        Step::Restart => world.restart(),
        Step::Stray(pid, kind) => stray(world, pid, kind),
        Step::Fork(which)
        | Step::Reexec(which)
        | Step::End(which, ..)
        | Step::Attach(which, ..)
        | Step::Release(Some(which))
        | Step::Cancel(which)
        | Step::Move(which) => {
            if let Some(key) = pick(world, which) {
                run_on(world, key, step);
            }
        }
    }
}

fn deliver(world: &mut World) {
    if let Some(event) = world.ring.pop_front() {
        world.tell(event);
    }
}

fn run_on(world: &mut World, key: ProcessKey, step: Step) {
    match step {
        Step::Fork(_) => {
            if let Some(tree) = world.trees.get_mut(&key).filter(|tree| 0 < tree.live) {
                tree.live += 1;
            }
        }
        Step::Reexec(_) => {
            let facts = world.trees[&key].facts.clone();
            if world.records.contains(&key) {
                world.ring.push_back(Event::Reexeced { root: key, facts });
            }
        }
        Step::End(_, first, status) => world.end(key, first, status),
        Step::Attach(_, timeout_ms, id) => {
            let mut request = attach_request(key.pid);
            request.timeout_ms = timeout_ms;
            request.job_id = match id {
                0 => None,
                1 => Some(JobId::unknown()),
                2 => Some(JobId::auto("ffmpeg", 1)),
                _ => Some(JobId::parse("movie").unwrap()),
            };
            world.attach(key, &request);
        }
        Step::Release(_) => world.release(&ReleaseRequest::One(key.pid.to_string())),
        Step::Cancel(_) => world.cancel(key),
        Step::Move(_) => world.tell(Event::Moved {
            root: key,
            moved: ForeignMove {
                process: key,
                hierarchy: 3,
                mover: 1,
                at_ns: world.now,
            },
        }),
        other => panic!("{other:?} chooses no process"),
    }
}

/// Events of processes that never were.
fn stray(world: &mut World, pid: u32, kind: usize) {
    let key = ProcessKey::new(pid, 7);
    let placement = Placement::default();
    world.tell(match kind {
        0 => Event::Placed { key, placement },
        1 => Event::Retired {
            key,
            group: GroupUsage::default(),
            warnings: Vec::new(),
        },
        2 => Event::Saved { key },
        3 => Event::Exited {
            key,
            exit: exit(8, 0),
            live: 0,
        },
        _ => Event::Drained {
            key,
            usage: KernelUsage::default(),
            at_ns: 9,
        },
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_every_invariant_and_balances_its_books(
        steps in proptest::collection::vec(step(), 0..150)
    ) {
        let mut world = World::new(rules(0));
        for step in steps {
            run(&mut world, step);
        }
        world.settle();
    }
}

#[test]
fn the_histories_reach_every_kind_of_end() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    // A property over histories in which nothing ever happens proves nothing: count what they reach.
    let mut runner = TestRunner::deterministic();
    let strategy = proptest::collection::vec(step(), 100..150);
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        let mut world = World::new(rules(0));
        for step in steps {
            run(&mut world, step);
            for view in world.governor.jobs() {
                reached.insert(view.state);
                reached.extend(view.report.exit_reason);
                reached.extend(view.report.placement.not_placed);
                reached.extend(view.report.platform_sla_reason);
            }
            if 0 < world.governor.strays() {
                reached.insert("a stray".to_owned());
            }
        }
    }
    let expected = [
        "a stray",
        "canceled",
        "closed",
        "draining",
        "error",
        "governed",
        "limits_not_enforced",
        "no such process",
        "observed",
        "observed_to_completion",
        "placing",
        "retiring",
        "signal",
        "success",
        "timeout",
        "unobserved",
        "unplaced",
    ];
    for word in expected {
        assert!(reached.contains(word), "no history reached `{word}`: {reached:?}");
    }
}
