//! Attach: a process that is not ours, and its true exit code.

use std::process::{Command, Stdio};

use ffrtmp_api::Report;
use ffrtmp_tests::machine::emulated;
use ffrtmp_tests::{World, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A sleeper that no rule knows, started by a shell that goes away, so that nobody here is its parent.
fn orphan(world: &World, steps: &str) -> u32 {
    let target = world.path("stranger");
    std::fs::copy(world.workload.path(), &target).unwrap();
    let script = format!(
        "{} {steps} </dev/null >/dev/null 2>&1 & echo $!",
        target.display()
    );
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn report(output: &std::process::Output) -> Report {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

#[test]
fn attach_mirrors_the_exit_code_of_a_process_it_is_not_the_parent_of() {
    let world = World::new();
    for no_daemon in [false, true] {
        // Long enough to be attached to before it ends.
        let life = if emulated() { 15_000_000 } else { 6_000_000 };
        let pid = orphan(&world, &format!("sleep-us {life} exit 42"));
        let pid_text = pid.to_string();
        let mut args = vec![
            "attach",
            "--pid",
            &pid_text,
            "--job-id",
            "stray",
            "--cpu-quota",
            "50",
            "--json",
        ];
        if no_daemon {
            args.insert(0, "--no-daemon");
        }
        let output = world.output(&args);
        assert_eq!(
            output.status.code(),
            Some(42),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report = report(&output);
        assert_eq!((report.exit_code, report.pid), (Some(42), pid));
        assert_eq!(report.job_id.as_str(), "stray");
        assert!(
            report.limits.applied.iter().any(|limit| limit.limit == "cpu_max"),
            "{report:#?}"
        );
        assert_eq!(report.usage.processes, Some(1));
    }
}

#[test]
fn a_signal_to_attach_ends_attach_alone() {
    let world = World::new();
    let pid = orphan(&world, "sleep-us 30000000");
    let target = Pid::from_raw(pid.cast_signed());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGKILL] {
        let mut wrapper = world
            .ffrtmp(&["attach", "--pid", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the attach", || {
            world.jobs().into_iter().find(|job| job.report.pid == pid)
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        kill(Pid::from_raw(wrapper.id().cast_signed()), signal).unwrap();
        wrapper.wait().unwrap();
        kill(target, None).unwrap();
    }
    kill(target, Signal::SIGKILL).unwrap();
    world.closed(pid);
}

#[test]
fn an_attached_tree_is_attached_whole() {
    let world = World::new();
    let pid = orphan(&world, "fork 3 sleep-us 5000000");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let output = world.output(&["attach", "--pid", &pid.to_string(), "--job-id", "tree", "--json"]);
    assert_eq!(report(&output).usage.processes, Some(4));
}
