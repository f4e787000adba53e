//! Users: sessions, their own service managers, and limits without privilege.

use ffrtmp_tests::eventually;

use crate::stage::{
    FFMPEG, Unit, assert_governed, gone, governor, group, job, limit, sh, the_workload, workload,
};

/// Runs a command line as the unprivileged user with a service manager of its own.
fn user_line(line: &str) -> String {
    format!(
        "runuser -u media -- env XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus HOME=/home/media sh -c '{line}'"
    )
}

fn linger() {
    workload();
    sh("loginctl enable-linger media");
    eventually("the user's bus", || {
        std::path::Path::new("/run/user/1000/bus").exists().then_some(())
    });
}

#[test]
fn a_users_own_service_is_placed_in_our_tree() {
    governor();
    linger();
    sh(&user_line(&format!("systemd-run --user --unit=clip {FFMPEG}")));
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(view.report.placement.mode, "place", "{view:#?}");
    let place = group(pid);
    let name = place.strip_prefix("/ffrtmp.slice/ffrtmp-jobs.service/ffrtmp.slice/live/");
    // A spare of this governor, or where none was ready a group with the job's name.
    let spare = format!("s{}-", sh("systemctl show -P MainPID ffrtmp-governor"));
    assert!(
        name.is_some_and(|name| name.starts_with(&spare) || name == format!("auto-ffmpeg-{pid}")),
        "{place}"
    );
    assert_governed(pid);
    sh(&format!("kill {pid}"));
    gone(pid);
    job(pid, "closed");
}

#[test]
fn a_service_run_for_a_user_is_a_system_service() {
    governor();
    workload();
    sh(&format!("systemd-run --uid=media --unit=uid-job {FFMPEG}"));
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(view.report.placement.mode, "scope", "{view:#?}");
    assert_eq!(view.uid, 1000);
    sh("systemctl stop uid-job");
    gone(pid);
}

#[test]
fn an_unprivileged_run_gets_its_limits_in_the_users_own_delegated_group() {
    sh("systemctl stop ffrtmp-governor");
    linger();
    let command = format!(
        "ffrtmp run --cpu-quota 50 --cpu-weight 70 --memory-limit 64 -- {FFMPEG} >/tmp/run.log 2>&1 &"
    );
    sh(&user_line(&command));
    let pid = the_workload();
    let place = group(pid);
    let said = std::fs::read_to_string("/tmp/run.log").unwrap();
    assert!(
        place.starts_with("/user.slice/user-1000.slice/user@1000.service/"),
        "{place}\n{said}"
    );
    assert_eq!(limit(pid, "cpu.max"), "50000 100000", "{said}");
    assert_eq!(limit(pid, "cpu.weight"), "70");
    assert_eq!(limit(pid, "memory.max"), (64u64 << 20).to_string());
    assert!(!said.contains("WARNING"), "{said}");
    sh(&format!("kill {pid}"));
    gone(pid);
    governor();
}

#[test]
fn a_units_stop_reaches_what_a_user_started_in_it() {
    governor();
    let unit = Unit::start(
        "user-edge.service",
        &format!("User=media\nExecStart=/bin/sh -c '{FFMPEG} & wait'"),
    );
    let pid = the_workload();
    assert_eq!(job(pid, "governed").report.placement.mode, "scope");
    sh(&format!("systemctl stop {}", unit.name()));
    gone(pid);
}
