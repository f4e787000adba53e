//! Events on their way out, of real processes: to `ffrtmp events`, to a webhook, into metrics.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ffrtmp_governor::control::types::{Happened, JobEvent};
use ffrtmp_tests::hook::Hook;
use ffrtmp_tests::machine::unified;
use ffrtmp_tests::{Options, Workload, World, eventually, unique_name};
use nix::sys::signal::Signal;

use crate::tree::Group;

/// `ffrtmp events` of a world with these flags, from the moment when nothing is missed any more.
pub(crate) fn following(world: &World, flags: &[&str]) -> Child {
    let mut child = world
        .ffrtmp(&[&["events"], flags].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so itself.
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("Following"), "{line}");
    child
}

/// `ffrtmp events --follow -o json` of a world.
struct Listener {
    child: Child,
    seen: Arc<Mutex<Vec<JobEvent>>>,
}

impl Listener {
    fn start(world: &World) -> Self {
        let mut child = following(world, &["--follow", "--output", "json"]);
        let seen: Arc<Mutex<Vec<JobEvent>>> = Arc::default();
        let (lines, into) = (child.stdout.take().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines() {
                let event = serde_json::from_str(&line.unwrap()).unwrap();
                into.lock().unwrap().push(event);
            }
        });
        Self { child, seen }
    }

    fn of(&self, pid: u32) -> Vec<JobEvent> {
        let mine = |event: &&JobEvent| event.job.report.pid == pid;
        self.seen.lock().unwrap().iter().filter(mine).cloned().collect()
    }

    /// Everything of a job that is told until it is closed.
    fn story(&self, pid: u32) -> Vec<JobEvent> {
        eventually(&format!("{pid} to be closed"), || {
            let told = self.of(pid);
            told.last()
                .is_some_and(|last| last.what == Happened::Closed)
                .then_some(told)
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn kinds(story: &[JobEvent]) -> Vec<&'static str> {
    story.iter().map(|event| event.what.word()).collect()
}

fn world(rule: &str) -> World {
    World::with(Options {
        rule: rule.to_owned(),
        ..Options::default()
    })
}

#[test]
fn a_memory_limit_and_its_kill_are_told_before_the_end_is_closed() {
    let world = world("limits: {memory_limit: 32}\nsla_eligible: true");
    let listener = Listener::start(&world);
    let mut child = world.spawn_placed(&["alloc-mib", "256"]);
    child.wait().unwrap();
    let story = listener.story(child.id());
    let told = kinds(&story);
    let without: Vec<_> = told.iter().filter(|kind| **kind != "limit_breached").collect();
    // Its own limit killed it: the platform did its part, so no SLA was missed.
    assert_eq!(
        without,
        [&"discovered", &"placed", &"exited", &"oom", &"closed"],
        "{told:?}"
    );
    assert_eq!(told.len(), 6, "the limit is told once: {told:?}");
    let breached = &story.last().unwrap().job.report.limits.breached;
    assert_eq!(breached.len(), 1, "{breached:?}");
    assert_eq!(breached[0].limit, "memory_max");
    assert!(
        breached[0].times > 0 && breached[0].killed == Some(1),
        "{breached:?}"
    );
    assert_eq!(world.closed(child.id()).report.limits.breached, *breached);
}

#[test]
fn a_child_killed_at_the_memory_limit_is_told_while_its_job_lives() {
    let shell = unique_name("shell");
    let world = World::with(Options {
        config: format!("  - name: shells\n    commands: [{shell}]\n    limits: {{memory_limit: 32}}\n"),
        ..Options::default()
    });
    let listener = Listener::start(&world);
    let copy = world.path(&shell);
    std::fs::copy(std::fs::canonicalize("/bin/sh").unwrap(), &copy).unwrap();
    let target = world.workload.path().display();
    let script = format!("{target} alloc-mib 256; exec sleep 600");
    let mut child = std::process::Command::new(&copy)
        .args(["-c", &script])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let event = eventually("the limit to be told", || {
        let breach = |event: &JobEvent| event.what == Happened::LimitBreached;
        listener.of(pid).into_iter().find(breach)
    });
    assert_eq!(child.try_wait().unwrap(), None, "the job itself lives on");
    assert_eq!(event.job.report.limits.breached[0].limit, "memory_max");
    let table = String::from_utf8(world.output(&["explain", &pid.to_string()]).stdout).unwrap();
    assert!(table.contains("ran into its limit memory_max"), "{table}");
    child.kill().unwrap();
    child.wait().unwrap();
    let story = listener.story(pid);
    assert!(
        !kinds(&story).contains(&"oom"),
        "a child's death is not the job's: {:?}",
        kinds(&story)
    );
    let breached = &story.last().unwrap().job.report.limits.breached[0];
    assert_eq!(breached.killed, Some(1), "{breached:?}");
}

#[test]
fn refused_forks_and_a_quota_that_is_too_small_are_told() {
    for (rule, steps, limit) in [
        (
            "limits: {pids_max: 2}",
            &["fork", "4", "sleep-us", "300000"][..],
            "pids_max",
        ),
        ("limits: {cpu_quota: 10}", &["burn-ms", "2500"][..], "cpu_max"),
    ] {
        let world = world(rule);
        let listener = Listener::start(&world);
        let mut child = world.spawn_placed(steps);
        child.wait().unwrap();
        let story = listener.story(child.id());
        let told = kinds(&story);
        let at = told.iter().position(|kind| *kind == "limit_breached");
        let at = at.unwrap_or_else(|| panic!("{limit}: {told:?}"));
        let breach = story[at].job.report.limits.breached.last().unwrap();
        assert_eq!(breach.limit, limit);
        assert!(breach.times > 0);
        println!("{limit}: {told:?}, {breach:?}");
    }
}

#[test]
fn a_refused_fork_is_told_while_the_job_lives_where_the_kernel_announces_it() {
    let shell = unique_name("shell");
    let world = World::with(Options {
        config: format!("  - name: shells\n    commands: [{shell}]\n    limits: {{pids_max: 2}}\n"),
        ..Options::default()
    });
    let listener = Listener::start(&world);
    let copy = world.path(&shell);
    std::fs::copy(std::fs::canonicalize("/bin/sh").unwrap(), &copy).unwrap();
    // The fork is refused inside the parentheses; the shell around them lives on.
    let script = "sleep 0.3; (sleep 600 & sleep 600 & sleep 600 &); while :; do :; done";
    let mut child = std::process::Command::new(&copy)
        .args(["-c", script])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    world.job(pid);
    let told = || {
        listener
            .of(pid)
            .iter()
            .any(|event| event.what == Happened::LimitBreached)
    };
    if unified() {
        eventually("the limit to be told", || told().then_some(()));
        assert_eq!(child.try_wait().unwrap(), None, "the job lives on");
    }
    let release = world.output(&["release", "--all"]);
    assert!(release.status.success(), "{release:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_job_that_counts_and_could_not_be_placed_missed_its_sla() {
    let mut world = World::idle(Options {
        rule: "limits: {memory_limit: 64}\nsla_eligible: true".to_owned(),
        config: "placement_retries: 0\n".to_owned(),
        ..Options::default()
    });
    let group = Group::new("sla");
    let mut child = world.workload.spawn(&["sleep-us", "600000000"]);
    let pid = child.id();
    group.write("cgroup.procs", &pid.to_string());
    group.write("cgroup.freeze", "1");
    eventually("the group to freeze", || {
        let events = std::fs::read_to_string(group.0.join("cgroup.events")).unwrap();
        events.contains("frozen 1").then_some(())
    });
    world.start();
    let listener = Listener::start(&world);
    assert!(world.job(pid).report.placement.not_placed.is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    let story = listener.story(pid);
    let told = kinds(&story);
    assert_eq!(told[told.len() - 2..], ["sla_missed", "closed"], "{told:?}");
    let missed = &story[story.len() - 2].job.report;
    assert_eq!(missed.platform_sla_reason.as_deref(), Some("limits_not_enforced"));
}

#[test]
fn a_webhook_gets_a_jobs_story_once_in_order_though_its_server_fails_twice() {
    let hook = Hook::answering(&[500, 500]);
    let world = World::with(Options {
        config: hook.config("discovered, placed, limit_breached, oom, exited, sla_missed, closed"),
        rule: "limits: {memory_limit: 32}".to_owned(),
        ..Options::default()
    });
    let secret = "live_8c1f-very-secret";
    let url = format!("rtmp://host/app/{secret}");
    let mut child = world.spawn_placed(&["-i", &url, "alloc-mib", "256"]);
    child.wait().unwrap();
    let seen = eventually("the story to arrive", || {
        let seen = hook.seen();
        seen.last()
            .is_some_and(|last| last.what == Happened::Closed)
            .then_some(seen)
    });
    let told = kinds(&seen);
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!((told[0], told[5]), ("discovered", "closed"), "{told:?}");
    assert!(seen.iter().all(|event| event.job.report.pid == child.id()));
    let text = serde_json::to_string(&seen).unwrap();
    assert!(!text.contains(secret), "{text}");
    assert_eq!(world.metric("ffrtmp_governor_webhook_retries_total"), Some(2.0));
    assert_eq!(
        world.metric("ffrtmp_governor_webhook_events_total{outcome=\"delivered\"}"),
        Some(6.0)
    );
}

#[test]
fn a_webhook_hears_of_jobs_that_ended_while_no_governor_ran() {
    let hook = Hook::answering(&[]);
    let mut world = World::with(Options {
        pinned: true,
        config: hook.config("exited, closed"),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "600000000"]);
    world.job(child.id());
    world.stop(Signal::SIGKILL);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(hook.seen().is_empty());
    world.start();
    eventually("its end to be told", || {
        (kinds(&hook.seen()) == ["exited", "closed"]).then_some(())
    });
    assert_eq!(hook.seen()[0].job.report.signal, Some(9));
}

#[test]
fn a_dead_webhook_holds_up_no_placement_and_no_stop() {
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut world = World::with(Options {
        config: format!("webhook: {{url: 'http://{dead}/'}}\n"),
        ..Options::default()
    });
    let children: Vec<Child> = (0..100)
        .map(|_| world.workload.spawn(&["sleep-us", "600000000"]))
        .collect();
    eventually("all to be governed", || {
        let governed = world.jobs().iter().filter(|job| job.state == "governed").count();
        (governed == children.len()).then_some(())
    });
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    eventually("every event to wait", || {
        (world.metric("ffrtmp_governor_webhook_queue") == Some(300.0)).then_some(())
    });
    let stopping = std::time::Instant::now();
    world.stop(Signal::SIGTERM);
    println!("stopped in {:?}", stopping.elapsed());
    assert!(stopping.elapsed() < Duration::from_secs(10));
    let log = world.log();
    assert!(
        log.contains("events that were not delivered") && log.contains("300"),
        "{log}"
    );
}

#[test]
fn histograms_count_real_ffmpeg_from_exec_to_decision_and_to_its_group() {
    const RUNS: usize = 5;
    let name = unique_name("ffmpeg-real");
    let world = World::with(Options {
        config: format!(
            "  - name: real\n    commands: [{name}]\n    class: live\n    limits: {{cpu_quota: 150, memory_limit: 512}}\n"
        ),
        ..Options::default()
    });
    let series = |what: &str| format!("ffrtmp_governor_exec_to_{what}_seconds_count{{class=\"live\"}}");
    assert_eq!(
        world.metric(&series("placed")),
        Some(0.0),
        "a class is shown from the start"
    );
    let copy = world.path(&name);
    std::fs::copy("/usr/bin/ffmpeg", &copy).unwrap();
    for _ in 0..RUNS {
        let encode = "-nostdin -loglevel error -f lavfi -i testsrc=size=320x240:rate=25:duration=1 -f null -";
        let mut child = std::process::Command::new(&copy)
            .args(encode.split(' '))
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
        world.closed(child.id());
    }
    // One that no rule takes is judged and not counted here.
    Workload::new(&world.path(""), &unique_name("other"))
        .spawn(&["exit", "0"])
        .wait()
        .unwrap();
    let runs = Some(RUNS as f64);
    for what in ["decision", "placed"] {
        assert_eq!(world.metric(&series(what)), runs, "{}", world.http("/metrics"));
        let sum = format!("ffrtmp_governor_exec_to_{what}_seconds_sum{{class=\"live\"}}");
        let mean = world.metric(&sum).unwrap() / RUNS as f64;
        println!("exec to {what}: {:.0} µs on average of {RUNS}", mean * 1e6);
        assert!(mean > 0.0 && mean < 1.0, "{mean}");
    }
    for step in ["found", "placed", "exited", "closed"] {
        let series = format!("ffrtmp_governor_{step}_total{{class=\"live\"}}");
        assert_eq!(world.metric(&series), runs, "{step}");
    }
    assert_eq!(
        world.metric("ffrtmp_governor_released_total{class=\"live\"}"),
        Some(0.0)
    );
    eventually("the ledger to have written them", || {
        (world.metric("ffrtmp_governor_ledger_lag_seconds") == Some(0.0)).then_some(())
    });
    assert_eq!(world.metric("ffrtmp_worker_discovered_processes_total"), runs);
    assert_eq!(world.metric("ffrtmp_worker_active_attachments"), Some(0.0));
}
