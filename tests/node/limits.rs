//! Limits by their effect: not what files say, but what a job could not do.

use std::process::{Command, Stdio};

use ffrtmp_api::Report;
use ffrtmp_tests::machine::{CAP_SYS_NICE, CAP_SYS_RESOURCE, capable, status_of};
use ffrtmp_tests::{Options, World, eventually, report_of};

/// `ffrtmp run` of the world's workload through the daemon.
fn command(world: &World, flags: &[&str], steps: &[&str]) -> Command {
    let target = world.workload.path().to_string_lossy().into_owned();
    let args = [&["run", "--json"], flags, &["--", &target], steps].concat();
    let mut command = world.ffrtmp(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(world: &World, flags: &[&str], steps: &[&str]) -> Report {
    report_of(&command(world, flags, steps).output().unwrap())
}

fn applied(report: &Report, limit: &str) -> Option<String> {
    let found = report.limits.applied.iter().find(|one| one.limit == limit)?;
    Some(found.value.clone())
}

#[test]
fn a_spinning_process_gets_the_cpu_time_of_its_quota() {
    let world = World::new();
    for (flags, share) in [
        (["--cpu-quota", "20"], 0.2),
        (["--cpu-quota", "60"], 0.6),
        (["--cpu-max", "15000 50000"], 0.3),
    ] {
        let report = run(&world, &flags, &["burn-ms", "2000"]);
        let (cpu, wall) = (report.usage.cpu_sec.unwrap(), report.duration_sec.unwrap());
        println!("{flags:?}: {cpu:.3} s of CPU in {wall:.3} s");
        // The upper bound is the promise; one period's worth comes on top at the start. The lower one shows that it ran.
        assert!(cpu <= share * wall * 1.1 + 0.1, "{flags:?}: {cpu} s in {wall} s");
        assert!(cpu >= share * wall * 0.4, "{flags:?}: {cpu} s in {wall} s");
        // On a busy machine others may leave it less than a large quota, and then nothing holds it back.
        let had_it_all = share < 0.4 || cpu >= share * wall * 0.9;
        assert!(
            !had_it_all || report.usage.throttled_sec.unwrap() > 0.0,
            "{:?}",
            report.usage
        );
        assert!(applied(&report, "cpu_max").is_some(), "{:?}", report.limits);
    }
}

#[test]
fn rivals_on_one_cpu_share_it_by_their_weights() {
    let world = World::new();
    let start = |weight| {
        let flags = ["--cpu-set", "0", "--cpu-weight", weight];
        command(&world, &flags, &["burn-ms", "4000"]).spawn().unwrap()
    };
    let (heavy, light) = (start("400"), start("100"));
    let heavy = report_of(&heavy.wait_with_output().unwrap());
    let light = report_of(&light.wait_with_output().unwrap());
    let (more, less) = (heavy.usage.cpu_sec.unwrap(), light.usage.cpu_sec.unwrap());
    println!(
        "weights 400 and 100: {more:.3} s and {less:.3} s, {:.2} to 1",
        more / less
    );
    assert!((2.4..6.0).contains(&(more / less)), "{more} s and {less} s");
    // v1 knows 1024 where v2 knows 100.
    let shown = applied(&heavy, "cpu_weight").unwrap();
    assert!(["400", "4096"].contains(&shown.as_str()), "{shown}");
}

#[test]
fn a_fork_beyond_the_task_limit_is_refused() {
    let world = World::new();
    let refused = command(&world, &["--pids-max", "2"], &["fork", "4", "sleep-us", "300000"])
        .output()
        .unwrap();
    let report = report_of(&refused);
    // The target panics where a spawn fails; that is exit code 101.
    assert_eq!(report.exit_code, Some(101), "{report:#?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("WouldBlock") || said.contains("temporarily unavailable"),
        "{said}"
    );
    assert_eq!(applied(&report, "pids_max").as_deref(), Some("2"));
    let granted = run(
        &world,
        &["--pids-max", "16"],
        &["fork", "4", "sleep-us", "300000"],
    );
    assert_eq!((granted.exit_code, granted.usage.processes), (Some(0), Some(5)));
}

#[test]
fn a_job_runs_on_the_cpus_of_its_set_and_on_no_other() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let last = (cpus - 1).to_string();
    let world = World::with(Options {
        rule: format!("limits: {{cpu_set: \"{last}\"}}"),
        ..Options::default()
    });
    let mut child = world.spawn_placed(&["burn-threads", "4", "burn-cpu-ms", "1000"]);
    let job = world.job(child.id());
    let pid = child.id().to_string();
    assert_eq!(
        status_of(&pid, "Cpus_allowed_list").as_deref(),
        Some(last.as_str()),
        "{job:#?}"
    );
    assert_eq!(applied(&job.report, "cpu_set"), Some(last.clone()));
    // Field 3 of stat is the state, field 39 the CPU it ran on last: a sleeper has not run since it was placed.
    let ran_on = eventually("a thread to run", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let ran: Vec<String> = tasks
            .filter_map(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
                let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
                (fields.next()? == "R").then(|| fields.nth(35).unwrap_or_default().to_owned())
            })
            .collect();
        (!ran.is_empty()).then_some(ran)
    });
    assert!(ran_on.iter().all(|cpu| *cpu == last), "{ran_on:?}");
    child.wait().unwrap();
    world.closed(child.id());
    let absent = run(&world, &["--cpu-set", "4000"], &["exit", "0"]);
    let warnings = absent.limits.warnings.join("\n");
    assert!(warnings.contains("cpu_set is not"), "{warnings}");
}

#[test]
fn nice_and_disk_priority_are_what_the_kernel_shows() {
    let world = World::with(Options {
        rule: "limits: {nice: 5, io_priority: \"best-effort:6\"}".to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    let job = world.job(child.id());
    // SAFETY: reads one integer.
    assert_eq!(unsafe { libc::getpriority(libc::PRIO_PROCESS, child.id()) }, 5);
    let shown = Command::new("ionice")
        .args(["-p", &child.id().to_string()])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout).trim(),
        "best-effort: prio 6"
    );
    assert_eq!(applied(&job.report, "nice").as_deref(), Some("5"));
    assert_eq!(
        applied(&job.report, "io_priority").as_deref(),
        Some("best-effort 6")
    );
    child.kill().unwrap();
    child.wait().unwrap();
    world.closed(child.id());
}

/// What a negative priority comes to, with the capability and without.
#[test]
fn negative_nice_and_score_hold_with_the_capability_and_are_clear_warnings_without() {
    let world = World::new();
    let report = run(&world, &["--nice", "-5", "--oom-score", "-500"], &["exit", "0"]);
    let warnings = report.limits.warnings.join("\n");
    if capable(CAP_SYS_NICE) {
        assert_eq!(applied(&report, "nice").as_deref(), Some("-5"), "{warnings}");
    } else {
        assert!(
            warnings.contains("Cannot set negative nice (requires root), using 0"),
            "{warnings}"
        );
    }
    if capable(CAP_SYS_RESOURCE) {
        assert_eq!(
            applied(&report, "oom_score_adj").as_deref(),
            Some("-500"),
            "{warnings}"
        );
        assert_eq!(warnings, "");
    } else {
        assert_eq!(applied(&report, "oom_score_adj"), None);
        assert!(
            warnings.contains(
                "oom_score_adj is not enforced: going below the score it has needs CAP_SYS_RESOURCE"
            ),
            "{warnings}"
        );
    }
    let raised = run(&world, &["--oom-score", "700"], &["exit", "0"]);
    assert_eq!(applied(&raised, "oom_score_adj").as_deref(), Some("700"));
}

#[test]
fn every_limit_asked_for_is_applied_or_refused_in_the_report() {
    let world = World::new();
    let flags = [
        "--cpu-quota",
        "150",
        "--cpu-weight",
        "200",
        "--memory-limit",
        "64",
        "--io-weight",
        "50",
        "--io-max",
        "4000:0 wbps=1048576",
        "--pids-max",
        "20",
        "--cpu-set",
        "0",
        "--nice",
        "3",
        "--io-priority",
        "idle",
        "--oom-score",
        "100",
    ];
    let report = run(&world, &flags, &["exit", "0"]);
    let asked = serde_json::to_value(&report.limits.asked).unwrap();
    let asked = asked.as_object().unwrap();
    assert_eq!(
        asked.values().filter(|value| !value.is_null()).count(),
        10,
        "{asked:?}"
    );
    for limit in asked.keys() {
        let refused = format!("{limit} is not ");
        let refused = report
            .limits
            .warnings
            .iter()
            .any(|text| text.starts_with(&refused));
        assert!(
            applied(&report, limit).is_some() != refused,
            "{limit}: {:#?}",
            report.limits
        );
    }
}
