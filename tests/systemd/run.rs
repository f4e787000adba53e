//! `ffrtmp run` inside a unit: the workload stays in that unit, and stopping the unit ends it.

use crate::stage::{FFMPEG, Unit, gone, governor, group, job, limit, sh, the_workload, workload};

/// The seeds' third pattern, line for line but for the workload.
const PATTERN: &str =
    "ExecStart=/usr/bin/ffrtmp run \\\n  --job-id %N \\\n  --sla-eligible \\\n  --cpu-quota 200 \\\n  -- ";

#[test]
fn a_wrapped_service_ends_with_its_unit() {
    governor();
    let service = format!("{PATTERN}{FFMPEG}\nKillMode=control-group");
    let unit = Unit::start("wrapped-service.service", &service);
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(view.report.job_id.as_str(), "wrapped-service");
    assert_eq!(group(pid), "/system.slice/wrapped-service.service");
    let warnings = view.report.limits.warnings.join("\n");
    assert!(
        warnings.contains("cpu_max is not enforced") && warnings.contains("Delegate=yes"),
        "{warnings}"
    );
    sh(&format!("systemctl stop {}", unit.name()));
    gone(pid);
}

#[test]
fn a_wrapped_service_that_is_delegated_gets_its_limits_inside_the_unit() {
    governor();
    let service = format!("{PATTERN}{FFMPEG}\nKillMode=control-group\nDelegate=yes");
    let unit = Unit::start("wrapped.service", &service);
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(group(pid), "/system.slice/wrapped.service/wrapped", "{view:#?}");
    assert_eq!(limit(pid, "cpu.max"), "200000 100000");
    assert_eq!(view.report.limits.warnings, Vec::<String>::new());
    sh("systemctl daemon-reload");
    assert_eq!(limit(pid, "cpu.max"), "200000 100000");
    sh(&format!("systemctl stop {}", unit.name()));
    gone(pid);
    // The wrapper's main process may start anew in a unit whose old groups are gone.
    sh(&format!("systemctl start {}", unit.name()));
    let again = the_workload();
    assert_eq!(group(again), "/system.slice/wrapped.service/wrapped");
}

#[test]
fn the_same_holds_without_a_daemon() {
    sh("systemctl stop ffrtmp-governor");
    let service = format!("{PATTERN}{FFMPEG}\nKillMode=control-group\nDelegate=yes");
    let unit = Unit::start("alone.service", &service);
    let pid = the_workload();
    assert_eq!(group(pid), "/system.slice/alone.service/alone");
    assert_eq!(limit(pid, "cpu.max"), "200000 100000");
    sh(&format!("systemctl stop {}", unit.name()));
    gone(pid);
    governor();
}

#[test]
fn the_template_runs_a_job_under_its_instances_name() {
    governor();
    workload();
    std::fs::create_dir_all("/etc/ffrtmp/jobs").unwrap();
    std::fs::write(
        "/etc/ffrtmp/jobs/studio-7",
        format!("FLAGS=--cpu-quota 75 --memory-limit 128\nCOMMAND={FFMPEG}\n"),
    )
    .unwrap();
    sh("systemctl start ffrtmp-run@studio-7");
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(view.report.job_id.as_str(), "studio-7");
    assert!(
        group(pid).ends_with("/ffrtmp-run@studio-7.service/studio-7"),
        "{}",
        group(pid)
    );
    assert_eq!(limit(pid, "cpu.max"), "75000 100000");
    assert_eq!(limit(pid, "memory.max"), (128u64 << 20).to_string());
    sh("systemctl stop ffrtmp-run@studio-7");
    gone(pid);
}
