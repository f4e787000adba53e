//! Without a daemon: what a user gets from the command line alone.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ffrtmp_api::Report;
use ffrtmp_tests::{Base, Options, World, hierarchies};
use serde_json::json;

use super::{MALLORY, allowed, attach, end, ffrtmp, groups, nice_of, sleeper, stranger, text, tool};

#[test]
fn a_process_under_limits_of_its_own_groups_does_not_escape_them_through_us() {
    let world = World::new();
    let base = Base::new();
    // The administrator's group around this user's processes.
    let confining = [("cpu.max", "30000 100000"), ("cpu.cfs_quota_us", "30000")];
    let made = base.dirs().into_iter().find_map(|dir| {
        std::fs::create_dir_all(&dir).ok()?;
        enable_cpu(&dir);
        confining.iter().find_map(|(file, value)| {
            let path = dir.join(file);
            path.exists().then(|| std::fs::write(&path, value).unwrap())?;
            Some(dir.clone())
        })
    });
    let group = made.expect("a CPU controller");
    let own = sleeper(&stranger(&world), MALLORY);
    std::fs::write(group.join("cgroup.procs"), own.id().to_string()).unwrap();
    let before = groups(own.id());
    let job = allowed(attach(
        MALLORY,
        &world,
        own.id(),
        &json!({"nice": 4, "memory_max": 1 << 30}),
    ));
    assert_eq!(groups(own.id()), before);
    assert_eq!(nice_of(own.id()), 4, "what needs no group is done");
    let warnings = job["report"]["limits"]["warnings"].to_string();
    assert!(
        warnings.contains("stays in its own group") && warnings.contains("30000"),
        "{warnings}"
    );
    end(own);
}

/// Passes the CPU controller down to a v2 group; a v1 hierarchy needs nothing.
fn enable_cpu(dir: &Path) {
    let mut levels: Vec<&Path> = dir.ancestors().skip(1).collect();
    levels.reverse();
    for level in levels {
        let control = level.join("cgroup.subtree_control");
        if control.exists() {
            let _no_such_controller = std::fs::write(control, "+cpu +memory +pids");
        }
    }
}

fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr)))
}

const ALONE: [&str; 9] = [
    "--no-daemon",
    "run",
    "--json",
    "--nice",
    "6",
    "--cpu-quota",
    "40",
    "--memory-limit",
    "64",
];

#[test]
fn without_a_daemon_and_a_group_a_user_gets_nice_and_the_words_to_fix_the_rest() {
    let world = World::idle(Options::default());
    let program = world.workload.path().display().to_string();
    let args = [&ALONE[..], &["--", &program, "sleep-us", "1000"]].concat();
    let output = ffrtmp(MALLORY, &world, &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = report(&output);
    assert!(
        report.limits.applied.iter().any(|limit| limit.limit == "nice"),
        "{report:#?}"
    );
    let warnings = report.limits.warnings.join("\n");
    for words in [
        "Cannot create cgroup (permission denied)",
        "cpu_max 40000 100000",
        "Delegate=yes",
    ] {
        assert!(warnings.contains(words), "{warnings}");
    }
    let output = ffrtmp(
        MALLORY,
        &world,
        &["--no-daemon", "run", "--nice", "-5", "--", "/bin/true"],
    );
    assert_eq!(output.status.code(), Some(0));
    let talk = text(&output.stderr);
    assert!(
        talk.contains("WARNING: Cannot set negative nice (requires root), using 0"),
        "{talk}"
    );
}

#[test]
fn without_a_daemon_a_user_uses_the_group_that_was_handed_over() {
    let world = World::idle(Options::default());
    let base = Base::new();
    let program = world.workload.path().display().to_string();
    let list = world.path("groups");
    std::fs::write(&list, "").unwrap();
    chown(&list, Some(MALLORY), Some(MALLORY)).unwrap();
    let mut joined = Vec::new();
    for mount in hierarchies() {
        let dir = mount.join(base.name());
        if std::fs::create_dir_all(dir.join("login")).is_err() {
            continue;
        }
        enable_cpu(&dir.join("login"));
        for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
            for place in [dir.join(name), dir.join("login").join(name)] {
                if place.exists() {
                    chown(&place, Some(MALLORY), Some(MALLORY)).unwrap();
                }
            }
        }
        seed_cpuset(&dir);
        joined.push(dir.join("login/cgroup.procs"));
    }
    // A login that sits in the delegated group, as a user service puts it.
    let script = format!(
        "{}\nexec setpriv --reuid {MALLORY} --regid {MALLORY} --clear-groups {} {} -- {program} own-group {} alloc-mib 8",
        joined
            .iter()
            .map(|procs| format!("echo $$ > {}", procs.display()))
            .collect::<Vec<_>>()
            .join("\n"),
        tool(&world).display(),
        ALONE.join(" "),
        list.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("FFRTMP_SOCKET", world.socket())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report = report(&output);
    assert_eq!(report.exit_code, Some(0), "{}", text(&output.stderr));
    for limit in ["cpu_max", "memory_max", "nice"] {
        let applied = &report.limits.applied;
        assert!(
            applied.iter().any(|one| one.limit == limit),
            "{limit}: {report:#?}"
        );
    }
    assert_eq!(report.limits.warnings, [""; 0]);
    let sat = std::fs::read_to_string(&list).unwrap();
    assert!(
        // On v2 the login's own group holds nobody but the wrapper, which makes room in it.
        sat.contains(&format!("{}/login/ffrtmp.slice/run/run-", base.name())),
        "{sat}"
    );
    assert!(
        report.usage.memory_peak_bytes.unwrap() > 8 << 20,
        "{:?}",
        report.usage
    );
    for group in &report.placement.groups {
        assert!(!Path::new(group).exists(), "{group} stays");
    }
}

/// A v1 group takes no process before it has CPUs and memory nodes.
fn seed_cpuset(dir: &Path) {
    for level in [dir.parent().unwrap(), dir, &dir.join("login")] {
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let above = level
                .parent()
                .and_then(|above| std::fs::read_to_string(above.join(name)).ok());
            let own = level.join(name);
            let empty = std::fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty());
            if let Some(above) = above.filter(|_| empty) {
                let _v2_has_all = std::fs::write(own, above.trim());
            }
        }
    }
}
