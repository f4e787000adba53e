//! The tiers below the kernel's programs, each had by taking the one above away: what is found, placed, recorded, and
//! what is told to be missing.

mod start;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ffrtmp_api::ExitReason;
use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::{Options, Workload, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Hides the kernel's types from one process, in a mount namespace of its own.
const NO_BTF: [&str; 5] = [
    "unshare",
    "-m",
    "sh",
    "-c",
    "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"",
];

/// A limit that shows whether a process was placed.
const RULE: &str = "limits: {cpu_quota: 50}";

fn without_btf() -> World {
    World::with(Options {
        launcher: NO_BTF.map(str::to_owned).to_vec(),
        rule: RULE.to_owned(),
        ..Options::default()
    })
}

/// No types and no network of the host's, so that neither programs nor connector are to be had.
fn without_btf_and_connector() -> World {
    let mut launcher = vec!["unshare".to_owned(), "-n".to_owned()];
    launcher.extend(NO_BTF.map(str::to_owned));
    World::with(Options {
        launcher,
        rule: RULE.to_owned(),
        config: "scan_interval: 200ms".to_owned(),
        ..Options::default()
    })
}

fn asked_for(tier: &str) -> World {
    World::with(Options {
        rule: RULE.to_owned(),
        config: format!("tier: {tier}\nscan_interval: 200ms"),
        ..Options::default()
    })
}

/// The real ffmpeg under the name that the world's rule knows.
fn ffmpeg(world: &World, seconds: u32) -> Child {
    let source = format!("testsrc=size=64x64:rate=5:duration={seconds}");
    Workload::ffmpeg(&world.path(""), &world.name).spawn(&[
        "-v", "error", "-re", "-f", "lavfi", "-i", &source, "-f", "null", "-",
    ])
}

fn groups_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// One page of the governor's port, which its log names.
fn metrics(world: &World) -> String {
    let log = world.log();
    let (_, rest) = log.split_once("metrics on http://").expect("a port");
    let address = rest.split('/').next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A figure of the governor's own counters.
fn counter(world: &World, name: &str) -> u64 {
    let output = world.output(&["doctor", "--output", "json"]);
    let doctor: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    doctor["status"]["counters"][name].as_u64().unwrap()
}

/// The tier and its reason, told alike by doctor, metric and log.
fn tier_is(world: &World, tier: &str, reasons: &[&str]) {
    let doctor = world.output(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let line = text
        .lines()
        .find(|line| line.contains("tier ") && line.contains(tier));
    let line = line.unwrap_or_else(|| panic!("no tier {tier} in {text}; log: {}", world.log()));
    for reason in reasons {
        assert!(text.contains(reason), "{reason:?} is not in {line}\n{text}");
    }
    assert!(!doctor.status.success(), "a lower tier is a warning");
    assert!(world.log().contains(&format!("tier {tier}: ")), "{}", world.log());
}

/// The tier in the governor's metrics; its port is not to be had from another network namespace.
fn metric_is(world: &World, tier: &str) {
    let page = metrics(world);
    for each in ["kernel", "connector", "scan"] {
        let line = format!(
            "ffrtmp_governor_tier{{tier=\"{each}\"}} {}",
            u8::from(each == tier)
        );
        assert!(page.contains(&line), "{line} is not in {page}");
    }
}

/// What a record of a placed job says in every tier.
fn placed(view: &JobView, tier: &str) {
    let report = &view.report;
    assert_eq!(report.tier, tier);
    assert_eq!(report.rule.as_deref(), Some("the-test"));
    assert!(!report.placement.groups.is_empty(), "{report:?}");
    let quota = report
        .limits
        .applied
        .iter()
        .any(|one| one.limit.starts_with("cpu_max"));
    assert!(quota, "{:?}", report.limits);
}

/// A real ffmpeg in this world: found, placed, run to its end.
fn real_ffmpeg_is_governed(world: &World, tier: &str) -> JobView {
    let mut child = ffmpeg(world, 2);
    let live = world.job(child.id());
    placed(&live, tier);
    let groups = groups_of(child.id());
    let own = &live.report.placement.groups[0];
    let class = Path::new(own).file_name().unwrap().to_str().unwrap();
    assert!(groups.contains(class), "{own} is not in {groups}");
    assert!(child.wait().unwrap().success());
    let view = world.closed(child.id());
    placed(&view, tier);
    assert!(!Path::new(own).exists(), "its group is gone");
    view
}

#[test]
fn without_kernel_types_the_connector_tells_of_a_real_ffmpeg() {
    let world = without_btf();
    tier_is(&world, "connector", &["no kernel: ", "/sys/kernel/btf/vmlinux"]);
    metric_is(&world, "connector");
    let view = real_ffmpeg_is_governed(&world, "connector");
    let report = &view.report;
    assert_eq!(report.exit, Some(ExitReason::Success));
    assert_eq!(
        report.command.as_ref().unwrap()[0].rsplit('/').next(),
        Some(world.name.as_str())
    );
    let usage = &report.usage;
    assert!(usage.cpu_sec.is_some_and(|cpu| cpu > 0.0), "{usage:?}");
    assert_eq!((usage.read_bytes, usage.voluntary_switches), (None, None));
    assert!(
        usage.absent.iter().any(|why| why.contains("`connector` tier")),
        "{usage:?}"
    );
}

#[test]
fn without_capabilities_for_programs_the_connector_is_taken() {
    let world = World::with(Options {
        launcher: ["setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin"]
            .map(str::to_owned)
            .to_vec(),
        rule: RULE.to_owned(),
        ..Options::default()
    });
    tier_is(&world, "connector", &["no kernel: "]);
    real_ffmpeg_is_governed(&world, "connector");
}

#[test]
fn without_connector_a_scan_finds_a_real_ffmpeg() {
    let world = without_btf_and_connector();
    tier_is(
        &world,
        "scan",
        &["no kernel: ", "; no connector: ", "network namespace"],
    );
    let view = real_ffmpeg_is_governed(&world, "scan");
    let report = &view.report;
    match &report.exit {
        Some(ExitReason::Success) => assert_eq!(report.exit_code, Some(0)),
        Some(ExitReason::Unobserved { why }) => {
            assert!(why.starts_with("scan: "), "{why}");
            assert_eq!(report.exit_code, None);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(report.usage.processes, None, "a scan cannot count what it misses");
    assert!(report.usage.cpu_sec.is_some());
}

#[test]
fn the_connector_tells_every_exit_rightly() {
    let world = asked_for("connector");
    tier_is(&world, "connector", &["the configuration asks for it"]);
    for code in [0, 1, 255] {
        let mut child = world.spawn_placed(&["exit", &code.to_string()]);
        child.wait().unwrap();
        let view = world.closed(child.id());
        assert_eq!(view.report.exit_code, Some(code));
    }
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    world.job(child.id());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let view = world.closed(child.id());
    assert_eq!(
        view.report.exit,
        Some(ExitReason::Signal {
            signal: 9,
            sender: None
        })
    );
    // The first thread leaves before the others: the job goes on until the last one ends.
    let mut child = world.spawn_placed(&["leader-us", "500000"]);
    assert_eq!(child.wait().unwrap().code(), Some(7));
    let report = world.closed(child.id()).report;
    assert!(matches!(report.exit_code, Some(7) | None), "{report:?}");
    assert!(report.duration_sec.unwrap() >= 0.4, "{report:?}");
}

#[test]
fn in_both_lower_tiers_a_job_lasts_until_its_last_child() {
    for tier in ["connector", "scan"] {
        let world = asked_for(tier);
        metric_is(&world, tier);
        let mut child = world.spawn_placed(&["detach-us", "1500000"]);
        child.wait().unwrap();
        let view = world.closed(child.id());
        placed(&view, tier);
        if tier == "connector" {
            assert_eq!(view.report.usage.processes, Some(2));
        }
        assert!(
            view.report
                .limits
                .warnings
                .iter()
                .all(|why| !why.contains("not removed")),
            "{view:?}"
        );
    }
}

#[test]
fn processes_that_ran_before_are_adopted_and_attach_works_in_both_lower_tiers() {
    for tier in ["connector", "scan"] {
        let mut world = World::idle(Options {
            rule: RULE.to_owned(),
            config: format!("tier: {tier}\nscan_interval: 200ms"),
            ..Options::default()
        });
        let mut early = world.workload.spawn(&["sleep-us", "30000000"]);
        let mut other = Command::new("sleep").arg("30").spawn().unwrap();
        world.start();
        placed(&world.job(early.id()), tier);
        let pid = other.id().to_string();
        let mut attach = world.ffrtmp(&["attach", "--pid", &pid, "--cpu-quota", "20"]);
        let attach = attach.stdout(Stdio::null()).stderr(Stdio::null());
        let mut attached = attach.spawn().unwrap();
        assert_eq!(world.job(other.id()).report.tier, tier);
        // A governor that comes back takes up both, and closes each once.
        world.stop(Signal::SIGKILL);
        attached.wait().unwrap();
        world.start();
        for child in [&mut early, &mut other] {
            world.job(child.id());
            child.kill().unwrap();
            child.wait().unwrap();
            world.closed(child.id());
            let records = world
                .jobs()
                .iter()
                .filter(|job| job.report.pid == child.id())
                .count();
            assert_eq!(records, 1);
        }
    }
}
