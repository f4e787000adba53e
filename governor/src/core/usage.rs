//! What a job used: the kernel's sums and its group's last figures, made into the report's [`Usage`].
//!
//! It owns the conversion and the sentence for every figure that is absent. Nothing is filled in: a figure that was
//! not measured is `None`, and why is said once for each cause.

use ffrtmp_api::Usage;

use super::event::{GroupUsage, KernelUsage};
use super::tier::Tier;

/// Where the figures come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// Sums of ended threads.
    pub(super) kernel: &'a KernelUsage,
    /// The group's last figures; `None` before it was read.
    pub(super) group: Option<&'a GroupUsage>,
    /// The job has, or had, a group of its own.
    pub(super) had_group: bool,
    /// Its last process ended and the group was read.
    pub(super) finished: bool,
    /// Tier, for the sentence about what it does not see.
    pub(super) tier: &'a str,
}

/// The report's figures.
pub(super) fn usage(source: &Source) -> Usage {
    let kernel = source.kernel;
    let (user_ns, system_ns) = split(kernel);
    let group = source.group;
    Usage {
        cpu_sec: kernel.run_ns.or_else(|| group_cpu_ns(source)).map(seconds),
        user_sec: user_ns.map(seconds),
        system_sec: system_ns.map(seconds),
        read_bytes: kernel.read_bytes,
        write_bytes: kernel.write_bytes,
        net_rx_bytes: None,
        net_tx_bytes: None,
        memory_peak_bytes: group.and_then(|group| group.memory_peak),
        processes: kernel.processes,
        voluntary_switches: kernel.nvcsw,
        involuntary_switches: kernel.nivcsw,
        throttled_sec: group.and_then(|group| group.throttled_ns).map(seconds),
        absent: absent(source),
    }
}

/// Nanoseconds as seconds.
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The run time split by the ratio of the tick-based counters, the way the kernel's own `cputime_adjust` does it.
/// No tick fell into a life shorter than one: then nobody knows the ratio.
fn split(kernel: &KernelUsage) -> (Option<u64>, Option<u64>) {
    let (Some(run), Some(user), Some(system)) = (kernel.run_ns, kernel.utime_ns, kernel.stime_ns) else {
        return (None, None);
    };
    let ticks = u128::from(user) + u128::from(system);
    if ticks == 0 {
        return (None, None);
    }
    // The quotient is at most `run`, so it fits.
    let user_ns = (u128::from(run) * u128::from(user) / ticks) as u64;
    (Some(user_ns), Some(run - user_ns))
}

/// What the group used, where nobody summed up the job's threads.
fn group_cpu_ns(source: &Source) -> Option<u64> {
    let group = source.group.filter(|_| source.kernel.run_ns.is_none())?;
    group.cpu_ns
}

fn absent(source: &Source) -> Vec<String> {
    let mut reasons = Vec::new();
    let kernel = source.kernel;
    let by_group = group_cpu_ns(source).is_some();
    let missing: Vec<&str> = [
        (kernel.run_ns.is_none() && !by_group, "cpu time"),
        (by_group, "user and system time"),
        (
            kernel.read_bytes.is_none() || kernel.write_bytes.is_none(),
            "disk bytes",
        ),
        (
            kernel.nvcsw.is_none() || kernel.nivcsw.is_none(),
            "context switches",
        ),
        (kernel.processes.is_none(), "number of processes"),
    ]
    .into_iter()
    .filter_map(|(gone, name)| gone.then_some(name))
    .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        reasons.push(if source.finished || source.tier != Tier::Kernel.name() {
            format!("{missing}: the `{}` tier does not see them", source.tier)
        } else {
            format!("{missing}: summed up when the job's processes end")
        });
    }
    if by_group {
        reasons.push(
            "cpu time before the job was placed: the rest is the one its group counted (cpu.stat)".into(),
        );
    }
    if kernel.run_ns.is_some() && split(kernel).0.is_none() {
        reasons.push(
            "user and system time: no clock tick fell into its life, so they cannot be told apart".into(),
        );
    }
    reasons.push("network bytes: this version attaches no counter to a job".into());
    match (source.had_group, source.group) {
        (false, None) => {
            reasons.push("memory peak, throttling: the job has no group of its own".into());
        }
        (true, None) => reasons.push("memory peak, throttling: read when the job's last process ends".into()),
        (_, Some(group)) => reasons.extend(group.absent.iter().cloned()),
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: KernelUsage = KernelUsage {
        run_ns: Some(3_000_000_000),
        utime_ns: Some(8_000_000),
        stime_ns: Some(4_000_000),
        read_bytes: Some(4096),
        write_bytes: Some(0),
        nvcsw: Some(5),
        nivcsw: Some(6),
        processes: Some(2),
    };

    fn source<'a>(kernel: &'a KernelUsage, group: Option<&'a GroupUsage>) -> Source<'a> {
        Source {
            kernel,
            group,
            had_group: group.is_some(),
            finished: true,
            tier: "kernel",
        }
    }

    #[test]
    fn run_time_is_split_by_the_ratio_of_the_tick_counters() {
        let group = GroupUsage {
            memory_peak: Some(7),
            throttled_ns: Some(500_000_000),
            oom_kills: Some(0),
            cpu_ns: Some(9),
            ..GroupUsage::default()
        };
        let usage = usage(&source(&FULL, Some(&group)));
        assert_eq!(usage.cpu_sec, Some(3.0));
        assert_eq!(usage.user_sec, Some(2.0));
        assert_eq!(usage.system_sec, Some(1.0));
        assert_eq!(usage.write_bytes, Some(0), "zero measured is zero, not absent");
        assert_eq!(usage.throttled_sec, Some(0.5));
        assert_eq!(usage.memory_peak_bytes, Some(7));
        assert_eq!(
            usage.absent,
            ["network bytes: this version attaches no counter to a job"]
        );
    }

    #[test]
    fn a_life_without_a_tick_has_cpu_time_but_no_split() {
        let short = KernelUsage {
            run_ns: Some(50_000),
            utime_ns: Some(0),
            stime_ns: Some(0),
            ..FULL
        };
        let usage = usage(&source(&short, None));
        assert_eq!(usage.cpu_sec, Some(0.000_05));
        assert_eq!((usage.user_sec, usage.system_sec), (None, None));
        assert!(
            usage
                .absent
                .iter()
                .any(|why| why.starts_with("user and system time:"))
        );
    }

    #[test]
    fn every_absent_figure_has_a_reason() {
        let nothing = KernelUsage::default();
        let sentences = |had_group, finished| {
            usage(&Source {
                kernel: &nothing,
                group: None,
                had_group,
                finished,
                tier: "scan",
            })
            .absent
        };
        insta::assert_snapshot!(sentences(false, true).join("\n"), @r"
        cpu time, disk bytes, context switches, number of processes: the `scan` tier does not see them
        network bytes: this version attaches no counter to a job
        memory peak, throttling: the job has no group of its own
        ");
        insta::assert_snapshot!(sentences(true, false).join("\n"), @r"
        cpu time, disk bytes, context switches, number of processes: the `scan` tier does not see them
        network bytes: this version attaches no counter to a job
        memory peak, throttling: read when the job's last process ends
        ");
    }

    #[test]
    fn below_the_kernel_tier_cpu_time_is_the_groups_and_says_what_it_lacks() {
        let seen = KernelUsage {
            processes: Some(2),
            ..KernelUsage::default()
        };
        let group = GroupUsage {
            cpu_ns: Some(1_500_000_000),
            ..GroupUsage::default()
        };
        let usage = usage(&Source {
            tier: "connector",
            ..source(&seen, Some(&group))
        });
        assert_eq!(
            (usage.cpu_sec, usage.user_sec, usage.processes),
            (Some(1.5), None, Some(2))
        );
        insta::assert_snapshot!(usage.absent.join("\n"), @r"
        user and system time, disk bytes, context switches: the `connector` tier does not see them
        cpu time before the job was placed: the rest is the one its group counted (cpu.stat)
        network bytes: this version attaches no counter to a job
        ");
    }

    #[test]
    fn while_it_lives_the_kernels_sums_are_still_to_come() {
        let living = usage(&Source {
            finished: false,
            ..source(&KernelUsage::default(), None)
        });
        assert_eq!(
            living.absent[0],
            "cpu time, disk bytes, context switches, number of processes: summed up when the job's processes end"
        );
    }

    #[test]
    fn the_groups_own_reasons_are_passed_on() {
        let group = GroupUsage {
            absent: vec!["memory peak: the kernel has no memory.peak before 5.19".to_owned()],
            ..GroupUsage::default()
        };
        let usage = usage(&source(&FULL, Some(&group)));
        assert_eq!(usage.memory_peak_bytes, None);
        assert_eq!(usage.absent.last(), group.absent.last());
    }

    proptest::proptest! {
        #[test]
        fn user_and_system_time_add_up_to_the_run_time(run: u64, user: u64, system: u64) {
            let kernel = KernelUsage {
                run_ns: Some(run),
                utime_ns: Some(user),
                stime_ns: Some(system),
                ..FULL
            };
            match split(&kernel) {
                (Some(u), Some(s)) => proptest::prop_assert_eq!(u + s, run),
                other => proptest::prop_assert_eq!((other, user, system), ((None, None), 0, 0)),
            }
        }
    }
}
