//! Under limits before it works: what a rule asks is in force, and the kernel says so.

use ffrtmp_tests::{Options, World, eventually};

/// The process's groups as the kernel shows them.
fn groups(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

#[test]
fn a_rules_limits_are_in_force_and_gone_with_the_job() {
    let world = World::with(Options {
        rule: "class: studio\nlimits: {cpu_quota: 50, cpu_weight: 50, memory_limit: 256, nice: 5}".to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    let job = world.job(child.id());
    assert_eq!(job.state, "governed", "{job:#?}");
    let report = &job.report;
    assert!(report.placement.placed_in_us.is_some(), "{report:#?}");
    assert!(
        groups(child.id()).contains("ffrtmp.slice/studio/"),
        "{}",
        groups(child.id())
    );
    let applied: Vec<&str> = report
        .limits
        .applied
        .iter()
        .map(|limit| limit.limit.as_str())
        .collect();
    for limit in ["cpu_max", "cpu_weight", "memory_max", "nice"] {
        assert!(
            applied.contains(&limit),
            "{limit} is not in {applied:?}; {:?}",
            report.limits.warnings
        );
    }
    for group in &report.placement.groups {
        assert!(std::path::Path::new(group).exists(), "{group}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let closed = world.closed(child.id());
    for group in &closed.report.placement.groups {
        assert!(!std::path::Path::new(group).exists(), "{group} is left behind");
    }
}

#[test]
fn a_quota_holds_a_spinning_process_back() {
    let world = World::with(Options {
        rule: "limits: {cpu_quota: 20}".to_owned(),
        ..Options::default()
    });
    let mut child = world.spawn_placed(&["burn-ms", "2000"]);
    child.wait().unwrap();
    let usage = world.closed(child.id()).report.usage;
    // 20 % of 2 s is 0.4 s; the margin covers the period the process starts in.
    let cpu = usage.cpu_sec.unwrap();
    assert!(cpu < 0.7, "a quota of 20 % let {cpu} s through in 2 s");
    assert!(usage.throttled_sec.unwrap() > 0.5, "{usage:?}");
}

#[test]
fn children_born_during_the_move_end_in_the_group() {
    let world = World::new();
    let mut child = world.workload.spawn(&["fork", "8", "sleep-us", "3000000"]);
    let job = world.job(child.id());
    let slice = eventually("nine processes", || {
        let view = world.jobs().into_iter().find(|view| view.key == job.key)?;
        (view.live == 9).then(|| view.report.placement.groups.clone())
    });
    let procs = slice
        .iter()
        .map(|group| {
            std::fs::read_to_string(format!("{group}/cgroup.procs"))
                .unwrap()
                .lines()
                .count()
        })
        .collect::<Vec<_>>();
    assert!(procs.iter().all(|count| *count == 9), "{procs:?} in {slice:?}");
    child.wait().unwrap();
    assert_eq!(world.closed(child.id()).report.usage.processes, Some(9));
}

#[test]
fn a_foreign_move_is_noticed() {
    let world = World::new();
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    let job = world.job(child.id());
    let group = std::path::Path::new(&job.report.placement.groups[0]);
    let away = group
        .ancestors()
        .find(|dir| dir.ends_with("ffrtmp.slice"))
        .unwrap()
        .parent()
        .unwrap();
    std::fs::write(away.join("cgroup.procs"), child.id().to_string()).unwrap();
    eventually("a warning that names the mover", || {
        let job = world.jobs().into_iter().find(|view| view.key == job.key)?;
        let mover = std::process::id().to_string();
        job.report
            .limits
            .warnings
            .iter()
            .any(|text| text.contains("moved") && text.contains(&mover))
            .then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    world.closed(child.id());
}

#[test]
fn release_puts_a_process_back() {
    let world = World::with(Options {
        rule: "limits: {nice: 7, cpu_quota: 50}".to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    let own = groups(std::process::id());
    world.job(child.id());
    assert_ne!(groups(child.id()), own);
    let output = world.output(&["release", &child.id().to_string()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(groups(child.id()), own, "back where it came from");
    // SAFETY: reads one integer.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, child.id()) };
    assert_eq!(nice, 0);
    child.kill().unwrap();
    child.wait().unwrap();
    // It is still followed.
    assert_eq!(world.closed(child.id()).report.signal, Some(9));
}

#[test]
fn observe_changes_nothing_and_records_everything() {
    let world = World::with(Options {
        rule: "placement: observe".to_owned(),
        ..Options::default()
    });
    let mut child = world.spawn_placed(&["sleep-us", "500000", "burn-cpu-ms", "100", "exit", "5"]);
    let before = groups(std::process::id());
    assert_eq!(groups(child.id()), before);
    child.wait().unwrap();
    let report = world.closed(child.id()).report;
    assert_eq!(report.exit_code, Some(5));
    assert!(report.usage.cpu_sec.unwrap() > 0.05);
    assert_eq!(report.usage.memory_peak_bytes, None);
    assert!(!report.usage.absent.is_empty(), "absent figures have a reason");
}
