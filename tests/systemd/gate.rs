//! The exec gate in the governor's own unit, with the drop-ins we ship for it.

use std::fs;

use ffrtmp_governor::control::types::GateStatus;
use ffrtmp_tests::{bin, eventually};

use crate::stage::{gone, governor_with, group, job, limit, log, sh, shell};

const RULES: &str = "fast_placement: true\ngate: {directories: [/opt/held], ready: 8, budget: 400ms}\nrules:\n  - name: \
                     held\n    commands: [ffmpeg]\n    class: live\n    placement: place\n    admission: gate\n    limits: \
                     {cpu_quota: 50}\n";

/// Drop-ins of `deploy/systemd` as an administrator installs them; gone with the value, and the unit stopped.
struct DropIns;

impl DropIns {
    const DIRECTORY: &str = "/etc/systemd/system/ffrtmp-governor.service.d";

    fn install() -> Self {
        sh("systemctl stop ffrtmp-governor");
        fs::create_dir_all(Self::DIRECTORY).unwrap();
        for name in ["exec-gate.conf", "fast-placement.conf"] {
            let to = format!("{}/{name}", Self::DIRECTORY);
            fs::copy(format!("/etc/systemd/system/{name}"), to).unwrap();
        }
        sh("systemctl daemon-reload");
        Self
    }
}

impl Drop for DropIns {
    fn drop(&mut self) {
        shell(&format!(
            "pkill -9 -x ffmpeg; systemctl stop ffrtmp-governor; rm -r {}; systemctl daemon-reload",
            Self::DIRECTORY
        ));
    }
}

fn armed() -> (u32, GateStatus) {
    eventually(&format!("an armed gate: {}", log()), || {
        let output = std::process::Command::new(bin("ffrtmp"))
            .args(["doctor", "--output", "json"])
            .output()
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let gate: GateStatus = serde_json::from_value(value["status"]["gate"].clone()).ok()?;
        let held = gate.marked.iter().any(|line| line.in_force);
        Some((gate.pid.filter(|_| held && gate.ready == 8)?, gate))
    })
}

/// A governor whose gate holds `/opt/held/ffmpeg`.
fn gated() -> DropIns {
    fs::create_dir_all("/opt/held").unwrap();
    // A file that is executed cannot be copied onto.
    let copy = "/opt/held/copy";
    fs::copy(bin("ffrtmp-test-target"), copy).unwrap();
    fs::rename(copy, "/opt/held/ffmpeg").unwrap();
    // Read from the disk once, or the first exec takes longer than a guest is given.
    sh("/opt/held/ffmpeg exit 0");
    let installed = DropIns::install();
    governor_with(RULES);
    installed
}

#[test]
fn what_sudo_executes_is_held() {
    let _installed = gated();
    armed();
    // Read once as well.
    sh("sudo -n -u nobody true");
    let look = "/tmp/look-of-nobody";
    sh(&format!("sudo -n -u nobody /opt/held/ffmpeg own-group {look}"));
    let seen = fs::read_to_string(look).unwrap();
    assert!(seen.contains("/live/g"), "{seen}\n{}", log());
    fs::remove_file(look).unwrap();
}

#[test]
fn in_its_unit_it_holds_an_exec_lacks_nothing_and_a_restart_leaves_the_workload_alone() {
    let _installed = gated();
    let (gate, status) = armed();
    assert_eq!(status.lacks, Vec::<String>::new());
    assert!(
        !group(gate).contains("ffrtmp-governor.service"),
        "{}",
        group(gate)
    );
    let look = "/opt/held/look";
    sh(&format!(
        "systemd-run --quiet --unit held /opt/held/ffmpeg own-group {look} sleep-us 600000000"
    ));
    let seen = eventually("the workload's own look at its group", || {
        fs::read_to_string(look).ok().filter(|text| text.ends_with('\n'))
    });
    let pid: u32 = sh("systemctl show -P MainPID held").parse().unwrap();
    let view = job(pid, "governed");
    let own = group(pid);
    assert!(
        own.contains("/live/g") && seen.contains(&own),
        "first seen in {seen:?}, now {own}; {view:#?}\n{}",
        log()
    );
    assert_eq!(limit(pid, "cpu.max"), "50000 100000");
    sh("systemctl restart ffrtmp-governor");
    gone(gate);
    let (again, _) = armed();
    assert_ne!(gate, again);
    assert_eq!((group(pid), job(pid, "governed").live), (own, 1));
    sh(&format!("kill {pid}"));
    assert_eq!(job(pid, "closed").report.signal, Some(15));
    shell("systemctl reset-failed held");
}
