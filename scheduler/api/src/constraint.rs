//! The limits of a submission in the predecessor's two spellings, and what they mean in ours.

use serde::{Deserialize, Serialize};

use crate::{CpuMax, FieldError, Limits};

/// `resource_limits` of a submission. Zero means "no limit", as the predecessor's users write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceLimits {
    /// CPU in percent of one core.
    pub max_cpu_percent: Option<u32>,
    /// Memory in MiB.
    pub max_memory_mb: Option<u32>,
    /// Disk space for input, output and temporary files, in MiB.
    pub max_disk_mb: Option<u32>,
    /// The job's own time limit in seconds; when it passes the job has failed.
    pub timeout_sec: Option<u32>,
}

/// `wrapper_constraints` of a submission, in both spellings that were documented.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WrapperConstraints {
    /// Quota and period as in cgroup v2 `cpu.max`; loses against `cpu_quota_percent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_max: Option<String>,
    /// CPU in percent of one core.
    #[serde(alias = "cpu_quota", skip_serializing_if = "Option::is_none")]
    pub cpu_quota_percent: Option<u32>,
    /// Share of the CPU under contention, 1 to 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Memory in MiB.
    #[serde(
        alias = "memory_max_mb",
        alias = "memory_limit",
        skip_serializing_if = "Option::is_none"
    )]
    pub memory_limit_mb: Option<u32>,
    /// Share of the disk under contention, 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
    /// Disk limit in the form of cgroup v2 `io.max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_max: Option<String>,
    /// Nice value, -20 to 19.
    #[serde(alias = "nice", skip_serializing_if = "Option::is_none")]
    pub nice_priority: Option<i32>,
    /// Preference of the out-of-memory killer.
    #[serde(alias = "oom_score", skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

fn percent(field: &str, percent: Option<u32>) -> Result<Option<CpuMax>, FieldError> {
    // 1024 cores, as in `CpuMax`.
    match percent {
        Some(percent) if percent > 102_400 => Err(FieldError::new(
            field,
            format!("{percent} is not possible; write 1 to 102400, or 0 for no limit"),
        )),
        Some(percent) => Ok(CpuMax::from_percent(percent)),
        None => Ok(None),
    }
}

fn mib(mib: Option<u32>) -> Option<u64> {
    mib.filter(|mib| *mib > 0).map(|mib| u64::from(mib) << 20)
}

impl ResourceLimits {
    /// The limits this asks of the node's kernel.
    pub fn limits(&self) -> Result<Limits, FieldError> {
        Ok(Limits {
            cpu_max: percent("max_cpu_percent", self.max_cpu_percent)?,
            memory_max: mib(self.max_memory_mb),
            ..Limits::default()
        })
    }

    /// The fields of `self` where it has them, else those of `base`.
    #[must_use]
    pub fn or(self, base: Self) -> Self {
        Self {
            max_cpu_percent: self.max_cpu_percent.or(base.max_cpu_percent),
            max_memory_mb: self.max_memory_mb.or(base.max_memory_mb),
            max_disk_mb: self.max_disk_mb.or(base.max_disk_mb),
            timeout_sec: self.timeout_sec.or(base.timeout_sec),
        }
    }
}

impl WrapperConstraints {
    /// The limits this asks of the node's kernel.
    pub fn limits(&self) -> Result<Limits, FieldError> {
        let raw = match &self.cpu_max {
            Some(text) => Some(
                text.parse::<CpuMax>()
                    .map_err(|error| FieldError::new("cpu_max", error.to_string()))?,
            ),
            None => None,
        };
        let limits = Limits {
            cpu_max: percent("cpu_quota_percent", self.cpu_quota_percent)?.or(raw),
            cpu_weight: self.cpu_weight,
            memory_max: mib(self.memory_limit_mb),
            io_weight: self.io_weight.filter(|weight| *weight > 0),
            io_max: self.io_max.clone(),
            nice: self.nice_priority,
            oom_score_adj: self.oom_score_adj,
            ..Limits::default()
        };
        limits
            .validate()
            .map_err(|error| FieldError::new(spelling(error.field), error.to_string()))?;
        Ok(limits)
    }
}

/// How the submission spells one of our limits.
fn spelling(field: &'static str) -> &'static str {
    match field {
        "memory_max" => "memory_limit_mb",
        "nice" => "nice_priority",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_mean_the_same() {
        let one = r#"{"cpu_quota_percent":200,"memory_limit_mb":4096,"nice_priority":-5}"#;
        let two = r#"{"cpu_max":"200000 100000","memory_max_mb":4096,"nice":-5}"#;
        let limits = |text| {
            serde_json::from_str::<WrapperConstraints>(text)
                .unwrap()
                .limits()
                .unwrap()
        };
        assert_eq!(limits(one), limits(two));
        assert_eq!(limits(one).memory_max, Some(4096 << 20));
    }

    #[test]
    fn impossible_constraints_name_their_field() {
        let field = |text| {
            let parsed = serde_json::from_str::<WrapperConstraints>(text).unwrap();
            parsed.limits().unwrap_err().field
        };
        assert_eq!(field(r#"{"nice_priority":20}"#), "nice_priority");
        assert_eq!(field(r#"{"cpu_weight":0}"#), "cpu_weight");
        assert_eq!(field(r#"{"cpu_max":"fast"}"#), "cpu_max");
        assert_eq!(field(r#"{"cpu_quota_percent":999999}"#), "cpu_quota_percent");
    }
}
