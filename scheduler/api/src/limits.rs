//! What a job may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The limits of one job. An absent field means "not limited by us".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_max: Option<CpuMax>,
    /// Share under contention, 1 to 10000; 100 is the kernel's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Memory in bytes; above it the kernel reclaims, then kills inside the job's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// Share of the disk under contention, 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
    /// Absolute disk limit in the form of cgroup v2 `io.max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_max: Option<String>,
    /// How many tasks the job may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
    /// CPUs the job may run on, as a list such as `0-1,4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_set: Option<String>,
    /// Nice value, -20 to 19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// Disk priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// Preference of the out-of-memory killer, -1000 (never) to 1000 (first).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

/// CPU bandwidth: at most `quota_us` of CPU time in each `period_us` of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CpuMax {
    /// Microseconds of CPU time a period; `None` is no limit (`max`).
    pub quota_us: Option<u64>,
    /// Length of a period in microseconds, 1000 to 1000000 (kernel limits of `cpu.max`).
    pub period_us: u64,
}

/// A scheduling class of `ioprio_set(2)` with its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IoPriority {
    /// The class.
    pub class: IoClass,
    /// 0 (first) to 7 (last); idle has no levels and takes 0.
    pub level: u8,
}

/// The class of an [`IoPriority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IoClass {
    /// Served before all others; needs privilege.
    Realtime,
    /// The default class.
    BestEffort,
    /// Served when nobody else asks.
    Idle,
}

/// A limit that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {found} is not possible; {allowed}")]
pub struct LimitError {
    /// Field as the user wrote it, for instance `cpu_weight`.
    pub field: &'static str,
    /// The value found.
    pub found: String,
    /// What would be accepted.
    pub allowed: &'static str,
}

impl CpuMax {
    /// The period the predecessor's users know, in microseconds.
    pub const DEFAULT_PERIOD_US: u64 = 100_000;

    /// `percent` of one core over a period of 100 ms. Zero means no limit and gives `None`.
    pub fn from_percent(percent: u32) -> Option<Self> {
        (percent > 0).then(|| Self {
            quota_us: Some(u64::from(percent) * Self::DEFAULT_PERIOD_US / 100),
            period_us: Self::DEFAULT_PERIOD_US,
        })
    }
}

impl CpuMax {
    fn validate(&self) -> Result<(), LimitError> {
        let refuse = |allowed| {
            Err(LimitError {
                field: "cpu_max",
                found: self.to_string(),
                allowed,
            })
        };
        if self.quota_us.is_some_and(|quota| quota < 1_000) {
            return refuse("the smallest quota is 1000 us (1 % of a core at 100 ms)");
        }
        // 1024 cores at the longest period; far above any machine, far below the kernel's overflow.
        if self.quota_us.is_some_and(|quota| quota > 1_024_000_000) {
            return refuse("the largest quota is 102400 % (1024 cores)");
        }
        if !(1_000..=1_000_000).contains(&self.period_us) {
            return refuse("the period is 1000 to 1000000 us");
        }
        Ok(())
    }
}

impl fmt::Display for CpuMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quota_us {
            Some(quota) => write!(f, "{quota} {}", self.period_us),
            None => write!(f, "max {}", self.period_us),
        }
    }
}

impl FromStr for CpuMax {
    type Err = LimitError;

    /// Reads the form of cgroup v2 `cpu.max`: `QUOTA [PERIOD]`, microseconds, or `max [PERIOD]`.
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let wrong = || LimitError {
            field: "cpu_max",
            found: format!("{text:?}"),
            allowed: "write QUOTA PERIOD in microseconds, such as \"200000 100000\", or \"max\"",
        };
        let mut words = text.split_whitespace();
        let quota = words.next().ok_or_else(wrong)?;
        let quota_us = match quota {
            "max" => None,
            number => Some(number.parse::<u64>().map_err(|_| wrong())?),
        };
        let period_us = match words.next() {
            Some(number) => number.parse::<u64>().map_err(|_| wrong())?,
            None => Self::DEFAULT_PERIOD_US,
        };
        if words.next().is_some() {
            return Err(wrong());
        }
        Ok(Self { quota_us, period_us })
    }
}

impl Limits {
    /// Names of the limits that are asked for, as in a report.
    pub fn names(&self) -> Vec<&'static str> {
        [
            ("cpu_max", self.cpu_max.is_some()),
            ("cpu_weight", self.cpu_weight.is_some()),
            ("memory_max", self.memory_max.is_some()),
            ("io_weight", self.io_weight.is_some()),
            ("io_max", self.io_max.is_some()),
            ("pids_max", self.pids_max.is_some()),
            ("cpu_set", self.cpu_set.is_some()),
            ("nice", self.nice.is_some()),
            ("io_priority", self.io_priority.is_some()),
            ("oom_score_adj", self.oom_score_adj.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, asked)| asked.then_some(name))
        .collect()
    }

    /// True when nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The limits of `self` where it has them, else those of `base`.
    #[must_use]
    pub fn or(self, base: &Self) -> Self {
        let base = base.clone();
        Self {
            cpu_max: self.cpu_max.or(base.cpu_max),
            cpu_weight: self.cpu_weight.or(base.cpu_weight),
            memory_max: self.memory_max.or(base.memory_max),
            io_weight: self.io_weight.or(base.io_weight),
            io_max: self.io_max.or(base.io_max),
            pids_max: self.pids_max.or(base.pids_max),
            cpu_set: self.cpu_set.or(base.cpu_set),
            nice: self.nice.or(base.nice),
            io_priority: self.io_priority.or(base.io_priority),
            oom_score_adj: self.oom_score_adj.or(base.oom_score_adj),
        }
    }

    /// Checks every field against what the kernel accepts. The bounds are those of the kernel's own files:
    /// `cpu.max` wants a quota of at least 1 ms and a period of 1 ms to 1 s; `cpu.weight` 1 to 10000.
    pub fn validate(&self) -> Result<(), LimitError> {
        if let Some(max) = self.cpu_max {
            max.validate()?;
        }
        let within = |low: i64, high: i64| move |value: &i64| (low..=high).contains(value);
        check(
            "cpu_weight",
            self.cpu_weight,
            within(1, 10_000),
            "write 1 to 10000; 100 is normal",
        )?;
        check(
            "memory_max",
            self.memory_max,
            |bytes| *bytes >= 1 << 20,
            "write at least 1048576 bytes (1 MiB), or 0 for no limit",
        )?;
        check(
            "io_weight",
            self.io_weight,
            within(1, 100),
            "write 1 to 100, or 0 for the default",
        )?;
        check("pids_max", self.pids_max, |count| *count >= 1, "write at least 1")?;
        check(
            "nice",
            self.nice,
            within(-20, 19),
            "write -20 (first) to 19 (last)",
        )?;
        let level = self.io_priority.map(|priority| priority.level);
        check(
            "io_priority",
            level,
            within(0, 7),
            "the level is 0 (first) to 7 (last)",
        )?;
        let text = "write -1000 (never killed) to 1000 (killed first)";
        check("oom_score_adj", self.oom_score_adj, within(-1000, 1000), text)
    }
}

/// Fails when the value is there and not as allowed. A value that no signed number holds is judged as the largest.
fn check<T: Copy + fmt::Display + TryInto<i64>>(
    field: &'static str,
    value: Option<T>,
    allowed: impl Fn(&i64) -> bool,
    text: &'static str,
) -> Result<(), LimitError> {
    match value {
        Some(value) if !allowed(&value.try_into().unwrap_or(i64::MAX)) => Err(LimitError {
            field,
            found: value.to_string(),
            allowed: text,
        }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_a_share_of_one_core_over_100_ms() {
        assert_eq!(CpuMax::from_percent(200).unwrap().to_string(), "200000 100000");
        assert_eq!(CpuMax::from_percent(50).unwrap().to_string(), "50000 100000");
        assert_eq!(CpuMax::from_percent(0), None);
    }

    #[test]
    fn raw_cpu_max_is_read_as_the_kernel_writes_it() {
        for (text, print) in [
            ("200000 100000", "200000 100000"),
            ("max", "max 100000"),
            ("5000", "5000 100000"),
        ] {
            assert_eq!(text.parse::<CpuMax>().unwrap().to_string(), print);
        }
        for bad in ["", "x", "1 2 3", "-1 100000", "1.5"] {
            assert!(bad.parse::<CpuMax>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn absurd_limits_are_refused_with_the_field_named() {
        let limits = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.validate().map_err(|error| error.field)
        };
        assert_eq!(limits(|_| ()), Ok(()));
        assert_eq!(limits(|l| l.cpu_weight = Some(0)), Err("cpu_weight"));
        assert_eq!(limits(|l| l.cpu_weight = Some(10_001)), Err("cpu_weight"));
        assert_eq!(limits(|l| l.memory_max = Some(4096)), Err("memory_max"));
        assert_eq!(limits(|l| l.nice = Some(20)), Err("nice"));
        assert_eq!(limits(|l| l.oom_score_adj = Some(-1001)), Err("oom_score_adj"));
        assert_eq!(limits(|l| l.io_weight = Some(101)), Err("io_weight"));
        assert_eq!(limits(|l| l.cpu_max = "1 100000".parse().ok()), Err("cpu_max"));
        assert_eq!(limits(|l| l.cpu_max = "1000 10".parse().ok()), Err("cpu_max"));
    }
}
