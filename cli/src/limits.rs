//! What the limit flags mean: presets, precedence, units. Pure; every message says what would be accepted, and clap
//! puts the flag's name in front of it.
//!
//! Zero means "not limited by us" for every flag whose users know it so, and overrides a preset's value.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::ValueEnum;
use ffrtmp_api::{CpuMax, IoClass, IoPriority, Limits};

use crate::args::LimitFlags;

/// Limits by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// No limits
    Default,
    /// --cpu-weight 50 --nice 10
    Low,
    /// --cpu-weight 200 --nice -5
    High,
    /// --memory-limit 2048 --oom-score 500
    MemoryBound,
    /// --cpu-quota 400 --memory-limit 4096
    Balanced,
}

impl Preset {
    /// The flags this preset stands for.
    fn flags(self) -> LimitFlags {
        let none = LimitFlags::default();
        match self {
            Self::Default => none,
            Self::Low => LimitFlags {
                cpu_weight: Some(50),
                nice: Some(10),
                ..none
            },
            Self::High => LimitFlags {
                cpu_weight: Some(200),
                nice: Some(-5),
                ..none
            },
            Self::MemoryBound => LimitFlags {
                memory_limit: Some(2048),
                oom_score: Some(500),
                ..none
            },
            Self::Balanced => LimitFlags {
                cpu_quota: Some(400),
                memory_limit: Some(4096),
                ..none
            },
        }
    }
}

/// The limits that these flags ask for.
///
/// A quota in percent wins over the raw form and MB over bytes, as the predecessor's users know it; a flag of either
/// form wins over both forms of the preset.
pub fn resolve(flags: &LimitFlags) -> Limits {
    let preset = flags.preset.map(Preset::flags).unwrap_or_default();
    let cpu = either(
        flags.cpu_quota.is_some() || flags.cpu_max.is_some(),
        flags,
        &preset,
    );
    let memory = either(
        flags.memory_limit.is_some() || flags.memory_max.is_some(),
        flags,
        &preset,
    );
    Limits {
        cpu_max: cpu.cpu_quota.and_then(CpuMax::from_percent).or(cpu.cpu_max),
        cpu_weight: flags.cpu_weight.or(preset.cpu_weight),
        memory_max: memory
            .memory_limit
            .filter(|&mebibytes| mebibytes != 0)
            .map(|mebibytes| mebibytes << 20)
            .or(memory.memory_max.filter(|&bytes| bytes != 0)),
        io_weight: flags.io_weight.or(preset.io_weight).filter(|&weight| weight != 0),
        io_max: flags.io_max.clone(),
        pids_max: flags.pids_max,
        cpu_set: flags.cpu_set.clone(),
        nice: flags.nice.or(preset.nice).filter(|&nice| nice != 0),
        io_priority: flags.io_priority,
        oom_score_adj: flags.oom_score.or(preset.oom_score).filter(|&score| score != 0),
    }
}

fn either<'a>(first: bool, flags: &'a LimitFlags, preset: &'a LimitFlags) -> &'a LimitFlags {
    if first { flags } else { preset }
}

/// Reads a whole number within bounds.
pub fn whole<T: TryFrom<i64>>(
    bounds: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let allowed = || format!("write a whole number from {} to {}", bounds.start(), bounds.end());
        let number = text.parse::<i64>().map_err(|_| allowed())?;
        if !bounds.contains(&number) {
            return Err(allowed());
        }
        T::try_from(number).map_err(|_| allowed())
    }
}

/// Reads `--cpu-max`.
pub fn parse_cpu_max(text: &str) -> Result<CpuMax, &'static str> {
    let cpu_max = text.parse::<CpuMax>().map_err(|error| error.allowed)?;
    let limits = Limits {
        cpu_max: Some(cpu_max),
        ..Limits::default()
    };
    limits.validate().map_err(|error| error.allowed)?;
    Ok(cpu_max)
}

/// Reads `--memory-max`: bytes, 0 for no limit.
pub fn parse_memory_max(text: &str) -> Result<u64, &'static str> {
    let allowed = "write a whole number of bytes, at least 1048576 (1 MiB), or 0 for no limit";
    let bytes = text.parse::<u64>().map_err(|_| allowed)?;
    // The kernel keeps memory in signed 64 bits.
    if bytes == 0 || (1 << 20..=i64::MAX as u64).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(allowed)
    }
}

/// Reads `--io-max`: one device and its limits, the form of cgroup v2.
pub fn parse_io_max(text: &str) -> Result<String, &'static str> {
    let allowed = "write MAJOR:MINOR and at least one of rbps=, wbps=, riops=, wiops= with a number or max, such as \"8:0 rbps=1048576\"";
    let mut words = text.split_whitespace();
    let device = words.next().and_then(|word| word.split_once(':'));
    let numbered = device.is_some_and(|(major, minor)| is_number(major) && is_number(minor));
    let limits: Vec<&str> = words.collect();
    let known = limits.iter().all(|word| {
        word.split_once('=').is_some_and(|(key, value)| {
            ["rbps", "wbps", "riops", "wiops"].contains(&key) && (value == "max" || is_number(value))
        })
    });
    if numbered && known && !limits.is_empty() {
        Ok(text.to_owned())
    } else {
        Err(allowed)
    }
}

fn is_number(text: &str) -> bool {
    !text.starts_with('+') && text.parse::<u64>().is_ok()
}

/// Reads `--io-priority`.
pub fn parse_io_priority(text: &str) -> Result<IoPriority, &'static str> {
    let allowed = "write realtime:0 to realtime:7, best-effort:0 to best-effort:7, or idle";
    let (class, level) = match text.split_once(':') {
        Some((class, level)) => (class, level.parse::<u8>().map_err(|_| allowed)?),
        None if text == "idle" => (text, 0),
        // The kernel's own level for a class without one.
        None => (text, 4),
    };
    let class = match class {
        "realtime" => IoClass::Realtime,
        "best-effort" => IoClass::BestEffort,
        "idle" if level == 0 => IoClass::Idle,
        _ => return Err(allowed),
    };
    if level <= 7 {
        Ok(IoPriority { class, level })
    } else {
        Err(allowed)
    }
}

/// Reads `--cpu-set` and checks that it is a list the kernel would read.
pub fn parse_cpu_set(text: &str) -> Result<String, &'static str> {
    cpus(text).map(|_| text.to_owned())
}

/// The CPUs of a list such as `0-1,4`.
pub fn cpus(text: &str) -> Result<BTreeSet<usize>, &'static str> {
    let allowed = "write CPU numbers and ranges, such as 0-1,4";
    // The kernel's own largest CPU number (CONFIG_NR_CPUS of any architecture).
    let number = |text: &str| match text.parse::<usize>() {
        Ok(cpu) if cpu < 8192 => Ok(cpu),
        Ok(_) | Err(_) => Err(allowed),
    };
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(allowed);
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// Reads an interval that must pass some time.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("write at least 1ms".to_owned()),
        Ok(interval) => Ok(interval),
        Err(error) => Err(format!("{error}; write for instance 10s or 1m 30s")),
    }
}

/// Reads one `--target`: the name of a program, without its directory.
pub fn parse_target(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains('/') {
        return Err("write the program's name without its directory, such as ffmpeg");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(change: impl FnOnce(&mut LimitFlags)) -> Limits {
        let mut flags = LimitFlags::default();
        change(&mut flags);
        resolve(&flags)
    }

    #[test]
    fn presets_are_the_documented_flags_and_single_flags_override_them() {
        let low = resolved(|flags| flags.preset = Some(Preset::Low));
        assert_eq!((low.cpu_weight, low.nice), (Some(50), Some(10)));
        let high = resolved(|flags| flags.preset = Some(Preset::High));
        assert_eq!((high.cpu_weight, high.nice), (Some(200), Some(-5)));
        let memory = resolved(|flags| flags.preset = Some(Preset::MemoryBound));
        assert_eq!(
            (memory.memory_max, memory.oom_score_adj),
            (Some(2 << 30), Some(500))
        );
        let balanced = resolved(|flags| flags.preset = Some(Preset::Balanced));
        assert_eq!(balanced.cpu_max.unwrap().to_string(), "400000 100000");
        assert_eq!(balanced.memory_max, Some(4 << 30));
        assert!(resolved(|flags| flags.preset = Some(Preset::Default)).is_empty());
        let overridden = resolved(|flags| {
            flags.preset = Some(Preset::Balanced);
            flags.cpu_max = Some("50000 100000".parse().unwrap());
            flags.memory_limit = Some(0);
        });
        assert_eq!(overridden.cpu_max.unwrap().to_string(), "50000 100000");
        assert_eq!(overridden.memory_max, None);
    }

    #[test]
    fn percent_wins_over_raw_and_megabytes_over_bytes() {
        let limits = resolved(|flags| {
            flags.cpu_quota = Some(200);
            flags.cpu_max = Some("1000 100000".parse().unwrap());
            flags.memory_limit = Some(4096);
            flags.memory_max = Some(1 << 20);
        });
        assert_eq!(limits.cpu_max.unwrap().to_string(), "200000 100000");
        assert_eq!(limits.memory_max, Some(4_294_967_296));
    }

    #[test]
    fn zero_means_not_limited_by_us() {
        let limits = resolved(|flags| {
            flags.cpu_quota = Some(0);
            flags.memory_limit = Some(0);
            flags.memory_max = Some(0);
            flags.io_weight = Some(0);
            flags.nice = Some(0);
            flags.oom_score = Some(0);
        });
        assert!(limits.is_empty(), "{limits:?}");
    }

    #[test]
    fn every_resolved_flag_passes_the_shared_validation() {
        let limits = resolved(|flags| {
            flags.cpu_quota = Some(102_400);
            flags.cpu_weight = Some(10_000);
            flags.memory_limit = Some(1);
            flags.io_weight = Some(100);
            flags.pids_max = Some(1);
            flags.nice = Some(-20);
            flags.oom_score = Some(1000);
            flags.io_priority = Some(parse_io_priority("best-effort:7").unwrap());
        });
        assert_eq!(limits.validate(), Ok(()));
    }

    #[test]
    fn wrong_values_are_refused() {
        for bad in ["", "x", "999 100000", "1000 10", "1 2 3", "-1"] {
            assert!(parse_cpu_max(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "-1", "1.5", "1G", "4096", "9223372036854775808"] {
            assert!(parse_memory_max(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "8:0", "8 rbps=1", "8:0 rbps=x", "8:0 xbps=1", "8:0 rbps"] {
            assert!(parse_io_max(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "-1", "2-1", "0,", "a", "0-9999"] {
            assert!(parse_cpu_set(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "idle:3", "realtime:8", "fast:1", "best-effort:x"] {
            assert!(parse_io_priority(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "/usr/bin/ffmpeg"] {
            assert!(parse_target(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "0s", "10", "-1s"] {
            assert!(parse_interval(bad).is_err(), "{bad:?}");
        }
        assert_eq!(cpus("0-2,5").unwrap(), BTreeSet::from([0, 1, 2, 5]));
    }
}
