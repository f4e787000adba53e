//! The governor's own unit: stopping, restarting, reloading or killing it harms no job.

use ffrtmp_tests::eventually;

use crate::stage::{
    FFMPEG, Unit, assert_governed, gone, governor, group, job, log, sh, shell, workload, workloads,
};

/// One job of each kind: a scope for a service's child, a group of our tree for a user's process.
fn two_jobs() -> (Unit, u32, u32) {
    governor();
    workload();
    let unit = Unit::start("edge.service", &format!("ExecStart=/bin/sh -c '{FFMPEG} & wait'"));
    sh("loginctl enable-linger media");
    eventually("the user's bus", || {
        std::path::Path::new("/run/user/1000/bus").exists().then_some(())
    });
    sh(&format!(
        "runuser -u media -- env XDG_RUNTIME_DIR=/run/user/1000 systemd-run --user --collect {FFMPEG}"
    ));
    let both = eventually("two workloads", || (workloads().len() == 2).then(workloads));
    let mode = |pid: u32| job(pid, "governed").report.placement.mode;
    let (scoped, placed) = if mode(both[0]) == "scope" {
        (both[0], both[1])
    } else {
        (both[1], both[0])
    };
    assert_eq!((mode(scoped).as_str(), mode(placed).as_str()), ("scope", "place"));
    (unit, scoped, placed)
}

fn disturbed_by(disturb: &str) {
    let (unit, scoped, placed) = two_jobs();
    let before = (group(scoped), group(placed));
    sh(disturb);
    eventually("the governor to be up again", || {
        shell("systemctl is-active ffrtmp-governor")
            .status
            .success()
            .then_some(())
    });
    assert_eq!((group(scoped), group(placed)), before, "{disturb}");
    for pid in [scoped, placed] {
        assert_governed(pid);
        let view = job(pid, "governed");
        assert_eq!(view.live, 1, "{view:#?}");
    }
    sh(&format!("kill {placed}; systemctl stop {}", unit.name()));
    for pid in [scoped, placed] {
        gone(pid);
        let closed = job(pid, "closed");
        assert_eq!(closed.report.signal, Some(15), "{closed:#?}\n{}", log());
        assert!(closed.report.usage.memory_peak_bytes.is_some(), "{closed:#?}");
    }
    let left = format!("/sys/fs/cgroup{}", before.1);
    eventually("the group to go", || {
        (!std::path::Path::new(&left).exists()).then_some(())
    });
}

#[test]
fn a_restart_of_the_governor_keeps_every_job_running_and_governed() {
    disturbed_by("systemctl restart ffrtmp-governor");
}

#[test]
fn a_stop_and_a_later_start_do_the_same() {
    disturbed_by("systemctl stop ffrtmp-governor; sleep 1; systemctl start ffrtmp-governor");
}

#[test]
fn a_killed_governor_comes_back_by_itself() {
    disturbed_by("systemctl kill -s KILL --kill-whom=main ffrtmp-governor; sleep 3");
}

#[test]
fn daemon_reload_and_reload_change_nothing() {
    disturbed_by("systemctl daemon-reload; systemctl reload ffrtmp-governor; systemctl daemon-reload");
}

#[test]
fn daemon_reexec_changes_nothing() {
    disturbed_by("systemctl daemon-reexec");
}
