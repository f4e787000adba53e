//! Limits as systemd's properties (systemd.resource-control(5)).
//!
//! Only what systemd has a property for, with the same meaning. The rest is written into the scope's group, which is
//! delegated to us; so is a property whose value the kernel does not show as asked.

use ffrtmp_api::Limits;
use zbus::Variant;

use crate::core::readback::parse_cpus;

/// A property with its value.
pub(super) type Property = (&'static str, Variant<'static>);

/// Microseconds in a second: systemd wants a quota as CPU time for each second of wall time.
const SECOND_US: u64 = 1_000_000;

/// The limits that systemd keeps for us, so that its own rewriting of the group keeps them in force.
pub(super) fn of_limits(limits: &Limits) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    if let Some(max) = limits.cpu_max {
        // `u64::MAX` is systemd's "infinity".
        let quota = max.quota_us.map_or(u64::MAX, |quota| {
            quota.saturating_mul(SECOND_US) / max.period_us.max(1)
        });
        properties.push(("CPUQuotaPerSecUSec", Variant::new(quota)));
        properties.push(("CPUQuotaPeriodUSec", Variant::new(max.period_us)));
    }
    if let Some(weight) = limits.cpu_weight {
        properties.push(("CPUWeight", Variant::new(u64::from(weight))));
    }
    if let Some(bytes) = limits.memory_max {
        properties.push(("MemoryMax", Variant::new(bytes)));
    }
    if let Some(tasks) = limits.pids_max {
        properties.push(("TasksMax", Variant::new(tasks)));
    }
    if let Some(weight) = limits.io_weight {
        let weight = crate::core::plan::scale_io_weight(weight, 1, 10_000);
        properties.push(("IOWeight", Variant::new(u64::from(weight))));
    }
    if let Some(mask) = limits.cpu_set.as_deref().and_then(cpu_mask) {
        properties.push(("AllowedCPUs", Variant::new(mask)));
    }
    properties
}

/// CPUs as a bit mask, lowest first, eight to a byte.
fn cpu_mask(list: &str) -> Option<Vec<u8>> {
    let cpus = parse_cpus(list)?;
    let last = *cpus.last()? as usize;
    let mut mask = vec![0u8; last / 8 + 1];
    for cpu in cpus {
        mask[cpu as usize / 8] |= 1 << (cpu % 8);
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use ffrtmp_api::CpuMax;

    use super::*;

    #[test]
    fn limits_become_properties_in_systemds_units() {
        let limits = Limits {
            cpu_max: Some(CpuMax {
                quota_us: Some(75_000),
                period_us: 50_000,
            }),
            cpu_weight: Some(50),
            memory_max: Some(1 << 20),
            pids_max: Some(9),
            cpu_set: Some("0-1,8".to_owned()),
            io_weight: Some(100),
            io_max: Some("8:0 wbps=1".to_owned()),
            nice: Some(5),
            ..Limits::default()
        };
        assert_eq!(
            of_limits(&limits),
            [
                ("CPUQuotaPerSecUSec", Variant::new(1_500_000u64)),
                ("CPUQuotaPeriodUSec", Variant::new(50_000u64)),
                ("CPUWeight", Variant::new(50u64)),
                ("MemoryMax", Variant::new(1u64 << 20)),
                ("TasksMax", Variant::new(9u64)),
                ("IOWeight", Variant::new(10_000u64)),
                ("AllowedCPUs", Variant::new(vec![3u8, 1])),
            ]
        );
        assert_eq!(of_limits(&Limits::default()), []);
    }

    #[test]
    fn no_quota_is_infinity() {
        let limits = Limits {
            cpu_max: Some(CpuMax {
                quota_us: None,
                period_us: 100_000,
            }),
            ..Limits::default()
        };
        assert_eq!(of_limits(&limits)[0].1, Variant::new(u64::MAX));
    }
}
