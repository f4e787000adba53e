//! The node's own policy as users write it: what is reserved for the rest of the host, and which class is lowered while
//! another stalls. Whether the machine can do it is not known here.

use std::collections::BTreeSet;
use std::time::Duration;

use ffrtmp_api::Limits;

use super::at::At;
use super::error::Problems;
use super::raw::{RawConfig, RawLimits, RawLower, RawPressure, RawWatch};
use super::{between, limits, lower};
use crate::core::policy::{NodePolicy, Reserve};
use crate::core::pressure::{PressureRule, Watch};
use crate::core::rule::{Rule, RuleSet};

/// What `PSI_TRIG_WINDOW_MIN_MS` and `_MAX_US` of kernel/sched/psi.c allow.
const WINDOW: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Window of a rule that names none.
const USUAL_WINDOW: Duration = Duration::from_secs(1);
/// How long it must be calm when a rule does not say.
const USUAL_CALM: Duration = Duration::from_secs(10);
/// Range of `restore_after`: below a window the class would be lifted while the stall lasts.
const CALM: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
/// No machine has more CPUs (`CONFIG_NR_CPUS` of x86-64 is at most 8192).
const CPUS_MAX: f64 = 8192.0;
/// A shortest stall: a hundredth of the smallest window.
const STALL_MIN: Duration = Duration::from_millis(5);

/// The keys of the policy, taken out of the file.
pub(super) struct RawPolicy {
    reserve_cpus: Option<At<f64>>,
    reserve_memory: Option<At<super::at::Quantity>>,
    pressure: Vec<At<RawPressure>>,
}

impl RawPolicy {
    /// Takes them.
    pub(super) fn take(raw: &mut RawConfig) -> Self {
        Self {
            reserve_cpus: raw.reserve_cpus.take(),
            reserve_memory: raw.reserve_memory.take(),
            pressure: raw.pressure.take().unwrap_or_default(),
        }
    }

    /// Checks them; classes must be those of the rules.
    pub(super) fn lower(self, rules: &RuleSet, problems: &mut Problems) -> NodePolicy {
        let reserve = Reserve {
            milli_cpus: milli_cpus(self.reserve_cpus.as_ref(), problems),
            memory: memory(self.reserve_memory.as_ref(), problems),
        };
        let mut classes: BTreeSet<&str> = rules.rules().iter().map(|rule| rule.class.as_str()).collect();
        classes.insert(Rule::DEFAULT_CLASS);
        let mut pressure: Vec<PressureRule> = Vec::new();
        for (index, at) in self.pressure.iter().enumerate() {
            let mut place = Place {
                path: format!("pressure[{index}]"),
                classes: &classes,
                problems,
            };
            let Some(rule) = place.rule(at, index) else {
                continue;
            };
            if pressure.iter().any(|known| known.name == rule.name) {
                let text = format!("the name \"{}\" is used twice; choose another", rule.name);
                problems.add(at, &format!("pressure[{index}]"), text);
            }
            pressure.push(rule);
        }
        NodePolicy { reserve, pressure }
    }
}

fn milli_cpus(at: Option<&At<f64>>, problems: &mut Problems) -> Option<u32> {
    let at = at?;
    if !(0.0..=CPUS_MAX).contains(&at.value) {
        let text = format!(
            "{} is not possible; write how many CPUs to leave free, such as 1 or 0.5",
            at.value
        );
        problems.add(at, "reserve_cpus", text);
        return None;
    }
    let milli = (at.value * 1000.0).round();
    // Between 0 and 8,192,000 by the test above.
    (milli >= 1.0).then_some(milli as u32)
}

fn memory(at: Option<&At<super::at::Quantity>>, problems: &mut Problems) -> Option<u64> {
    let at = at?;
    match limits::bytes(&at.value, limits::MIB) {
        Some(0) => None,
        Some(bytes) => Some(bytes),
        None => {
            let text = format!(
                "{} is not possible; write MiB, or a size such as 2GiB, or 0 for none",
                at.value
            );
            problems.add(at, "reserve_memory", text);
            None
        }
    }
}

/// One entry of `pressure` while it is looked at.
struct Place<'a> {
    path: String,
    classes: &'a BTreeSet<&'a str>,
    problems: &'a mut Problems,
}

impl Place<'_> {
    fn missing<T, U>(&mut self, value: Option<U>, at: &At<T>, key: &str, write: &str) -> Option<U> {
        if value.is_none() {
            let text = format!("has no {key}; write {write}");
            self.problems.add(at, &self.path, text);
        }
        value
    }

    fn rule(&mut self, at: &At<RawPressure>, index: usize) -> Option<PressureRule> {
        let raw = &at.value;
        let name = match &raw.name {
            Some(name) => lower::label(name, &format!("{}.name", self.path), self.problems),
            None => format!("pressure-{}", index + 1),
        };
        let raw_watch = self.missing(
            raw.watch.as_ref(),
            at,
            "watch",
            "watch: {class: live, resource: cpu, stall: 150ms}",
        );
        let raw_lower = self.missing(
            raw.lower.as_ref(),
            at,
            "lower",
            "lower: {class: batch, cpu_weight: 10}",
        );
        let (raw_watch, raw_lower) = (raw_watch?, raw_lower?);
        // Both are looked at before either ends this, so that every fault is told at once.
        let (watch, lowered) = (self.watch(at, raw_watch), self.lower(at, raw_lower));
        let key = format!("{}.restore_after", self.path);
        let calm = between(raw.restore_after.as_ref(), &key, CALM, self.problems).unwrap_or(USUAL_CALM);
        let (watch, (class, limits)) = (watch?, lowered?);
        if watch.class.as_ref() == Some(&class) {
            let text = format!("class \"{class}\" would be lowered because it stalls; watch another");
            self.problems.add(at, &self.path, text);
        }
        if let Some(at) = raw.restore_after.as_ref()
            && calm.as_micros() < u128::from(watch.window_us)
        {
            let text = "is shorter than the window, so that the class would be lifted while the stall lasts";
            self.problems.add(at, &key, text);
        }
        Some(PressureRule {
            name,
            watch,
            class,
            limits,
            restore_after_ns: u64::try_from(calm.as_nanos()).unwrap_or(u64::MAX),
        })
    }

    fn watch(&mut self, at: &At<RawPressure>, raw: &RawWatch) -> Option<Watch> {
        let path = self.path.clone();
        let resource = self.missing(raw.resource, at, "watch.resource", "resource: cpu, memory or io");
        let stall = self.missing(
            raw.stall.as_ref(),
            at,
            "watch.stall",
            "stall: 150ms, for instance",
        );
        let class = raw.class.as_ref().map(|class| self.class(class, "watch.class"));
        let key = format!("{path}.watch.window");
        let window = between(raw.window.as_ref(), &key, WINDOW, self.problems).unwrap_or(USUAL_WINDOW);
        let key = format!("{path}.watch.stall");
        let (resource, stall) = (resource?, stall?);
        let range = (STALL_MIN, window);
        let stall = between(Some(stall), &key, range, self.problems)?;
        Some(Watch {
            class,
            resource,
            share: raw.share.unwrap_or_default(),
            stall_us: u64::try_from(stall.as_micros()).unwrap_or(u64::MAX),
            window_us: u64::try_from(window.as_micros()).unwrap_or(u64::MAX),
        })
    }

    fn lower(&mut self, at: &At<RawPressure>, raw: &RawLower) -> Option<(String, Limits)> {
        let class = self.missing(
            raw.class.as_ref(),
            at,
            "lower.class",
            "class: batch, for instance",
        );
        let class = class.map(|class| self.class(class, "lower.class"));
        let stated = RawLimits {
            cpu_quota: raw.cpu_quota.clone(),
            cpu_weight: raw.cpu_weight.clone(),
            io_weight: raw.io_weight.clone(),
            ..RawLimits::default()
        };
        let limits = limits::lower(Some(&stated), &format!("{}.lower", self.path), self.problems).alone();
        let asked = raw.cpu_quota.is_some() || raw.cpu_weight.is_some() || raw.io_weight.is_some();
        let given = asked.then_some(());
        self.missing(
            given,
            at,
            "limit to lower",
            "one of cpu_quota, cpu_weight, io_weight",
        )?;
        for (key, at) in [("cpu_quota", &raw.cpu_quota), ("io_weight", &raw.io_weight)] {
            if let Some(at) = at.as_ref().filter(|at| at.value == 0) {
                let text = "0 is no limit, which would lower nothing; write 1 or more";
                self.problems.add(at, &format!("{}.lower.{key}", self.path), text);
            }
        }
        Some((class?, limits))
    }

    /// A class that no rule names is a typing error more often than a plan.
    fn class(&mut self, at: &At<String>, key: &str) -> String {
        if !self.classes.contains(at.value.as_str()) {
            let known: Vec<&str> = self.classes.iter().copied().collect();
            let text = format!(
                "\"{}\" is the class of no rule; the rules have {}",
                at.value,
                known.join(", ")
            );
            self.problems.add(at, &format!("{}.{key}", self.path), text);
        }
        at.value.clone()
    }
}
