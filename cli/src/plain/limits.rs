//! What a parent without a governor can enforce: what belongs to the process itself. Everything else becomes a warning.

use ffrtmp_api::{LimitOutcome, Limits, LimitsReport};
use ffrtmp_governor::host::priority;
use ffrtmp_governor::host::process::Pinned;
use nix::sched::CpuSet;

use crate::limits::cpus;

/// Enforces on a process what belongs to itself.
pub(super) fn own(process: &Pinned, limits: &Limits) -> LimitsReport {
    let mut report = LimitsReport {
        asked: limits.clone(),
        ..LimitsReport::default()
    };
    let own = priority::apply(process, limits);
    report.applied.extend(own.applied);
    report.warnings.extend(own.warnings);
    report
}

/// What there is in place of a group: CPUs by affinity, and the words for the rest.
pub(super) fn without_group(process: &Pinned, report: &mut LimitsReport) {
    let limits = report.asked.clone();
    let own = std::mem::take(&mut report.warnings);
    groups(&limits, report);
    report.warnings.extend(own);
    if let Some(list) = &limits.cpu_set {
        set_affinity(process.pid(), list, report);
    }
}

fn groups(limits: &Limits, report: &mut LimitsReport) {
    let missed: Vec<String> = [
        limits.cpu_max.map(|value| format!("cpu_max {value}")),
        limits.cpu_weight.map(|value| format!("cpu_weight {value}")),
        limits.memory_max.map(|value| format!("memory_max {value}")),
        limits.io_weight.map(|value| format!("io_weight {value}")),
        limits.io_max.as_ref().map(|value| format!("io_max {value}")),
        limits.pids_max.map(|value| format!("pids_max {value}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !missed.is_empty() {
        report
            .warnings
            .push("Cannot create cgroup (permission denied)".to_owned());
        report.warnings.push(format!(
            "Not enforced without a cgroup: {}; ffrtmp-governor, or root, can, and so can a user whose own cgroup is \
             delegated: systemd-run --user --scope -p Delegate=yes ffrtmp run ...",
            missed.join(", ")
        ));
    }
}

fn set_affinity(pid: u32, list: &str, report: &mut LimitsReport) {
    let mut set = CpuSet::new();
    for cpu in cpus(list).unwrap_or_default() {
        // CPUs beyond the set's size do not exist here; the kernel ignores absent ones alike.
        let _beyond = set.set(cpu);
    }
    // Threads inherit an affinity, so those of a running process are named one by one.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let failed = threads
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(nix::unistd::Pid::from_raw)
        .find_map(|thread| nix::sched::sched_setaffinity(thread, &set).err());
    match failed {
        None => report.applied.push(LimitOutcome {
            limit: "cpu_set".to_owned(),
            target: "sched_setaffinity".to_owned(),
            value: list.to_owned(),
        }),
        Some(error) => report
            .warnings
            .push(format!("Cannot set CPUs {list}: {}", error.desc())),
    }
}
