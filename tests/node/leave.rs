//! The way out: `release --all` and `ffrtmp-governor --cleanup` leave the host as it was found. Everything that could
//! have changed is written down before and compared after.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};

use ffrtmp_tests::{Base, Options, World, eventually};
use nix::sys::signal::Signal;

const RULE: &str = "limits: {cpu_quota: 50, memory_limit: 256, nice: 7, oom_score: 300, io_priority: idle}";

/// What a governor may have changed on this machine.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Groups below the base, in every hierarchy.
    groups: BTreeSet<PathBuf>,
    mounts: String,
    /// What is pinned on bpffs.
    pins: BTreeSet<PathBuf>,
    /// Names beside the socket that are a governor's.
    beside: BTreeSet<String>,
    processes: Vec<Process>,
}

#[derive(Debug, PartialEq, Eq)]
struct Process {
    groups: String,
    nice: String,
    oom: String,
    ioprio: i64,
    affinity: String,
}

impl Process {
    fn read(pid: u32) -> Self {
        let proc = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let stat = proc("stat");
        // SAFETY: takes two integers (1 is IOPRIO_WHO_PROCESS) and gives one.
        let ioprio = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, pid) };
        let status = proc("status");
        let affinity = status.lines().find(|line| line.starts_with("Cpus_allowed_list"));
        Self {
            groups: proc("cgroup"),
            nice: stat
                .rsplit_once(") ")
                .unwrap()
                .1
                .split(' ')
                .nth(16)
                .unwrap()
                .to_owned(),
            oom: proc("oom_score_adj"),
            ioprio,
            affinity: affinity.unwrap().to_owned(),
        }
    }
}

/// Every directory below, and every file too where `files` says so.
fn below(dir: &Path, files: bool, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir {
            below(&entry.path(), files, found);
        }
        if is_dir || files {
            found.insert(entry.path());
        }
    }
}

fn look(world: &World, base: &Base, children: &[&Child]) -> Found {
    let mut groups = BTreeSet::new();
    for dir in base.dirs() {
        below(&dir, false, &mut groups);
    }
    let mut pins = BTreeSet::new();
    below(Path::new("/sys/fs/bpf"), true, &mut pins);
    let names = std::fs::read_dir(world.path("")).unwrap().flatten();
    let beside = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("governor.") && !name.contains("db") && !name.contains("log"));
    Found {
        groups,
        mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
        pins,
        beside: beside.collect(),
        processes: children.iter().map(|child| Process::read(child.id())).collect(),
    }
}

struct Stage {
    base: Base,
    world: World,
    /// A process of a rule, and the one whose child it has.
    children: [Child; 2],
    before: Found,
}

impl Stage {
    /// Workloads first, so that they are known untouched; then the governor finds them.
    fn set(more: &str) -> Self {
        let base = Base::new();
        for dir in base.dirs() {
            // A hierarchy without room for it has none of our groups either.
            let _refused = std::fs::create_dir_all(dir);
        }
        let mut world = World::idle(Options {
            rule: RULE.to_owned(),
            config: format!("cgroup: {{base: {}}}\n{more}", base.name()),
            ..Options::default()
        });
        let children = [
            world.workload.spawn(&["sleep-us", "120000000"]),
            world.workload.spawn(&["fork", "2", "sleep-us", "120000000"]),
        ];
        // Until the programs run, /proc shows what was started them.
        eventually("the children's names", || {
            let named = |child: &Child| {
                let text = std::fs::read_to_string(format!("/proc/{}/cmdline", child.id()))?;
                Ok::<bool, std::io::Error>(text.contains(&world.name))
            };
            children
                .iter()
                .all(|child| named(child).unwrap_or(false))
                .then_some(())
        });
        let before = look(&world, &base, &[&children[0], &children[1]]);
        world.start();
        for child in &children {
            let job = world.job(child.id());
            assert!(!job.report.placement.groups.is_empty(), "{:#?}", job.report);
        }
        let stage = Self {
            base,
            world,
            children,
            before,
        };
        let now = stage.look();
        assert_ne!(
            now.processes, stage.before.processes,
            "nothing was changed, so nothing is proven"
        );
        assert_ne!(now.groups, stage.before.groups);
        stage
    }

    fn look(&self) -> Found {
        look(&self.world, &self.base, &[&self.children[0], &self.children[1]])
    }

    fn cleanup(&self) -> Output {
        self.world.cleanup()
    }

    #[track_caller]
    fn is_as_found(&self) {
        let mut now = self.look();
        // The configuration is the test's own.
        now.beside.retain(|name| self.before.beside.contains(name));
        assert_eq!(now, self.before);
    }

    fn end(self) {
        for mut child in self.children {
            // The forked ones go with their parent's group, which the test did not make; they are named by their parent.
            let listed = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
            for pid in listed.unwrap_or_default().split_whitespace() {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                let _ended = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
            let _ended = child.kill();
            child.wait().unwrap();
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn release_of_all_and_a_stop_leave_the_host_as_found() {
    let mut stage = Stage::set("reserve_cpus: 0.1");
    let output = stage.world.output(&["release", "--all"]);
    assert!(output.status.success(), "{}", text(&output));
    stage.world.stop(Signal::SIGTERM);
    let output = stage.cleanup();
    assert!(output.status.success(), "{}", text(&output));
    stage.is_as_found();
    stage.end();
}

#[test]
fn a_cleanup_after_a_killed_governor_leaves_the_host_as_found() {
    let mut stage = Stage::set("reserve_cpus: 0.1\nreserve_memory: 64MiB");
    // Without a governor the ledger alone knows where processes came from.
    let output = stage.cleanup();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("another governor runs as pid"),
        "{}",
        text(&output)
    );
    eventually("the records on disk", || {
        let ledger = rusqlite::Connection::open(stage.world.path("governor.db")).ok()?;
        let open: i64 = ledger
            .query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))
            .ok()?;
        (open >= 2).then_some(())
    });
    stage.world.stop(Signal::SIGKILL);
    let output = stage.cleanup();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("nice back to 0"), "{}", text(&output));
    stage.is_as_found();
    assert!(!stage.world.socket().exists());
    let again = stage.cleanup();
    assert!(again.status.success(), "{}", text(&again));
    stage.end();
}

#[test]
fn a_later_governor_releases_what_an_earlier_one_placed() {
    let mut stage = Stage::set("");
    stage.world.stop(Signal::SIGTERM);
    stage.world.start();
    for child in &stage.children {
        stage.world.job(child.id());
    }
    let output = stage.world.output(&["release", "--all"]);
    assert!(output.status.success(), "{}", text(&output));
    stage.world.stop(Signal::SIGTERM);
    stage.cleanup();
    stage.is_as_found();
    stage.end();
}
