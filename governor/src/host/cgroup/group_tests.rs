//! Groups in a pretended hierarchy: plain directories, in which no kernel makes files appear.

use super::*;

/// A v2 machine whose files are plain files. `mkdir` brings no control files along, so every limit fails to be written,
/// which is what these tests want to see reported.
fn machine() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("cg")).unwrap();
    std::fs::create_dir(at("mem")).unwrap();
    let line = |point: &str, kind: &str, options: &str| {
        format!(
            "30 23 0:26 / {} rw - {kind} {kind} {options}\n",
            at(point).display()
        )
    };
    std::fs::write(
        at("mountinfo"),
        line("cg", "cgroup2", "rw") + &line("mem", "cgroup", "rw,memory"),
    )
    .unwrap();
    std::fs::write(at("own"), "2:memory:/\n0::/\n").unwrap();
    std::fs::write(at("cg/cgroup.controllers"), "cpu pids\n").unwrap();
    std::fs::write(at("cg/cgroup.subtree_control"), "cpu\n").unwrap();
    let sources = Sources {
        mountinfo: at("mountinfo"),
        own_groups: at("own"),
        block: at("block"),
        delegated: |_| false,
    };
    let tree = Tree::open_at(&sources, TreeOptions::default()).unwrap();
    (dir, tree)
}

#[test]
fn a_taken_name_gets_a_suffix_in_every_hierarchy_alike() {
    let (dir, tree) = machine();
    let name = |limits: &Limits| tree.prepare("batch", "job", limits).unwrap().name;
    assert_eq!(name(&Limits::default()), "job");
    assert_eq!(name(&Limits::default()), "job-2");
    // The name is free in one hierarchy and taken in the other: both must get the next one, and nothing may be left over.
    std::fs::create_dir(dir.path().join("mem/ffrtmp.slice/batch/job-3")).unwrap();
    let prepared = tree.prepare("batch", "job", &Limits::default()).unwrap();
    assert_eq!(prepared.name, "job-4");
    assert!(
        prepared
            .group
            .paths()
            .iter()
            .all(|path| path.ends_with("/ffrtmp.slice/batch/job-4"))
    );
    assert!(!dir.path().join("cg/ffrtmp.slice/batch/job-3").exists());
}

#[test]
fn the_group_id_is_the_inode_of_its_v2_directory() {
    let (dir, tree) = machine();
    let prepared = tree.prepare("c", "j", &Limits::default()).unwrap();
    let inode = std::fs::metadata(dir.path().join("cg/ffrtmp.slice/c/j"))
        .unwrap()
        .ino();
    assert_eq!(prepared.group.id(), Some(inode));
}

#[test]
fn a_limit_whose_file_does_not_take_it_is_a_warning_that_says_what_was_written_where() {
    let (dir, tree) = machine();
    std::fs::create_dir_all(dir.path().join("cg/ffrtmp.slice/c")).unwrap();
    for level in ["cg/ffrtmp.slice", "cg/ffrtmp.slice/c"] {
        std::fs::write(dir.path().join(level).join("cgroup.subtree_control"), "cpu\n").unwrap();
    }
    let limits = Limits {
        cpu_weight: Some(50),
        memory_max: Some(1 << 30),
        ..Limits::default()
    };
    let prepared = tree.prepare("c", "j", &limits).unwrap();
    assert!(prepared.applied.is_empty());
    let shown = prepared
        .warnings
        .join("\n")
        .replace(dir.path().to_str().unwrap(), "@");
    insta::assert_snapshot!(shown, @r"
    cpu_weight is not enforced: write `50` to @/cg/ffrtmp.slice/c/j/cpu.weight: No such file or directory (os error 2)
    memory_max is not enforced: write `1073741824` to @/mem/ffrtmp.slice/c/j/memory.limit_in_bytes: No such file or directory (os error 2)
    ");
}

#[test]
fn a_controller_that_cannot_be_passed_on_costs_its_limits_and_says_why() {
    let (dir, tree) = machine();
    let limits = Limits {
        pids_max: Some(5),
        ..Limits::default()
    };
    // The base is plain, so "+pids" is written into it and seems to succeed; the slice has no such file at all.
    let prepared = tree.prepare("c", "j", &limits).unwrap();
    let shown = prepared
        .warnings
        .join("\n")
        .replace(dir.path().to_str().unwrap(), "@");
    assert_eq!(
        shown,
        "pids_max is not enforced: open @/cg/ffrtmp.slice/cgroup.subtree_control: No such file or directory (os error 2)"
    );
}

#[test]
fn one_hierarchy_that_refuses_costs_its_limits_and_all_of_them_are_an_error() {
    let (dir, tree) = machine();
    // A plain file in the way refuses root as well, which the permission bits of a directory would not.
    std::fs::write(dir.path().join("mem/ffrtmp.slice"), "").unwrap();
    let limits = Limits {
        memory_max: Some(1 << 30),
        ..Limits::default()
    };
    let prepared = tree.prepare("c", "j", &limits).unwrap();
    assert_eq!(prepared.group.dirs().len(), 1);
    assert!(
        prepared.warnings[0].starts_with("memory_max is not enforced: mkdir "),
        "{:?}",
        prepared.warnings
    );

    std::fs::write(dir.path().join("cg/other.slice"), "").unwrap();
    std::fs::write(dir.path().join("mem/other.slice"), "").unwrap();
    let mut tree = tree;
    tree.options.slice = "other.slice".to_owned();
    let error = tree.prepare("c", "j", &limits).unwrap_err();
    assert!(
        matches!(error, CgroupError::Create(_)) && !error.is_permission(),
        "{error}"
    );
    let denied = CgroupError::Create(IoError::new(
        "mkdir",
        Path::new("/x"),
        std::io::Error::from_raw_os_error(libc::EROFS),
    ));
    assert!(denied.is_permission());
}

#[test]
fn names_that_could_leave_their_directory_are_refused() {
    let (_dir, tree) = machine();
    for bad in ["", ".", "..", "a/b", "a\nb", ".hidden", &"x".repeat(241)] {
        assert!(
            matches!(
                tree.prepare(bad, "j", &Limits::default()),
                Err(CgroupError::Name { .. })
            ),
            "{bad:?}"
        );
        assert!(
            matches!(
                tree.prepare("c", bad, &Limits::default()),
                Err(CgroupError::Name { .. })
            ),
            "{bad:?}"
        );
    }
}

#[test]
fn leftovers_of_a_dead_governor_are_found_with_their_processes_and_empty_ones_go() {
    let (dir, tree) = machine();
    let make = |path: &str, procs: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(&path).unwrap();
        if !procs.is_empty() {
            std::fs::write(path.join("cgroup.procs"), procs).unwrap();
        }
    };
    make("cg/ffrtmp.slice/live/a", "7\n3\n");
    make("mem/ffrtmp.slice/live/a", "3\n");
    make("mem/ffrtmp.slice/live/a/nested", "9\n");
    make("mem/ffrtmp.slice/live/b", "");
    let (live, left) = tree.adopt_leftovers().unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].class.as_str(), live[0].name.as_str()), ("live", "a"));
    assert_eq!(live[0].pids, [3, 7, 9]);
    assert_eq!(live[0].group.dirs().len(), 2);
    assert!(!dir.path().join("mem/ffrtmp.slice/live/b").exists());
    // A group with something in it is not removed, and says so.
    let retired = tree.retire(&live[0].group);
    assert_eq!((retired.removed.len(), retired.left.len()), (0, 2));
    assert!(tree.cleanup().removed.is_empty());
}

#[test]
fn a_group_is_found_again_by_its_paths_and_nothing_else_is() {
    let (dir, tree) = machine();
    let prepared = tree.prepare("c", "j", &Limits::default()).unwrap();
    assert_eq!(tree.reopen(&prepared.group.paths()), Some(prepared.group));
    let at = |path: &str| vec![dir.path().join(path).display().to_string()];
    for path in [
        "cg",
        "cg/ffrtmp.slice",
        "cg/ffrtmp.slice/c",
        "cg/ffrtmp.slice/c/../x",
        "cg/a/b",
        "mem/x/c/j",
    ] {
        assert_eq!(tree.reopen(&at(path)), None, "{path}");
    }
    assert_eq!(tree.reopen(&[]), None);
}
