//! Limits of a group, read back and felt.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use ffrtmp_api::Limits;
use ffrtmp_governor::host::process::{Pinned, read_stat, tick_ns};

use crate::Bench;

/// CPU time of a process so far, seconds.
fn cpu_seconds(process: &Pinned) -> f64 {
    let stat = read_stat(process.pid()).unwrap();
    ((stat.utime + stat.stime) * tick_ns()) as f64 / 1e9
}

const SPIN: &str = "while :; do :; done";

#[test]
fn every_group_limit_is_read_back_as_asked() {
    let bench = Bench::new();
    let limits = Limits {
        cpu_max: "30000 100000".parse().ok(),
        cpu_weight: Some(250),
        memory_max: Some((64 << 20) + 123),
        pids_max: Some(50),
        cpu_set: Some("0".to_owned()),
        ..Limits::default()
    };
    let mut bench = bench;
    let (prepared, _process) = bench.limited("sleep 60", &limits);
    let value = |limit: &str| {
        let of_limit = prepared.applied.iter().filter(|one| one.limit == limit);
        of_limit
            .map(|one| one.value.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let v2_cpu = prepared.applied[0].target.ends_with("cpu.max");
    assert_eq!(
        value("cpu_max"),
        if v2_cpu { "30000 100000" } else { "100000 30000" }
    );
    assert_eq!(value("cpu_weight"), if v2_cpu { "250" } else { "2560" });
    assert_eq!(value("memory_max"), (64 << 20).to_string());
    assert_eq!(value("pids_max"), "50");
    assert_eq!(value("cpu_set"), "0");
    bench.finish(&prepared);
}

#[test]
fn a_disk_ceiling_is_read_back_and_a_missing_disk_is_a_warning() {
    let mut bench = Bench::new();
    let ask = |device: &str| Limits {
        io_max: Some(format!("{device} wbps=1048576")),
        ..Limits::default()
    };
    let missing = bench.tree.prepare("test", "missing", &ask("4000:0")).unwrap();
    assert!(missing.applied.is_empty());
    assert_eq!(missing.warnings.len(), 1);
    assert!(
        missing.warnings[0].starts_with("io_max is not enforced: write `4000:0 "),
        "{:?}",
        missing.warnings
    );
    bench.finish(&missing);
    let mut disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let disk = disks.find_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok());
    // A virtual machine without any disk has nothing more to show.
    if let Some(disk) = disk {
        let present = bench.tree.prepare("test", "job", &ask(disk.trim())).unwrap();
        let v1 = present.applied[0].target.contains("blkio.throttle");
        assert_eq!(present.warnings.len(), usize::from(v1), "{:?}", present.warnings);
        assert_eq!(present.applied.len(), 1);
        assert!(present.applied[0].value.contains("1048576"));
        bench.finish(&present);
    }
}

#[test]
fn an_unshared_disk_makes_an_io_weight_a_warning() {
    let mut bench = Bench::new();
    let limits = Limits {
        io_weight: Some(50),
        ..Limits::default()
    };
    let prepared = bench.tree.prepare("test", "job", &limits).unwrap();
    assert_eq!(
        prepared.applied.len() + prepared.warnings.len(),
        1,
        "{prepared:?}"
    );
    bench.finish(&prepared);
}

#[test]
fn a_quota_of_20_percent_holds_a_spinner_to_a_fifth_of_a_core() {
    let mut bench = Bench::new();
    let limits = Limits {
        cpu_max: "20000 100000".parse().ok(),
        ..Limits::default()
    };
    let (prepared, process) = bench.limited(SPIN, &limits);
    std::thread::sleep(Duration::from_millis(300));
    let (start, before) = (Instant::now(), cpu_seconds(&process));
    std::thread::sleep(Duration::from_secs(2));
    let share = (cpu_seconds(&process) - before) / start.elapsed().as_secs_f64();
    // The upper bound is the promise; the lower one only shows that it ran, on a machine that may be busy.
    assert!(
        (0.05..0.26).contains(&share),
        "the spinner got {share:.3} of a core"
    );
    let usage = bench.tree.usage(&prepared.group);
    assert!(usage.throttled_ns.unwrap() > 100_000_000, "{usage:?}");
    bench.finish(&prepared);
}

#[test]
fn weights_share_one_cpu_in_proportion() {
    let mut bench = Bench::new();
    let start = |bench: &mut Bench, weight| {
        let limits = Limits {
            cpu_weight: Some(weight),
            ..Limits::default()
        };
        let (prepared, process) = bench.limited(SPIN, &limits);
        let mut cpus = nix::sched::CpuSet::new();
        cpus.set(0).unwrap();
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(process.pid().cast_signed()), &cpus)
            .unwrap();
        (prepared, process)
    };
    let (light, light_process) = start(&mut bench, 100);
    let (heavy, heavy_process) = start(&mut bench, 300);
    assert_eq!(heavy.name, "job-2", "the first job has the name");
    let before = (cpu_seconds(&light_process), cpu_seconds(&heavy_process));
    // An emulated CPU that stands still for a second gives that second to whoever ran; the shares even out later.
    let mut ratio = 0.0;
    for _ in 0..15 {
        std::thread::sleep(Duration::from_secs(3));
        ratio = (cpu_seconds(&heavy_process) - before.1) / (cpu_seconds(&light_process) - before.0);
        if (2.2..4.2).contains(&ratio) {
            break;
        }
    }
    assert!(
        (2.2..4.2).contains(&ratio),
        "weights 300 and 100 shared the CPU {ratio:.2} to 1"
    );
    bench.tree.signal_all(&heavy.group, libc::SIGKILL).unwrap();
    bench.finish(&light);
    bench.finish(&heavy);
}

#[test]
fn a_hog_is_killed_inside_its_group_when_it_exceeds_its_memory() {
    let mut bench = Bench::new();
    let limit = 24 << 20;
    let limits = Limits {
        memory_max: Some(limit),
        ..Limits::default()
    };
    let (prepared, process) = bench.limited("x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done", &limits);
    let status = bench.child(&process).wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    let usage = bench.tree.usage(&prepared.group);
    assert!(usage.oom_kills.unwrap() >= 1, "{usage:?}");
    match usage.memory_peak {
        Some(peak) => assert!((limit / 2..limit + (1 << 20)).contains(&peak), "peak {peak}"),
        None => assert!(
            usage.absent.iter().any(|why| why.contains("memory.peak")),
            "{usage:?}"
        ),
    }
    assert_eq!(
        usage.throttled_ns, None,
        "no CPU limit, so nothing throttles: {usage:?}"
    );
    assert!(
        usage.absent.iter().any(|why| why.starts_with("throttled_ns: ")),
        "{usage:?}"
    );
    bench.finish(&prepared);
}

#[test]
fn a_task_limit_stops_the_next_fork() {
    let mut bench = Bench::new();
    let limits = Limits {
        pids_max: Some(1),
        ..Limits::default()
    };
    let (prepared, process) = bench.limited("sleep 0; echo forked", &limits);
    let child = bench.child(&process);
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert_eq!(said, "");
    assert!(!child.wait().unwrap().success());
    bench.finish(&prepared);
}

#[test]
fn cpus_that_the_groups_above_withhold_are_not_counted_as_given() {
    let mut bench = Bench::new();
    let cpuset = |hierarchy: &&ffrtmp_governor::host::cgroup::Hierarchy| {
        hierarchy
            .controllers
            .contains(&ffrtmp_governor::core::plan::Controller::Cpuset)
    };
    let hierarchy = bench
        .tree
        .layout()
        .hierarchies
        .iter()
        .find(cpuset)
        .unwrap()
        .clone();
    let ask = |cpus: &str| Limits {
        cpu_set: Some(cpus.to_owned()),
        ..Limits::default()
    };
    let first = bench.tree.prepare("test", "first", &ask("0")).unwrap();
    assert_eq!((first.applied.len(), first.warnings.len()), (1, 0), "{first:?}");
    let class = hierarchy.base.join(&bench.slice).join("test");
    bench.finish(&first);
    // The class keeps CPU 0 for itself from now on.
    if !class.exists() {
        std::fs::create_dir_all(&class).unwrap();
    }
    std::fs::write(class.join("cpuset.cpus"), "0").unwrap();
    let second = bench.tree.prepare("test", "second", &ask("1")).unwrap();
    assert!(second.applied.is_empty(), "{second:?}");
    assert!(second.warnings[0].starts_with("cpu_set is not "), "{second:?}");
    bench.finish(&second);
}
