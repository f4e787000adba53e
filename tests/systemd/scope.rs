//! Processes of a system service: a scope of their own that ends with the service.

use crate::stage::{
    FFMPEG, Unit, applied, assert_governed, gone, governor, group, job, sh, the_workload, workloads,
};
use ffrtmp_tests::eventually;

/// A service that spawns its workload as nginx does.
fn spawning() -> String {
    format!("ExecStart=/bin/sh -c '{FFMPEG} & wait'")
}

#[test]
fn a_services_child_gets_a_scope_that_is_part_of_the_service() {
    governor();
    let unit = Unit::start("edge.service", &spawning());
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(view.report.placement.mode, "scope", "{view:#?}");
    let scope = format!("ffrtmp-auto-ffmpeg-{pid}.scope");
    assert_eq!(group(pid), format!("/ffrtmp.slice/ffrtmp-live.slice/{scope}"));
    assert_governed(pid);
    for limit in ["cpu_max", "cpu_weight", "memory_max", "pids_max", "nice"] {
        assert!(
            applied(&view).contains(&limit),
            "{limit}: {:?}",
            view.report.limits
        );
    }
    assert_eq!(view.report.limits.warnings, Vec::<String>::new());
    let show = |property: &str| sh(&format!("systemctl show -P {property} {scope}"));
    assert_eq!(show("PartOf"), "edge.service");
    assert_eq!(show("CPUQuotaPerSecUSec"), "500ms");
    assert_eq!(show("MemoryMax"), (256u64 << 20).to_string());

    sh("systemctl daemon-reload");
    assert!(group(pid).ends_with(&scope), "{}", group(pid));
    assert_governed(pid);

    sh(&format!("systemctl stop {}", unit.name()));
    gone(pid);
    let closed = job(pid, "closed");
    assert_eq!(closed.report.signal, Some(15), "{closed:#?}");
    assert!(closed.report.usage.memory_peak_bytes.is_some(), "{closed:#?}");
    eventually("the scope to go", || {
        (sh(&format!("systemctl show -P LoadState {scope}")) == "not-found").then_some(())
    });
}

#[test]
fn a_restart_of_the_service_ends_its_jobs_and_governs_the_new_ones() {
    governor();
    let unit = Unit::start("edge.service", &spawning());
    let old = the_workload();
    job(old, "governed");
    sh(&format!("systemctl restart {}", unit.name()));
    gone(old);
    let new = the_workload();
    assert_ne!(old, new);
    assert_eq!(job(new, "governed").report.placement.mode, "scope");
    assert_governed(new);
}

#[test]
fn a_service_whose_main_process_is_the_job_stays_up_and_stops_with_it() {
    governor();
    let unit = Unit::start("single.service", &format!("ExecStart={FFMPEG}"));
    let pid = the_workload();
    assert_eq!(job(pid, "governed").report.placement.mode, "scope");
    assert_eq!(
        sh(&format!("systemctl show -P MainPID {}", unit.name())),
        pid.to_string()
    );
    assert_eq!(sh(&format!("systemctl is-active {}", unit.name())), "active");
    sh(&format!("systemctl stop {}", unit.name()));
    gone(pid);
}

#[test]
fn the_real_ffmpeg_of_a_service_is_governed_from_its_start() {
    governor();
    let command = "/usr/bin/ffmpeg -v error -re -f lavfi -i testsrc=size=64x64:rate=1 -t 600 -f null -";
    let _unit = Unit::start(
        "real.service",
        &format!("ExecStart=/bin/sh -c '{command} & wait'"),
    );
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(view.report.placement.mode, "scope", "{view:#?}");
    assert_governed(pid);
}

#[test]
fn a_released_job_goes_back_to_its_service() {
    governor();
    let _unit = Unit::start("edge.service", &spawning());
    let pid = the_workload();
    job(pid, "governed");
    sh(&format!("ffrtmp release {pid}"));
    assert_eq!(group(pid), "/system.slice/edge.service");
    assert_eq!(workloads(), [pid]);
}

#[test]
fn a_job_of_cron_outlives_cron_as_it_always_did() {
    governor();
    crate::stage::workload();
    std::fs::write("/etc/cron.d/media", format!("@reboot root {FFMPEG}\n")).unwrap();
    sh("rm -f /run/crond.reboot; systemctl restart cron");
    let pid = the_workload();
    let view = job(pid, "governed");
    assert_eq!(view.report.placement.mode, "scope", "{view:#?}");
    assert_governed(pid);
    assert!(
        view.report
            .limits
            .warnings
            .iter()
            .any(|warning| warning.contains("KillMode")),
        "{:?}",
        view.report.limits.warnings
    );
    sh("systemctl stop cron");
    assert_eq!(
        workloads(),
        [pid],
        "cron's KillMode=process spares its children, and so do we"
    );
    sh(&format!("rm /etc/cron.d/media; systemctl start cron; kill {pid}"));
    gone(pid);
}
