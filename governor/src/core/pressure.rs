//! Pressure rules: one class is lowered while another stalls, and lifted again when it has been calm for a while.
//!
//! Owns the decision and the deadline of the way back. It neither measures pressure (the kernel announces it) nor writes
//! a limit; a class that several rules lower gets the tightest of what they say.

use std::collections::{BTreeMap, BTreeSet};

use ffrtmp_api::{CpuMax, LimitOutcome, Limits};
use serde::{Deserialize, Serialize};

use super::Governor;
use super::event::Effect;
use crate::control::types::PressureStatus;

/// What stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Runnable tasks that wait for a CPU.
    Cpu,
    /// Tasks that wait for memory to be reclaimed or read back.
    Memory,
    /// Tasks that wait for a disk.
    Io,
}

impl Resource {
    /// Name of its file, without the group's prefix or suffix.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// Whose stalls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Time in which at least one task waited.
    #[default]
    Some,
    /// Time in which every task that could have run waited.
    Full,
}

impl Share {
    /// As the kernel writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Some => "some",
            Self::Full => "full",
        }
    }
}

/// What is watched: a stall of `stall_us` within `window_us`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Class; `None` watches the whole machine.
    pub class: Option<String>,
    /// What it waits for.
    pub resource: Resource,
    /// Whose waiting counts.
    pub share: Share,
    /// Stalled time that is too much, µs.
    pub stall_us: u64,
    /// In how long a time, µs.
    pub window_us: u64,
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = match &self.class {
            Some(class) => format!("class {class}"),
            None => "the machine".to_owned(),
        };
        let (share, resource) = (self.share.word(), self.resource.word());
        let (stall, window) = (self.stall_us / 1000, self.window_us / 1000);
        write!(f, "{who}: {resource} {share} {stall} ms in {window} ms")
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PressureRule {
    /// Name for messages.
    pub name: String,
    /// What is watched.
    pub watch: Watch,
    /// Class that is lowered.
    pub class: String,
    /// What it gets as a whole meanwhile: CPU quota and weights.
    pub limits: Limits,
    /// How long it must have been calm before the class is lifted again, ns.
    pub restore_after_ns: u64,
}

/// What became of writing the limits of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassOutcome {
    /// In force, read back.
    pub applied: Vec<LimitOutcome>,
    /// Not in force, with the reason.
    pub warnings: Vec<String>,
}

/// One rule at work.
#[derive(Debug)]
struct Watched {
    rule: PressureRule,
    /// Until when its class stays lowered unless the pressure rises again; boot-time clock, ns.
    until_ns: Option<u64>,
    /// How often it rose.
    rises: u64,
}

/// Every rule, and what the classes were given.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    watched: Vec<Watched>,
    outcomes: BTreeMap<String, ClassOutcome>,
}

impl Pressure {
    /// When the next class may be lifted.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.watched.iter().filter_map(|one| one.until_ns).min()
    }

    /// What a class must have now: the tightest of every rule that lowers it, or nothing.
    fn limits_of(&self, class: &str) -> Limits {
        self.watched
            .iter()
            .filter(|one| one.rule.class == class && one.until_ns.is_some())
            .fold(Limits::default(), |sum, one| tighter(&sum, &one.rule.limits))
    }

    fn lowered_classes(&self) -> BTreeSet<String> {
        let lowered = self.watched.iter().filter(|one| one.until_ns.is_some());
        lowered.map(|one| one.rule.class.clone()).collect()
    }
}

impl Governor {
    /// Other rules take the place of those in force. Classes that the old ones lowered are lifted at once: the new
    /// ones are told of pressure that lasts within a window.
    pub(super) fn on_policy_replaced(
        &mut self,
        now_ns: u64,
        rules: Vec<PressureRule>,
        effects: &mut Vec<Effect>,
    ) {
        for class in self.pressure.lowered_classes() {
            self.lift(now_ns, class, effects);
        }
        self.pressure.watched = rules
            .iter()
            .map(|rule| Watched {
                rule: rule.clone(),
                until_ns: None,
                rises: 0,
            })
            .collect();
        effects.push(Effect::WatchPressure { rules });
    }

    /// The kernel says that a rule's stall was reached. While it lasts the kernel says so once a window, and each time
    /// the way back is put off.
    pub(super) fn on_pressure_rose(&mut self, now_ns: u64, name: &str, effects: &mut Vec<Effect>) {
        let Some(one) = self.pressure.watched.iter_mut().find(|one| one.rule.name == name) else {
            self.strays += 1;
            return;
        };
        one.rises += 1;
        let until_ns = now_ns.saturating_add(one.rule.restore_after_ns);
        let first = one.until_ns.replace(until_ns).is_none();
        if !first {
            return;
        }
        let class = one.rule.class.clone();
        let why = format!(
            "class {class} lowered by pressure rule `{name}` ({})",
            one.rule.watch
        );
        self.note_class(now_ns, &class, &why);
        let limits = self.pressure.limits_of(&class);
        effects.push(Effect::LimitClass { class, limits });
    }

    /// Lifts what has been calm long enough.
    pub(super) fn lift_calm_classes(&mut self, now_ns: u64, effects: &mut Vec<Effect>) {
        let mut classes = BTreeSet::new();
        for one in &mut self.pressure.watched {
            if one.until_ns.is_some_and(|until_ns| until_ns <= now_ns) {
                one.until_ns = None;
                classes.insert(one.rule.class.clone());
            }
        }
        for class in classes {
            let limits = self.pressure.limits_of(&class);
            if limits == Limits::default() {
                self.lift(now_ns, class, effects);
            } else {
                effects.push(Effect::LimitClass { class, limits });
            }
        }
    }

    fn lift(&mut self, now_ns: u64, class: String, effects: &mut Vec<Effect>) {
        self.note_class(now_ns, &class, &format!("class {class} lifted again"));
        effects.push(Effect::LimitClass {
            class,
            limits: Limits::default(),
        });
    }

    /// The host has written, or given back, the limits of a class.
    pub(super) fn on_class_limited(&mut self, class: String, outcome: ClassOutcome) {
        self.pressure.outcomes.insert(class, outcome);
    }

    fn note_class(&mut self, now_ns: u64, class: &str, what: &str) {
        for job in self.jobs.values_mut().filter(|job| job.class == class) {
            job.note(now_ns, what);
        }
    }

    /// Each pressure rule and what it does; whether the kernel tells of its stall is the host's to say.
    pub fn pressure_status(&self, now_ns: u64) -> Vec<PressureStatus> {
        let status = |one: &Watched| {
            let outcome = self
                .pressure
                .outcomes
                .get(&one.rule.class)
                .cloned()
                .unwrap_or_default();
            PressureStatus {
                rule: one.rule.name.clone(),
                watches: one.rule.watch.to_string(),
                lowers: one.rule.class.clone(),
                lowered: one.until_ns.is_some(),
                restore_in_ms: one
                    .until_ns
                    .map(|until_ns| until_ns.saturating_sub(now_ns) / 1_000_000),
                rises: one.rises,
                applied: outcome.applied,
                warnings: outcome.warnings,
                trigger: None,
            }
        };
        self.pressure.watched.iter().map(status).collect()
    }
}

/// The tighter of both in each of the limits a class may have.
fn tighter(one: &Limits, other: &Limits) -> Limits {
    let least = |one: Option<u32>, other: Option<u32>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    Limits {
        cpu_max: match (one.cpu_max, other.cpu_max) {
            (Some(one), Some(other)) => Some(lower_rate(one, other)),
            (one, other) => one.or(other),
        },
        cpu_weight: least(one.cpu_weight, other.cpu_weight),
        io_weight: least(one.io_weight, other.io_weight),
        ..Limits::default()
    }
}

/// Compared without division.
fn lower_rate(one: CpuMax, other: CpuMax) -> CpuMax {
    let scaled = |max: CpuMax, period: u64| {
        max.quota_us
            .map_or(u128::MAX, |quota| u128::from(quota) * u128::from(period))
    };
    if scaled(one, other.period_us) <= scaled(other, one.period_us) {
        one
    } else {
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::CoreSettings;
    use crate::core::event::Event;

    const SECOND: u64 = 1_000_000_000;

    fn rule(name: &str, class: &str, percent: u32, weight: u32) -> PressureRule {
        PressureRule {
            name: name.to_owned(),
            watch: Watch {
                class: Some("live".to_owned()),
                resource: Resource::Cpu,
                share: Share::Some,
                stall_us: 150_000,
                window_us: 1_000_000,
            },
            class: class.to_owned(),
            limits: Limits {
                cpu_max: CpuMax::from_percent(percent),
                cpu_weight: Some(weight),
                ..Limits::default()
            },
            restore_after_ns: 10 * SECOND,
        }
    }

    struct Desk {
        core: Governor,
        effects: Vec<Effect>,
    }

    impl Desk {
        fn with(rules: Vec<PressureRule>) -> Self {
            let core = Governor::new(CoreSettings::new("kernel", jiff::Timestamp::UNIX_EPOCH));
            let mut desk = Self {
                core,
                effects: Vec::new(),
            };
            desk.tell(0, Event::PolicyReplaced(rules));
            assert!(matches!(desk.effects[0], Effect::WatchPressure { .. }));
            desk
        }

        fn tell(&mut self, at: u64, event: Event) {
            self.effects.clear();
            self.core.handle(at, event, &mut self.effects);
        }

        fn rose(&mut self, at: u64, rule: &str) {
            let rule = rule.to_owned();
            self.tell(at, Event::PressureRose { rule });
        }

        fn limited(&self) -> Vec<(String, Option<CpuMax>, Option<u32>)> {
            self.effects
                .iter()
                .filter_map(|effect| match effect {
                    Effect::LimitClass { class, limits } => {
                        Some((class.clone(), limits.cpu_max, limits.cpu_weight))
                    }
                    _ => None,
                })
                .collect()
        }

        fn wake(&self) -> Option<u64> {
            self.effects.iter().find_map(|effect| match effect {
                Effect::WakeAt { at_ns } => Some(*at_ns),
                _ => None,
            })
        }
    }

    fn batch(percent: u32, weight: Option<u32>) -> Vec<(String, Option<CpuMax>, Option<u32>)> {
        vec![("batch".to_owned(), CpuMax::from_percent(percent), weight)]
    }

    #[test]
    fn a_class_is_lowered_once_and_lifted_after_the_last_rise_has_been_calm() {
        let mut desk = Desk::with(vec![rule("a", "batch", 50, 10)]);
        desk.rose(SECOND, "a");
        assert_eq!(desk.limited(), batch(50, Some(10)));
        assert_eq!(desk.wake(), Some(11 * SECOND));
        desk.rose(5 * SECOND, "a");
        assert_eq!(desk.limited(), [], "it is lowered already");
        assert_eq!(
            desk.core.pressure_status(5 * SECOND)[0].restore_in_ms,
            Some(10_000)
        );
        desk.tell(11 * SECOND, Event::DeadlinePassed);
        assert_eq!(desk.limited(), [], "it rose again meanwhile");
        assert_eq!(desk.wake(), Some(15 * SECOND));
        desk.tell(15 * SECOND, Event::DeadlinePassed);
        assert_eq!(desk.limited(), batch(0, None));
        assert_eq!(desk.wake(), None);
        let status = &desk.core.pressure_status(15 * SECOND)[0];
        assert_eq!(
            (status.lowered, status.rises, status.restore_in_ms),
            (false, 2, None)
        );
    }

    #[test]
    fn a_class_that_two_rules_lower_has_the_tightest_of_both_until_the_last_is_calm() {
        let mut desk = Desk::with(vec![rule("a", "batch", 50, 10), rule("b", "batch", 80, 5)]);
        desk.rose(0, "a");
        desk.rose(4 * SECOND, "b");
        assert_eq!(desk.limited(), batch(50, Some(5)));
        desk.tell(10 * SECOND, Event::DeadlinePassed);
        assert_eq!(desk.limited(), batch(80, Some(5)));
        desk.tell(14 * SECOND, Event::DeadlinePassed);
        assert_eq!(desk.limited(), batch(0, None));
    }

    #[test]
    fn other_rules_lift_what_the_old_ones_lowered() {
        let mut desk = Desk::with(vec![rule("a", "batch", 50, 10)]);
        desk.rose(0, "a");
        desk.tell(SECOND, Event::PolicyReplaced(Vec::new()));
        assert_eq!(desk.limited(), batch(0, None));
        assert_eq!(desk.core.pressure_status(SECOND), []);
        desk.rose(SECOND, "a");
        assert_eq!(desk.limited(), []);
        assert_eq!(desk.core.strays(), 1, "a late word of an old rule does nothing");
    }

    #[test]
    fn what_the_host_could_not_write_is_in_the_status() {
        let mut desk = Desk::with(vec![rule("a", "batch", 50, 10)]);
        desk.rose(0, "a");
        let outcome = ClassOutcome {
            applied: Vec::new(),
            warnings: vec!["cpu_max is not enforced: no".to_owned()],
        };
        desk.tell(
            1,
            Event::ClassLimited {
                class: "batch".to_owned(),
                outcome,
            },
        );
        let status = &desk.core.pressure_status(1)[0];
        assert_eq!(status.warnings, ["cpu_max is not enforced: no"]);
        assert_eq!(status.watches, "class live: cpu some 150 ms in 1000 ms");
    }

    #[test]
    fn the_lower_rate_is_found_over_different_periods() {
        let max = |quota, period_us| CpuMax {
            quota_us: quota,
            period_us,
        };
        let half = max(Some(50_000), 100_000);
        assert_eq!(
            lower_rate(half, max(Some(4_000), 10_000)),
            max(Some(4_000), 10_000)
        );
        assert_eq!(lower_rate(max(None, 100_000), half), half);
    }
}
