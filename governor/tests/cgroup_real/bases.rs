//! Groups above ours that refuse, and what is said of it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::PoisonError;

use ffrtmp_api::Limits;
use ffrtmp_governor::core::plan::Version;
use ffrtmp_governor::host::cgroup::{CgroupBase, Tree, TreeOptions};
use ffrtmp_governor::host::priority;
use ffrtmp_governor::host::process::Pinned;

use crate::{ALONE, Bench};

#[test]
fn a_configured_base_is_made_and_gets_its_controllers() {
    let bench = Bench::new();
    let name = format!("/ffrtmp-test-base-{}", std::process::id());
    // v1 memory groups belong below the group this process is in, so the base is named only where there is no such.
    let memory_is_v1 = bench
        .tree
        .layout()
        .hierarchies
        .iter()
        .any(|one| one.version == Version::V1);
    let options = TreeOptions {
        base: CgroupBase::Below(name.clone().into()),
        slice: bench.slice.clone(),
    };
    let tree = Tree::open(options).unwrap();
    for hierarchy in &tree.layout().hierarchies {
        assert_eq!(hierarchy.base, hierarchy.mount.join(&name[1..]));
    }
    if memory_is_v1 {
        return;
    }
    let limits = Limits {
        memory_max: Some(64 << 20),
        ..Limits::default()
    };
    let prepared = tree.prepare("test", "job", &limits).unwrap();
    let retired = tree.retire(&prepared.group);
    tree.cleanup();
    for hierarchy in &tree.layout().hierarchies {
        std::fs::remove_dir(&hierarchy.base).unwrap();
    }
    assert!(retired.left.is_empty());
    assert_eq!(prepared.warnings, Vec::<String>::new());
    assert_eq!(prepared.applied.len(), 1);
}

#[test]
fn a_base_that_holds_processes_itself_is_named_with_what_to_do() {
    let mut bench = Bench::new();
    let v2 = bench.tree.layout().hierarchies[0].clone();
    // On hybrid machines v2 has no controller of ours, so nothing has to be passed down there.
    if v2.version != Version::V2 || v2.controllers.is_empty() {
        return;
    }
    let name = format!("ffrtmp-test-busy-{}", std::process::id());
    let busy = v2.mount.join(&name);
    std::fs::create_dir(&busy).unwrap();
    let process = bench.waiting("sleep 60");
    std::fs::write(busy.join("cgroup.procs"), process.pid().to_string()).unwrap();
    let options = TreeOptions {
        base: CgroupBase::Below(name.into()),
        ..TreeOptions::default()
    };
    let tree = Tree::open(options).unwrap();
    let limits = Limits {
        memory_max: Some(64 << 20),
        ..Limits::default()
    };
    let prepared = tree.prepare("test", "job", &limits).unwrap();
    let warnings = prepared.warnings.join("\n");
    bench.finish(&prepared);
    tree.cleanup();
    std::fs::remove_dir(&busy).unwrap();
    assert!(
        warnings.starts_with("memory_max is not enforced: write `+memory` to "),
        "{warnings}"
    );
    assert!(warnings.contains("DelegateSubgroup=supervisor"), "{warnings}");
}

#[test]
fn a_group_that_somebody_removes_before_it_is_used_is_named_as_the_reason() {
    let mut bench = Bench::new();
    let prepared = bench.prepare(&Limits::default());
    let process = bench.waiting("sleep 60");
    for path in prepared.group.paths() {
        std::fs::remove_dir(path).unwrap();
    }
    let error = bench
        .tree
        .place(&prepared.group, &[], &process, Vec::new)
        .unwrap_err();
    assert!(error.is_vanished() && !error.is_gone(), "{error:?}");
    assert!(
        error.to_string().ends_with("(somebody removed the group)"),
        "{error}"
    );
    assert!(process.is_alive());
    // The next try finds nothing in its way.
    let again = bench.prepare(&Limits::default());
    bench.tree.place(&again.group, &[], &process, Vec::new).unwrap();
    bench.finish(&again);
}

/// Makes a group in the v2 hierarchy alone, next to our slice, threaded; gives nothing where v2 has no such thing.
fn threaded_class(bench: &Bench) -> PathBuf {
    let v2 = &bench.tree.layout().hierarchies[0];
    assert_eq!(v2.version, Version::V2, "these machines have cgroup2");
    let class = v2.base.join(&bench.slice).join("test");
    std::fs::create_dir_all(&class).unwrap();
    std::fs::write(class.join("cgroup.type"), "threaded").unwrap();
    class
}

#[test]
fn a_threaded_group_above_refuses_with_what_it_is() {
    let mut bench = Bench::new();
    let class = threaded_class(&bench);
    let process = bench.waiting("sleep 60");
    let limits = Limits {
        memory_max: Some(64 << 20),
        ..Limits::default()
    };
    let prepared = bench.tree.prepare("test", "job", &limits).unwrap();
    let placed = bench.tree.place(&prepared.group, &[], &process, Vec::new);
    let why = match &placed {
        // Other hierarchies took it in, and the limit holds there.
        Ok(moved) => {
            assert_eq!(prepared.warnings, Vec::<String>::new());
            assert_eq!(moved.refused.len(), 1, "{moved:?}");
            moved.refused[0].1.clone()
        }
        // v2 alone: nothing took it in, and its memory controller cannot be had there.
        Err(error) => {
            assert!(
                prepared.warnings[0].starts_with("memory_max is not enforced: "),
                "{prepared:?}"
            );
            error.to_string()
        }
    };
    assert!(why.contains("threaded"), "{why}");
    assert!(process.is_alive());
    // Reading who is in use must not fail on groups that have no list of processes.
    let (live, left) = bench.tree.adopt_leftovers().unwrap();
    assert_eq!((live.len(), left.len()), (usize::from(placed.is_ok()), 0));
    // Where nothing took it in, the group was empty and is gone by now.
    if placed.is_ok() {
        bench.finish(&prepared);
    }
    let _removed = std::fs::remove_dir(class);
}

#[test]
fn a_group_that_passes_controllers_on_takes_no_process_and_says_so() {
    let mut bench = Bench::new();
    let offered = bench.tree.layout().hierarchies[0].controllers.clone();
    let process = bench.waiting("sleep 60");
    let prepared = bench.prepare(&Limits::default());
    let paths = prepared.group.paths();
    // Where v2 has none of our controllers (hybrid) the kernel has no such rule to break, and the move succeeds.
    let passed_on = !offered.is_empty();
    if passed_on {
        let control = PathBuf::from(&paths[0]).join("cgroup.subtree_control");
        std::fs::write(control, "+memory").unwrap();
    }
    let placed = bench.tree.place(&prepared.group, &[], &process, Vec::new);
    match placed {
        Ok(moved) => assert!(!passed_on && moved.refused.is_empty(), "{moved:?}"),
        Err(error) => {
            assert!(passed_on);
            assert!(error.to_string().contains("passes controllers on"), "{error}");
        }
    }
    assert!(process.is_alive());
    bench.finish(&prepared);
}

/// Set in the process that plays the unprivileged user.
const AS_NOBODY: &str = "FFRTMP_TEST_AS_NOBODY";

#[test]
fn without_privilege_the_refusals_are_the_ones_users_know() {
    if std::env::var_os(AS_NOBODY).is_none() {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let output = Command::new("/proc/self/exe")
            .args([
                "--exact",
                "bases::without_privilege_the_refusals_are_the_ones_users_know",
            ])
            .env(AS_NOBODY, "1")
            .uid(65_534)
            .gid(65_534)
            .output()
            .unwrap();
        drop(alone);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let tree = Tree::open(TreeOptions::default()).unwrap();
    let error = tree.prepare("test", "job", &Limits::default()).unwrap_err();
    assert!(error.is_permission(), "{error}");
    assert!(error.to_string().contains("run as root"), "{error}");
    let me = Pinned::of_pid(std::process::id()).unwrap();
    let ask = |nice| Limits {
        nice: Some(nice),
        ..Limits::default()
    };
    let refused = priority::apply(&me, &ask(-5));
    assert!(refused.applied.is_empty());
    assert_eq!(
        refused.warnings,
        ["Cannot set negative nice (requires root), using 0"]
    );
    assert_eq!(priority::read(&me).nice, Some(0));
    let granted = priority::apply(&me, &ask(3));
    assert_eq!(granted.applied[0].value, "3");
}
