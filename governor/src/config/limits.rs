//! Limits as users write them, made into what the kernel is told. Both spellings of a limit are known; only one may stand
//! in one block. "No limit" (a zero, or `max`) is kept apart from "not said", so that a program's block can lift a default.

use ffrtmp_api::{CpuMax, IoClass, IoPriority, LimitError, Limits};

use super::at::{At, Quantity};
use super::error::Problems;
use super::raw::RawLimits;

/// Bytes of the predecessor's unit of memory.
pub(super) const MIB: u64 = 1 << 20;
/// Bytes no machine has; the kernel's own counter ends at 2^63 (`PAGE_COUNTER_MAX` pages).
const MEMORY_MAX: u64 = 1 << 62;
/// Highest CPU number a kernel can be built for (`CONFIG_NR_CPUS` of x86-64 is at most 8192).
const CPU_MAX: u32 = 8191;

/// What one block says.
#[derive(Debug, Clone, Default)]
pub(super) struct Stated {
    limits: Limits,
    lifted: Lifted,
}

/// Limits that a block says are none.
#[derive(Debug, Clone, Copy, Default)]
struct Lifted {
    cpu: bool,
    memory: bool,
    io_weight: bool,
}

impl Stated {
    /// What this block says, and for the rest what `base` says.
    pub(super) fn over(self, base: &Self) -> Limits {
        let mut rest = base.limits.clone();
        if self.lifted.cpu {
            rest.cpu_max = None;
        }
        if self.lifted.memory {
            rest.memory_max = None;
        }
        if self.lifted.io_weight {
            rest.io_weight = None;
        }
        self.limits.or(&rest)
    }

    /// What this block alone says.
    pub(super) fn alone(self) -> Limits {
        self.limits
    }
}

/// Lowers one block that stands at `path`.
pub(super) fn lower(raw: Option<&RawLimits>, path: &str, problems: &mut Problems) -> Stated {
    let Some(raw) = raw else {
        return Stated::default();
    };
    let mut block = Block {
        stated: Stated::default(),
        path,
        problems,
    };
    block.cpu(raw);
    block.memory(raw);
    block.disk(raw);
    block.process(raw);
    block.stated
}

struct Block<'a> {
    stated: Stated,
    path: &'a str,
    problems: &'a mut Problems,
}

impl Block<'_> {
    fn wrong<T>(&mut self, at: &At<T>, key: &str, found: impl std::fmt::Display, allowed: &str) {
        let path = format!("{}.{key}", self.path);
        self.problems
            .add(at, &path, format!("{found} is not possible; {allowed}"));
    }

    /// Keeps the limits `set` makes, unless they are wrong.
    fn set<T>(&mut self, at: &At<T>, key: &str, set: impl FnOnce(&mut Limits)) {
        let mut one = Limits::default();
        set(&mut one);
        match one.validate() {
            Ok(()) => self.stated.limits = one.or(&self.stated.limits),
            Err(LimitError { found, allowed, .. }) => self.wrong(at, key, found, allowed),
        }
    }

    /// The same for a number; one that does not fit its type becomes `misfit`, which no limit accepts.
    fn number<N: TryFrom<i64>>(
        &mut self,
        at: &At<i64>,
        key: &str,
        misfit: N,
        set: impl FnOnce(&mut Limits, N),
    ) {
        let mut one = Limits::default();
        set(&mut one, N::try_from(at.value).unwrap_or(misfit));
        match one.validate() {
            Ok(()) => self.stated.limits = one.or(&self.stated.limits),
            Err(LimitError { allowed, .. }) => self.wrong(at, key, at.value, allowed),
        }
    }

    fn twice<A, B>(&mut self, first: (&str, &Option<At<A>>), second: (&str, &Option<At<B>>)) {
        if let ((one, Some(_)), (other, Some(at))) = (first, second) {
            let path = format!("{}.{other}", self.path);
            self.problems
                .add(at, &path, format!("says the same as {one}; keep one of them"));
        }
    }

    fn cpu(&mut self, raw: &RawLimits) {
        self.twice(("cpu_quota", &raw.cpu_quota), ("cpu_max", &raw.cpu_max));
        if let Some(at) = &raw.cpu_quota {
            match u32::try_from(at.value) {
                Ok(0) => self.stated.lifted.cpu = true,
                Ok(percent @ ..=102_400) => {
                    self.set(at, "cpu_quota", |l| l.cpu_max = CpuMax::from_percent(percent));
                }
                _ => self.wrong(
                    at,
                    "cpu_quota",
                    at.value,
                    "write percent of one core, 1 to 102400 (200 is two cores), or 0 for no limit",
                ),
            }
        }
        if let Some(at) = &raw.cpu_max {
            match at.value.parse::<CpuMax>() {
                Ok(CpuMax { quota_us: None, .. }) => self.stated.lifted.cpu = true,
                Ok(max) => self.set(at, "cpu_max", |l| l.cpu_max = Some(max)),
                Err(error) => self.wrong(at, "cpu_max", error.found, error.allowed),
            }
        }
        if let Some(at) = &raw.cpu_weight {
            self.number(at, "cpu_weight", u32::MAX, |l, n| l.cpu_weight = Some(n));
        }
        if let Some(at) = &raw.cpu_set {
            if is_cpu_list(&at.value) {
                self.set(at, "cpu_set", |l| l.cpu_set = Some(at.value.trim().to_owned()));
            } else {
                let found = format!("\"{}\"", at.value);
                self.wrong(
                    at,
                    "cpu_set",
                    found,
                    "write CPU numbers and ranges, such as \"0-3,8\"",
                );
            }
        }
    }

    fn memory(&mut self, raw: &RawLimits) {
        self.twice(
            ("memory_limit", &raw.memory_limit),
            ("memory_max", &raw.memory_max),
        );
        for (key, at, unit) in [
            ("memory_limit", &raw.memory_limit, MIB),
            ("memory_max", &raw.memory_max, 1),
        ] {
            let Some(at) = at else { continue };
            match bytes(&at.value, unit) {
                Some(0) => self.stated.lifted.memory = true,
                Some(size) => self.set(at, key, |l| l.memory_max = Some(size)),
                None => {
                    let allowed = if unit == 1 {
                        "write bytes, or a size such as 2GiB, or 0 for no limit"
                    } else {
                        "write MiB, or a size such as 2GiB, or 0 for no limit"
                    };
                    self.wrong(at, key, &at.value, allowed);
                }
            }
        }
    }

    fn disk(&mut self, raw: &RawLimits) {
        if let Some(at) = &raw.io_weight {
            if at.value == 0 {
                self.stated.lifted.io_weight = true;
            } else {
                self.number(at, "io_weight", u32::MAX, |l, n| l.io_weight = Some(n));
            }
        }
        if let Some(at) = &raw.io_max {
            if is_io_max(&at.value) {
                self.set(at, "io_max", |l| l.io_max = Some(at.value.trim().to_owned()));
            } else {
                let found = format!("\"{}\"", at.value);
                self.wrong(
                    at,
                    "io_max",
                    found,
                    "write \"MAJOR:MINOR rbps=N wbps=N riops=N wiops=N\"",
                );
            }
        }
        if let Some(at) = &raw.io_priority {
            if let Some(priority) = io_priority(&at.value) {
                self.set(at, "io_priority", |l| l.io_priority = Some(priority));
            } else {
                let found = format!("\"{}\"", at.value);
                self.wrong(
                    at,
                    "io_priority",
                    found,
                    "write best-effort:0 to 7, realtime:0 to 7, or idle",
                );
            }
        }
    }

    fn process(&mut self, raw: &RawLimits) {
        if let Some(at) = &raw.pids_max {
            match u64::try_from(at.value) {
                // PID_MAX_LIMIT of a 64-bit kernel.
                Ok(count @ ..=4_194_304) => self.set(at, "pids_max", |l| l.pids_max = Some(count)),
                _ => self.wrong(at, "pids_max", at.value, "write 1 to 4194304"),
            }
        }
        if let Some(at) = &raw.nice {
            self.number(at, "nice", i32::MAX, |l, n| l.nice = Some(n));
        }
        self.twice(
            ("oom_score_adj", &raw.oom_score_adj),
            ("oom_score", &raw.oom_score),
        );
        for (key, at) in [
            ("oom_score_adj", &raw.oom_score_adj),
            ("oom_score", &raw.oom_score),
        ] {
            if let Some(at) = at {
                self.number(at, key, i32::MAX, |l, n| l.oom_score_adj = Some(n));
            }
        }
    }
}

/// A size in bytes; `unit` is the bytes a bare number counts. K, M and G are binary, as the kernel takes them.
pub(super) fn bytes(quantity: &Quantity, unit: u64) -> Option<u64> {
    let size = match quantity {
        Quantity::Number(number) => u64::try_from(*number).ok()?.checked_mul(unit)?,
        Quantity::Text(text) => parse_size::Config::new()
            .with_binary()
            .with_default_factor(unit)
            .parse_size(text.as_str())
            .ok()?,
    };
    (size <= MEMORY_MAX).then_some(size)
}

/// `0-3,8`: numbers and ascending ranges.
fn is_cpu_list(text: &str) -> bool {
    let cpu = |text: &str| text.parse::<u32>().ok().filter(|&cpu| cpu <= CPU_MAX);
    text.trim().split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => matches!((cpu(first), cpu(last)), (Some(first), Some(last)) if first <= last),
        None => cpu(part).is_some(),
    })
}

/// `8:0 rbps=1048576 wiops=max`.
fn is_io_max(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let device = words.next().and_then(|word| word.split_once(':'));
    let device =
        device.is_some_and(|(major, minor)| major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok());
    let mut limits = words.peekable();
    device
        && limits.peek().is_some()
        && limits.all(|word| {
            word.split_once('=').is_some_and(|(key, value)| {
                ["rbps", "wbps", "riops", "wiops"].contains(&key)
                    && (value == "max" || value.parse::<u64>().is_ok_and(|value| value > 0))
            })
        })
}

/// `CLASS[:LEVEL]`; the level is 4 where none is given, the kernel's default.
fn io_priority(text: &str) -> Option<IoPriority> {
    let (class, level) = match text.trim().split_once(':') {
        Some((class, level)) => (class, Some(level.parse::<u8>().ok().filter(|&level| level <= 7)?)),
        None => (text.trim(), None),
    };
    let (class, level) = match class {
        "realtime" => (IoClass::Realtime, level.unwrap_or(4)),
        "best-effort" => (IoClass::BestEffort, level.unwrap_or(4)),
        "idle" if level.is_none_or(|level| level == 0) => (IoClass::Idle, 0),
        _ => return None,
    };
    Some(IoPriority { class, level })
}
