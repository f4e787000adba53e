//! The machine itself.

use std::process::Command;

#[test]
fn systemd_is_the_first_process_and_the_machine_is_up() {
    let comm = std::fs::read_to_string("/proc/1/comm").unwrap();
    assert_eq!(comm.trim(), "systemd");
    let state = Command::new("systemctl")
        .arg("is-system-running")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "running");
}
