//! Control groups on the real kernel, proved by effect rather than by what files say.
//!
//! Needs root, `sh` and `sleep` (busybox will do), /proc, /sys and at least one mounted cgroup hierarchy with the cpu and
//! memory controllers: v2, v1 or hybrid. A missing fact fails the test and names it. Every test works below a slice of
//! its own in the group this process is in, ends only what it started, and leaves no group behind.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers included"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;
use ffrtmp_governor::core::plan::Version;
use ffrtmp_governor::host::cgroup::{CgroupBase, CgroupError, Prepared, Tree, TreeOptions};
use ffrtmp_governor::host::priority;
use ffrtmp_governor::host::process::{Pinned, read_stat, tick_ns};
use ffrtmp_governor::host::procfs::{descendants, listed_of, read_cgroups};

/// CPU shares are measured, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());
static SLICES: AtomicU32 = AtomicU32::new(0);

/// A tree of its own, the processes started in it, and the promise to remove both.
struct Bench {
    tree: Tree,
    children: Vec<Child>,
    slice: String,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = SLICES.fetch_add(1, Ordering::Relaxed);
        let slice = format!("ffrtmp-test-{}-{number}.slice", std::process::id());
        let options = TreeOptions {
            base: CgroupBase::Auto,
            slice: slice.clone(),
        };
        Self {
            tree: Tree::open(options).expect("a cgroup hierarchy"),
            children: Vec::new(),
            slice,
            _alone: alone,
        }
    }

    fn prepare(&self, limits: &Limits) -> Prepared {
        let prepared = self.tree.prepare("test", "job", limits).unwrap();
        assert_eq!(prepared.warnings, Vec::<String>::new());
        prepared
    }

    /// Starts a shell that waits for a line before it runs `script`.
    fn waiting(&mut self, script: &str) -> Pinned {
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("read go; {script}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pinned = Pinned::of_pid(child.id()).unwrap();
        self.children.push(child);
        pinned
    }

    fn child(&mut self, process: &Pinned) -> &mut Child {
        let pid = process.pid();
        self.children.iter_mut().find(|child| child.id() == pid).unwrap()
    }

    fn go(&mut self, process: &Pinned) {
        self.child(process)
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
    }

    /// Starts `script` inside a group with these limits.
    fn limited(&mut self, script: &str, limits: &Limits) -> (Prepared, Pinned) {
        let prepared = self.prepare(limits);
        let process = self.waiting(script);
        let moved = self.tree.place(&prepared.group, &[], &process, Vec::new).unwrap();
        assert!(moved.refused.is_empty() && moved.warnings.is_empty(), "{moved:?}");
        assert!(self.tree.contains(&prepared.group, &process));
        self.go(&process);
        (prepared, process)
    }

    /// Kills what is in the group, reaps our children, removes the group, and proves that it is gone.
    fn finish(&mut self, prepared: &Prepared) {
        self.tree.signal_all(&prepared.group, libc::SIGKILL).unwrap();
        for child in &mut self.children {
            let _maybe_ended = child.kill();
            child.wait().unwrap();
        }
        eventually("the group is empty", || prepared.group.pids().unwrap().is_empty());
        let retired = self.tree.retire(&prepared.group);
        assert!(retired.left.is_empty(), "{:?}", retired.left);
        for path in prepared.group.paths() {
            assert!(!PathBuf::from(&path).exists(), "{path} is still there");
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _maybe_ended = child.kill();
            let _maybe_reaped = child.wait();
        }
        for left in self.tree.leftovers().unwrap_or_default() {
            let _ended = self.tree.signal_all(&left.group, libc::SIGKILL);
            let _removed = self.tree.retire(&left.group);
        }
        self.tree.cleanup();
        if !std::thread::panicking() {
            for hierarchy in &self.tree.layout().hierarchies {
                let trace = hierarchy.base.join(&self.slice);
                assert!(!trace.exists(), "{} was left behind", trace.display());
            }
        }
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

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
    std::thread::sleep(Duration::from_secs(3));
    let ratio = (cpu_seconds(&heavy_process) - before.1) / (cpu_seconds(&light_process) - before.0);
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

/// Set in the process that plays the unprivileged user.
const AS_NOBODY: &str = "FFRTMP_TEST_AS_NOBODY";

#[test]
fn without_privilege_the_refusals_are_the_ones_users_know() {
    if std::env::var_os(AS_NOBODY).is_none() {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let output = Command::new("/proc/self/exe")
            .args([
                "--exact",
                "without_privilege_the_refusals_are_the_ones_users_know",
            ])
            .env(AS_NOBODY, "1")
            .uid(65_534)
            .gid(65_534)
            .output()
            .unwrap();
        drop(alone);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
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
