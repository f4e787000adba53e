//! Edge duty: nginx starts an ffmpeg for each publisher, nobody asks us first, and each is under its rule's limits until
//! nginx ends it.
//!
//! The nginx of these tests has a directory and a port of its own and the configuration we ship; the machine's nginx is
//! never touched.

use std::path::Path;

use ffrtmp_api::{ExitReason, Sender};
use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::{Nginx, Options, Publisher, World, eventually, unique_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A governor whose second rule takes what nginx spawns, and nothing else of this machine.
fn edge_world() -> (World, String) {
    let class = unique_name("edge");
    let world = World::with(Options {
        config: format!(
            "  - name: client-streams\n    commands: [ffmpeg]\n    filters: {{allowed_parents: [nginx]}}\n    \
             class: {class}\n    limits: {{cpu_quota: 150, memory_limit: 1024, pids_max: 200, nice: 3}}\n    \
             sla_eligible: true\n"
        ),
        ..Options::default()
    });
    (world, class)
}

/// Streams that are under limits now, by start.
fn governed(world: &World) -> Vec<JobView> {
    let mut jobs = world.jobs();
    jobs.retain(|job| job.report.class.starts_with("edge-") && job.state == "governed");
    jobs
}

fn streams(world: &World, count: usize) -> Vec<JobView> {
    eventually(&format!("{count} governed streams; log: {}", world.log()), || {
        let jobs = governed(world);
        (jobs.len() == count).then_some(jobs)
    })
}

/// The value of the first of these files that one of the job's groups has.
fn in_kernel(job: &JobView, files: [&str; 2]) -> String {
    let groups = &job.report.placement.groups;
    let found = groups
        .iter()
        .flat_map(|group| files.map(|file| Path::new(group).join(file)))
        .find_map(|path| std::fs::read_to_string(path).ok());
    found
        .unwrap_or_else(|| panic!("none of {files:?} in {groups:?}"))
        .trim()
        .to_owned()
}

fn assert_limited(job: &JobView, class: &str) {
    assert_eq!(job.report.rule.as_deref(), Some("client-streams"));
    assert_eq!(job.report.class, class);
    assert_eq!(job.report.limits.warnings, Vec::<String>::new());
    let quota = in_kernel(job, ["cpu.max", "cpu.cfs_quota_us"]);
    assert!(quota == "150000 100000" || quota == "150000", "{quota}");
    let memory = in_kernel(job, ["memory.max", "memory.limit_in_bytes"]);
    assert_eq!(memory, (1024_u64 << 20).to_string());
    assert_eq!(in_kernel(job, ["pids.max", "pids.max"]), "200");
    let pid = job.report.pid;
    // SAFETY: reads one integer.
    assert_eq!(unsafe { libc::getpriority(libc::PRIO_PROCESS, pid) }, 3);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains(&format!("/{class}/")), "{groups}");
}

fn assert_gone(job: &JobView) {
    assert!(!job.report.placement.groups.is_empty());
    for group in &job.report.placement.groups {
        assert!(!Path::new(group).exists(), "{group} is left behind");
    }
}

/// The stream's key stands in the process's own arguments, and nowhere that we keep or show.
fn assert_key_hidden(world: &World, pid: u32, key: &str) {
    let own = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(own.contains(key), "{own}");
    let pid = pid.to_string();
    for args in [
        &["ps", "--all", "--output", "json"][..],
        &["ps", "--all", "--output", "wide"],
        &["explain", &pid],
    ] {
        let output = world.output(args);
        assert!(output.status.success(), "{args:?}");
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            assert!(!text.contains(key), "{args:?} shows {key}: {text}");
        }
    }
    assert!(!world.log().contains(key), "the log shows {key}");
    for file in ["governor.db", "governor.db-wal"] {
        let bytes = std::fs::read(world.path(file)).unwrap_or_default();
        let found = bytes.windows(key.len()).any(|part| part == key.as_bytes());
        assert!(!found, "{file} holds {key}");
    }
}

#[test]
fn every_stream_that_nginx_spawns_is_governed_and_gone_with_its_publisher() {
    let (world, class) = edge_world();
    let nginx = Nginx::start(&world.path(""), "");
    let keys = [0, 1, 2].map(|number| format!("sekretkey{number}{}", std::process::id()));
    let mut publishers: Vec<Publisher> = keys.iter().map(|key| nginx.publisher(key)).collect();

    let jobs = streams(&world, 3);
    let mut by_key = Vec::new();
    for key in &keys {
        let job = jobs.iter().find(|job| {
            let cmdline = std::fs::read_to_string(format!("/proc/{}/cmdline", job.report.pid));
            cmdline.is_ok_and(|line| line.contains(key))
        });
        by_key.push(job.unwrap().clone());
    }
    for (job, key) in by_key.iter().zip(&keys) {
        assert_limited(job, &class);
        assert_key_hidden(&world, job.report.pid, key);
        let shown = job.report.command.as_ref().unwrap().join(" ");
        assert!(
            shown.contains(&format!("rtmp://{}/live/***", nginx.address())),
            "{shown}"
        );
    }
    let publisher_pids: Vec<u32> = publishers.iter().map(Publisher::id).collect();
    assert!(
        world
            .jobs()
            .iter()
            .all(|job| !publisher_pids.contains(&job.report.pid)),
        "a publisher is no child of nginx"
    );

    // One publisher leaves: its stream is closed, the others stay.
    drop(publishers.remove(0));
    let closed = world.closed(by_key[0].report.pid);
    assert_killed_by_nginx(&closed, nginx.worker());
    assert_gone(&closed);
    let left = streams(&world, 2);
    assert!(left.iter().all(|job| job.report.pid != closed.report.pid));

    // A stream's ffmpeg dies while its publisher stays: nginx starts another one, which is a new job under the same rule.
    let victim = by_key[1].report.pid;
    kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL).unwrap();
    let closed = world.closed(victim);
    assert_gone(&closed);
    let again = eventually("the stream to be started again", || {
        let jobs = governed(&world);
        jobs.into_iter()
            .find(|job| by_key.iter().all(|old| old.report.pid != job.report.pid))
    });
    assert_limited(&again, &class);

    drop(publishers);
    for pid in [by_key[2].report.pid, again.report.pid] {
        let closed = world.closed(pid);
        assert_killed_by_nginx(&closed, nginx.worker());
        assert_gone(&closed);
    }
    assert_eq!(governed(&world).len(), 0);
}

fn assert_killed_by_nginx(job: &JobView, worker: u32) {
    let Some(ExitReason::Signal {
        signal: 9,
        sender: Some(Sender::Process { pid, comm, .. }),
    }) = &job.report.exit
    else {
        panic!("{:?}", job.report.exit)
    };
    assert_eq!((*pid, comm.as_str()), (worker, "nginx"));
    assert_eq!(job.report.exit_code, Some(137));
}

#[test]
fn a_stream_that_ends_at_nginxs_request_has_its_own_code_and_the_request_in_its_story() {
    let (world, class) = edge_world();
    // nginx's own spelling for SIGTERM, which ffmpeg handles once it runs: it exits with a code of its own (255 while it
    // encodes, 1 while it connects).
    let nginx = Nginx::start(&world.path(""), "exec_kill_signal term;");
    let publisher = nginx.publisher("polite");
    let stream = streams(&world, 1).remove(0);
    assert_limited(&stream, &class);
    let pid = stream.report.pid;
    eventually("ffmpeg to catch SIGTERM", || catches_sigterm(pid).then_some(()));
    drop(publisher);
    let closed = world.closed(pid);
    let exit = &closed.report.exit;
    assert!(matches!(exit, Some(ExitReason::Error { .. })), "{exit:?}");
    assert_gone(&closed);
    let explained = world.output(&["explain", &pid.to_string()]);
    let story = String::from_utf8_lossy(&explained.stdout);
    let request = format!(
        "signal 15, sent by nginx (pid {}, uid 65534), did not kill it",
        nginx.worker()
    );
    assert!(story.contains(&request), "{story}");
}

fn catches_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (Signal::SIGTERM as u32 - 1)) != 0)
}

#[test]
fn streams_that_come_and_go_leave_nothing_behind() {
    let (world, class) = edge_world();
    let nginx = Nginx::start(&world.path(""), "");
    let mut seen = std::collections::BTreeSet::new();
    // Each wave overlaps the next, and the governor is killed and started again while streams run.
    let mut earlier: Vec<Publisher> = Vec::new();
    let mut world = world;
    for wave in 0..4 {
        let now: Vec<Publisher> = (0..2)
            .map(|n| nginx.publisher(&format!("wave{wave}x{n}")))
            .collect();
        let jobs = streams(&world, now.len() + earlier.len());
        seen.extend(jobs.iter().map(|job| job.report.pid));
        if wave == 2 {
            world.stop(Signal::SIGKILL);
            world.start();
            streams(&world, now.len() + earlier.len());
        }
        let leaving = now.len();
        earlier = now;
        streams(&world, leaving);
    }
    drop(earlier);
    assert_eq!(seen.len(), 8, "{seen:?}");
    for &pid in &seen {
        let closed = world.closed(pid);
        assert_killed_by_nginx(&closed, nginx.worker());
        assert_eq!(closed.report.class, class);
        assert_gone(&closed);
    }
}
