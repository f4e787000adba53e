//! What the machine under a test has: capabilities, CPUs, the kind of its control groups.

use std::path::{Path, PathBuf};

/// `CAP_SYS_NICE` of linux/capability.h.
pub const CAP_SYS_NICE: u32 = 23;
/// `CAP_SYS_RESOURCE` of linux/capability.h.
pub const CAP_SYS_RESOURCE: u32 = 24;

/// True when this process has the capability.
pub fn capable(number: u32) -> bool {
    let set = status_of("self", "CapEff").expect("CapEff in /proc/self/status");
    let set = u64::from_str_radix(&set, 16).expect("a capability set");
    set >> number & 1 == 1
}

/// One line of `/proc/PID/status`.
pub fn status_of(pid: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// CPU time that a process has used, in ticks of a hundredth of a second; `None` when it is gone.
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 14 and 15 of proc(5), counted from behind the name, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// A process's groups as the kernel lists them, a line each hierarchy.
pub fn groups_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// True where the disk controller is one of cgroup v2.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// True in a guest of `cargo xtask vm`, which says so: its clock runs on, its CPUs crawl.
pub fn emulated() -> bool {
    std::env::var_os("FFRTMP_GUEST").is_some()
}

/// Where cgroup2 is mounted.
pub fn cgroup2() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
    let of_type = |line: &str| -> Option<PathBuf> {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(words[1]))
    };
    mounts.lines().find_map(of_type).expect("a cgroup2 mount")
}
