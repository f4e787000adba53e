//! The exec gate: whoever executes a held file sits in its group at the first instruction.
//!
//! Every held file is a copy in the world's own directory; no program of the system is ever marked.

mod hangs;
mod ways;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use ffrtmp_governor::control::types::GateStatus;
use ffrtmp_tests::{Options, Workload, World, eventually, machine};
use nix::sys::signal::Signal;

/// Groups that the gate of a test has ready. Its budget is long: without fast placement, which is a setting of the whole
/// host and none of a test's, a lone move takes longer than the 10 ms that are usual.
const READY: usize = 64;

/// A world with one rule that holds the execs of its workload. Its class is `studio`.
fn gated(filters: &str) -> World {
    let world = World::idle(Options::default());
    let dir = world.path("");
    let name = &world.name;
    let mut text = format!(
        "pins: off\ngate: {{directories: [{}], ready: {READY}, budget: 400ms}}\n",
        dir.display()
    );
    writeln!(
        text,
        "rules:\n  - name: the-test\n    commands: [{name}]\n    admission: gate"
    )
    .unwrap();
    writeln!(
        text,
        "    class: studio\n    limits: {{cpu_quota: 90}}\n    filters: {{{filters}}}"
    )
    .unwrap();
    std::fs::write(world.path("governor.yaml"), text).unwrap();
    // An exec that has to read the program from a guest's disk takes longer than the 100 ms after which it is put back.
    world.workload.spawn(&["exit", "0"]).wait().unwrap();
    let world = world.started();
    armed(&world);
    world
}

/// A test in a world with a gate. An emulated CPU may stand still for longer than any budget: there, and only when the gate
/// itself counted an exec as out of its time, it is tried again in a new world.
fn in_time(filters: &str, test: impl Fn(&World)) {
    for left in (0..3).rev() {
        let world = gated(filters);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&world)));
        if ended.is_ok() {
            return;
        }
        let counters = status(&world).counters;
        let counted = |name| counters.get(name).is_some_and(|times: &u64| *times > 0);
        // With filters it also puts back whom no rule wants.
        let late = counted("timeouts") || (filters.is_empty() && counted("put_back"));
        assert!(
            left > 0 && late && machine::emulated(),
            "it failed as told above; the gate counted {counters:?}"
        );
    }
}

fn status(world: &World) -> GateStatus {
    let output = world.output(&["doctor", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(value["status"]["gate"].clone()).unwrap_or_default()
}

/// Waits until the workload is held and groups are ready.
fn armed(world: &World) -> GateStatus {
    let armed = eventually(&format!("an armed gate; log: {}", world.log()), || {
        let status = status(world);
        let held = status.marked.iter().any(|line| line.in_force);
        (status.pid.is_some() && held && status.ready == READY).then_some(status)
    });
    if machine::emulated() {
        // So many groups are work for more than a guest's whole second of real-time, and the kernel's throttle
        // (kernel.sched_rt_period_us) would now hold the gate for longer than its budget.
        std::thread::sleep(Duration::from_secs(1));
    }
    armed
}

fn count(world: &World, name: &str) -> u64 {
    status(world).counters.get(name).copied().unwrap_or(0)
}

/// What a workload wrote of its groups.
fn text_of(path: &Path) -> String {
    eventually("the workload's own look at its groups", || {
        std::fs::read_to_string(path)
            .ok()
            .filter(|text| text.ends_with('\n'))
    })
}

fn groups(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

fn is_placed(text: &str) -> bool {
    text.contains("/ffrtmp.slice/studio/g")
}

fn reap(mut child: Child) {
    let _ended = child.kill();
    child.wait().unwrap();
}

/// A file of the world for a workload's own look, and its name as an argument.
fn look(world: &World, name: &str) -> (PathBuf, String) {
    let path = world.path(name);
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

#[test]
fn a_held_exec_starts_in_its_group_and_is_a_job_there() {
    in_time("", |world| {
        let (file, text) = look(world, "groups");
        let child = world
            .workload
            .spawn(&["own-group", &text, "sleep-us", "30000000"]);
        let text = text_of(&file);
        assert!(is_placed(&text), "{text}");
        let job = world.job(child.id());
        assert_eq!(job.state, "governed", "{job:#?}; log: {}", world.log());
        let groups_of_job = &job.report.placement.groups;
        assert!(
            groups_of_job.iter().all(|group| group.contains("/studio/g")),
            "{job:#?}"
        );
        let applied = job
            .report
            .limits
            .applied
            .iter()
            .any(|limit| limit.limit == "cpu_max");
        assert!(applied, "{:?}", job.report.limits);
        let released = world.output(&["release", &child.id().to_string()]);
        assert!(released.status.success());
        assert_eq!(
            groups(child.id()),
            groups(std::process::id()),
            "back where it was before the gate"
        );
        reap(child);
        let closed = world.closed(job.report.pid);
        for group in &closed.report.placement.groups {
            assert!(!Path::new(group).exists(), "{group} is left behind");
        }
        assert_eq!((count(world, "placed"), count(world, "timeouts")), (1, 0));
    });
}

/// Without fast placement a storm is faster than the kernel moves; then the budget ends first, and says so.
#[test]
fn whoever_slips_through_in_a_storm_is_counted() {
    let world = gated("");
    let looks: Vec<_> = (0..200)
        .map(|number| look(&world, &format!("look{number}")))
        .collect();
    std::thread::scope(|scope| {
        for part in looks.chunks(50) {
            let workload = &world.workload;
            scope.spawn(move || {
                for (_, text) in part {
                    assert!(workload.spawn(&["own-group", text]).wait().unwrap().success());
                }
            });
        }
    });
    let outside = looks
        .iter()
        .filter(|(file, _)| !is_placed(&text_of(file)))
        .count() as u64;
    // What a gate could not tell a busy governor at once it tells a little later. Whoever is waved through while the gate
    // is stuck in a move is no held one, but a timeout.
    let counters = eventually("every exec to be counted", || {
        let counters = status(&world).counters;
        let told = counters["placed"] + counters["timeouts"] + counters["no_group"];
        (told >= looks.len() as u64).then_some(counters)
    });
    // Whom the gate moved more than 100 ms before its exec was put back before that; only a crawling machine has those.
    assert!(
        outside <= counters["timeouts"] + counters["no_group"] + counters["put_back"],
        "{outside} outside, {counters:?}"
    );
}

#[test]
fn a_stopped_governor_is_not_asked() {
    in_time("", |world| {
        world.signal(Signal::SIGSTOP);
        let looks: Vec<_> = (0..20)
            .map(|number| look(world, &format!("look{number}")))
            .collect();
        let children: Vec<Child> = looks
            .iter()
            .map(|(_, text)| world.workload.spawn(&["own-group", text, "sleep-us", "30000000"]))
            .collect();
        let placed = looks.iter().filter(|(file, _)| is_placed(&text_of(file))).count();
        world.signal(Signal::SIGCONT);
        assert_eq!(placed, 20);
        for child in children {
            let job = world.job(child.id());
            assert_eq!(job.state, "governed", "{job:#?}");
            reap(child);
        }
    });
}

#[test]
fn arguments_are_judged_after_the_exec_and_the_innocent_put_back() {
    in_time("argv: live", |world| {
        let (file, text) = look(world, "groups");
        let child = world
            .workload
            .spawn(&["own-group", &text, "sleep-us", "30000000"]);
        text_of(&file);
        // Where it found itself depends on who came first, it or the one who puts it back.
        assert_eq!(count(world, "placed"), 1);
        let own = groups(std::process::id());
        eventually("the process to be back where it was", || {
            (groups(child.id()) == own).then_some(())
        });
        reap(child);
        let (file, text) = look(world, "other");
        let child = world
            .workload
            .spawn(&["own-group", &text, "sleep-us", "30000000", "-live", "1"]);
        assert!(is_placed(&text_of(&file)));
        assert_eq!(world.job(child.id()).state, "governed");
        reap(child);
    });
}

#[test]
fn users_are_told_apart_before_the_exec() {
    in_time("blocked_uids: [0]", |world| {
        let (file, text) = look(world, "groups");
        let child = world.workload.spawn(&["own-group", &text]);
        let groups = text_of(&file);
        assert!(!is_placed(&groups), "{groups}");
        reap(child);
        assert_eq!((count(world, "placed"), count(world, "unwanted")), (0, 1));
    });
}

#[test]
fn a_replaced_program_is_held_again() {
    let world = gated("");
    let before = status(&world);
    let copy = Workload::new(&world.path(""), "copy");
    std::fs::rename(copy.path(), world.workload.path()).unwrap();
    // Its own inode was marked, so only a look at the directory can have found it.
    let (file, text) = look(&world, "groups");
    eventually("the new file to be held", || {
        // It ends by itself when it has looked.
        world.workload.spawn(&["own-group", &text]).wait().unwrap();
        let fresh = std::fs::read_to_string(&file).is_ok_and(|text| is_placed(&text));
        fresh.then_some(())
    });
    let after = status(&world);
    assert_eq!((after.pid, after.restarts), (before.pid, 0));
}

#[test]
fn who_never_executes_is_put_back() {
    let world = gated("");
    // Not a program: the exec is held and then fails, and the shell reads the file itself.
    let (first, second) = (world.path("first"), world.path("second"));
    let script = format!(
        "cat /proc/self/cgroup > {}\nsleep 1\ncat /proc/self/cgroup > {}\n",
        first.display(),
        second.display()
    );
    std::fs::write(world.path("script"), script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.path("script"), mode).unwrap();
    std::fs::rename(world.path("script"), world.workload.path()).unwrap();
    eventually("the file that is no program to be held", || {
        let line = format!("exec {}", world.workload.path().display());
        let ended = std::process::Command::new("/bin/sh")
            .args(["-c", &line])
            .status()
            .unwrap();
        assert!(ended.success());
        is_placed(&text_of(&first)).then_some(())
    });
    assert_eq!(text_of(&second), groups(std::process::id()));
}

#[test]
fn it_sleeps_when_nothing_executes() {
    let world = gated("");
    let gate = status(&world).pid.unwrap();
    // The first change of its group is that it is in it. Who is told of it must not be told for ever.
    let busy = [world.governor_pid(), gate].map(|pid| {
        let before = machine::cpu_ticks(pid).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        machine::cpu_ticks(pid).unwrap() - before
    });
    // Of the 100 of a second; asking for the state costs a few.
    assert!(busy.iter().all(|ticks| *ticks < 20), "{busy:?}");
}

#[test]
fn doctor_shows_what_is_held_what_is_lacking_and_what_remains() {
    let world = gated("");
    let output = world.output(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let path = world.workload.path().display().to_string();
    for part in ["runs as pid", "holds execs of", &path, "gate risk", "v1 freezer"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let gate = status(&world).pid.unwrap();
    let proc = |file: &str| std::fs::read_to_string(format!("/proc/{gate}/{file}")).unwrap();
    let locked = proc("status")
        .lines()
        .any(|line| line.starts_with("VmLck:") && !line.ends_with(" 0 kB"));
    assert!(locked, "{}", proc("status"));
    assert!(
        proc("limits")
            .lines()
            .any(|line| line.starts_with("Max core file size") && line.contains(" 0 "))
    );
    // Field 41 of proc(5): the policy, 1 for SCHED_FIFO.
    let stat = proc("stat");
    let policy = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(38)
        .map(str::to_owned);
    let real_time = policy.as_deref() == Some("1");
    let exempt = proc("oom_score_adj").trim() == "-1000";
    let said = |what: &str| status(&world).lacks.iter().any(|lack| lack.contains(what));
    assert!(
        real_time != said("real-time"),
        "what it does not have is said: {policy:?}"
    );
    assert!(exempt != said("out-of-memory"), "what it does not have is said");
    let groups = proc("cgroup");
    assert!(groups.contains(&format!("/ffrtmp-gate-{gate}")), "{groups}");
}

/// How long nothing may hang: a second, and as much again for processes that start at once on two busy CPUs. A guest needs
/// several for that alone.
fn bound() -> Duration {
    Duration::from_secs(if machine::emulated() { 15 } else { 2 })
}
