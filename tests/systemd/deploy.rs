//! The units we ship.

use crate::stage::{governor, sh, shell};

#[test]
fn systemd_is_the_first_process_and_the_machine_is_up() {
    let comm = std::fs::read_to_string("/proc/1/comm").unwrap();
    assert_eq!(comm.trim(), "systemd");
    let failed = sh("systemctl --failed --no-legend; true");
    assert_eq!(failed, "");
}

#[test]
fn every_unit_we_ship_is_understood_whole() {
    let units = "ffrtmp-governor.service ffrtmp-jobs.service ffrtmp-run@clip.service ffrtmp-scheduler.service \
                 user@1000.service";
    let output = shell(&format!("systemd-analyze verify --man=no {units}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("ffrtmp"),
        "{}: {said}",
        output.status
    );
}

#[test]
fn the_scheduler_serves_in_its_unit_with_no_capability() {
    sh("systemctl start ffrtmp-scheduler");
    let pid = sh("systemctl show -P MainPID ffrtmp-scheduler");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    assert_eq!(u64::from_str_radix(line.unwrap().trim(), 16).unwrap(), 0);
    let modes = sh(
        "stat -c %a /var/lib/ffrtmp-scheduler/queue.d /var/lib/ffrtmp-scheduler/queue.d/ca.key | paste -sd' '",
    );
    assert_eq!(modes, "700 600");
    sh("systemctl stop ffrtmp-scheduler");
    assert_eq!(sh("systemctl show -P Result ffrtmp-scheduler"), "success");
}

#[test]
fn the_governor_is_hardened_and_ready_in_its_unit() {
    governor();
    assert_eq!(
        sh("systemctl show -P ActiveState -P SubState ffrtmp-governor | paste -sd' '"),
        "active running"
    );
    let pid = sh("systemctl show -P MainPID ffrtmp-governor");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(field("Seccomp:"), "2", "a filter is in force");
    assert_eq!(field("NoNewPrivs:"), "1");
    let bounds = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
    assert_eq!(
        bounds.count_ones(),
        9,
        "as many capabilities as the unit lists: {bounds:x}"
    );
    let exposure = sh("systemd-analyze security --no-pager ffrtmp-governor | tail -n 1");
    let score: f64 = exposure
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no score in: {exposure}"));
    assert!(score < 5.0, "{exposure}");
}
