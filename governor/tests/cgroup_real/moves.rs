//! Processes going into a group and out of it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;
use ffrtmp_governor::core::plan::Version;
use ffrtmp_governor::host::cgroup::CgroupError;
use ffrtmp_governor::host::priority;
use ffrtmp_governor::host::process::Pinned;
use ffrtmp_governor::host::procfs::{descendants, listed_of, read_cgroups};

use crate::{Bench, eventually};

#[test]
fn children_born_before_and_during_the_move_are_brought_in() {
    let mut bench = Bench::new();
    for round in 0..10 {
        let prepared = bench.prepare(&Limits::default());
        let root = bench
            .waiting("i=0; while [ $i -lt 60 ]; do sh -c 'sleep 30; :' & i=$((i+1)); done; echo all; wait");
        bench.go(&root);
        // Placed somewhere in the middle of its forking, at another point each round.
        std::thread::sleep(Duration::from_millis(round * 5));
        let moved = bench
            .tree
            .place(&prepared.group, &[], &root, || descendants(root.pid()))
            .unwrap();
        assert!(moved.warnings.is_empty() && moved.refused.is_empty(), "{moved:?}");
        let mut said = String::new();
        let out = bench.child(&root).stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        assert_eq!(said, "all\n");
        let family = descendants(root.pid());
        assert!(family.len() >= 60, "only {} descendants", family.len());
        for key in family {
            let Ok(one) = Pinned::open(key) else { continue };
            assert!(
                bench.tree.contains(&prepared.group, &one) || !one.is_alive(),
                "{key:?} is outside"
            );
        }
        bench.finish(&prepared);
        bench.children.clear();
    }
}

#[test]
fn release_puts_groups_and_attributes_back() {
    let mut bench = Bench::new();
    let process = bench.waiting("sleep 60");
    let groups = |process: &Pinned| {
        let mut all: Vec<_> = read_cgroups(process.pid()).unwrap().0.into_iter().collect();
        all.sort_by_key(|one| one.hierarchy);
        all.into_iter()
            .map(|one| (one.hierarchy, one.pathname))
            .collect::<Vec<_>>()
    };
    let (before, origin) = (
        groups(&process),
        bench
            .tree
            .origin(&listed_of(&process).unwrap(), priority::read(&process)),
    );
    let limits = Limits {
        cpu_weight: Some(50),
        nice: Some(5),
        oom_score_adj: Some(300),
        ..Limits::default()
    };
    let prepared = bench.prepare(&limits);
    bench
        .tree
        .place(&prepared.group, &[], &process, Vec::new)
        .unwrap();
    let attributes = priority::apply(&process, &limits);
    assert_eq!(attributes.warnings, Vec::<String>::new());
    assert_ne!(groups(&process), before);
    assert_ne!(priority::read(&process), origin.attributes);

    // A later governor reads the origin from the ledger.
    let text = serde_json::to_string(&origin).unwrap();
    let undone = bench
        .tree
        .release(&[process.key()], &serde_json::from_str(&text).unwrap(), &limits);
    assert_eq!(undone.warnings, Vec::<String>::new());
    assert_eq!(undone.undone.len(), prepared.group.dirs().len() + 2, "{undone:?}");
    assert_eq!(groups(&process), before);
    assert_eq!(priority::read(&process), origin.attributes);
    let again = bench.tree.release(&[process.key()], &origin, &limits);
    assert_eq!(
        again.undone,
        Vec::<String>::new(),
        "a second release finds nothing to undo"
    );
    bench.finish(&prepared);
}

#[test]
fn a_populated_group_is_never_removed_and_is_found_again() {
    let mut bench = Bench::new();
    let (prepared, process) = bench.limited("sleep 60", &Limits::default());
    let retired = bench.tree.retire(&prepared.group);
    assert!(retired.removed.is_empty());
    assert_eq!(retired.left.len(), prepared.group.dirs().len());
    assert!(
        bench.tree.contains(&prepared.group, &process),
        "the workload was not touched"
    );
    // The next governor, knowing nothing, finds it with its processes and removes only what is empty.
    bench.tree.prepare("test", "empty", &Limits::default()).unwrap();
    let (live, left) = bench.tree.adopt_leftovers().unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].group, prepared.group);
    assert!(live[0].pids.contains(&process.pid()));
    bench.finish(&prepared);
}

#[test]
fn the_groups_id_is_what_the_kernel_tells_of_the_process() {
    let mut bench = Bench::new();
    let (prepared, process) = bench.limited("exit 3", &Limits::default());
    let v2 = bench
        .tree
        .layout()
        .hierarchies
        .iter()
        .any(|one| one.version == Version::V2);
    assert_eq!(prepared.group.id().is_some(), v2);
    let status = bench.child(&process).wait().unwrap();
    assert_eq!(status.code(), Some(3));
    // Kernels before 6.15 keep neither; the unit tests say so.
    if let Some(info) = process.exit_info() {
        assert_eq!(info.status, 3 << 8);
        assert_eq!(info.cgroup, prepared.group.id());
    }
    bench.finish(&prepared);
}

#[test]
fn a_key_of_another_time_moves_nobody() {
    let mut bench = Bench::new();
    let process = bench.waiting("sleep 60");
    let prepared = bench.prepare(&Limits::default());
    let stranger = ProcessKey::new(process.pid(), process.key().start + 1_000_000_000);
    let moved = bench
        .tree
        .place(&prepared.group, &[], &process, || vec![stranger])
        .unwrap();
    assert_eq!(moved.pids, [process.pid()]);
    assert!(Pinned::open(stranger).unwrap_err().is_gone());
    let ended = bench.waiting("exit 0");
    bench.go(&ended);
    bench.child(&ended).wait().unwrap();
    let error = bench
        .tree
        .place(&prepared.group, &[], &ended, Vec::new)
        .unwrap_err();
    assert!(
        error.is_gone() && matches!(error, CgroupError::Process(_)),
        "{error}"
    );
    bench.finish(&prepared);
}

#[test]
fn a_child_can_be_started_by_descriptors_alone() {
    let mut bench = Bench::new();
    let prepared = bench.prepare(&Limits::default());
    let into = bench.tree.spawn_into(&prepared.group).unwrap();
    let v1 = prepared.group.dirs().len() - usize::from(prepared.group.id().is_some());
    assert_eq!(into.v2.is_some(), prepared.group.id().is_some());
    assert_eq!(into.v1.len(), v1);
    drop(into);
    bench.finish(&prepared);
}

#[test]
fn a_frozen_group_is_told_from_one_that_runs() {
    let mut bench = Bench::new();
    let (prepared, process) = bench.limited("sleep 60", &Limits::default());
    assert_eq!(bench.tree.frozen(&listed_of(&process).unwrap()), None);
    let dir = PathBuf::from(&prepared.group.paths()[0]);
    std::fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    eventually("the group is frozen", || {
        bench.tree.frozen(&listed_of(&process).unwrap()) == Some(dir.clone())
    });
    std::fs::write(dir.join("cgroup.freeze"), "0").unwrap();
    eventually("the group runs", || {
        bench.tree.frozen(&listed_of(&process).unwrap()).is_none()
    });
    bench.finish(&prepared);
}
