//! Stories of single jobs, told as events and the effects they must have. Tests only.

mod breach;
mod end;
mod foreign;
mod life;
mod request;
mod unit;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{JobId, LimitOutcome, Limits};

use super::event::{
    Effect, Event, ForeignMove, GroupUsage, Killer, PlaceOrder, Placement, Whereabouts, Whom,
};
use super::facts::{Found, ProcessFacts};
use super::fixture::{
    TestRules, action, attach_request, exit, facts, limits, placed, restoring, settings, sums,
};
use super::rule::{PlacementMode, RuleSet};
use super::{Governor, SIGKILL, SIGTERM};
use crate::control::types::{ErrorCode, Happened, JobView, ReleaseRequest};

const MS: u64 = 1_000_000;

/// A governor with what it said so far.
struct Stage {
    governor: Governor,
    effects: Vec<Effect>,
}

impl Stage {
    fn new(rules: TestRules) -> Self {
        let mut governor = Governor::new(settings());
        let mut effects = Vec::new();
        governor.replace_rules(0, Box::new(rules), &mut effects);
        assert_eq!(effects, [Effect::SyncFilter]);
        effects.clear();
        Self { governor, effects }
    }

    fn ffmpeg() -> Self {
        Self::new(TestRules::governing(&["ffmpeg"], "media"))
    }

    /// Handles an event and gives its effects, one word each.
    fn at(&mut self, now_ns: u64, event: Event) -> Vec<String> {
        self.effects.clear();
        self.governor.handle(now_ns, event, &mut self.effects);
        self.effects.iter().map(word).collect()
    }

    fn view(&self, key: ProcessKey) -> JobView {
        self.governor.view(key).expect("the job is known")
    }

    fn order(&self) -> PlaceOrder {
        self.effects
            .iter()
            .find_map(|effect| match effect {
                Effect::Place(order) => Some(PlaceOrder::clone(order)),
                _ => None,
            })
            .expect("a placement was ordered")
    }
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Forget { key } => format!("forget {}", key.pid),
        Effect::Place(order) => format!("place {} {}/{}", order.key.pid, order.class, order.name),
        Effect::Retire { key } => format!("retire {}", key.pid),
        Effect::Recheck { key, moved, restore } => {
            let whether = if *restore { "restore" } else { "look" };
            format!("recheck {} {} {whether}", key.pid, moved.process.pid)
        }
        Effect::Release { key } => format!("release {}", key.pid),
        Effect::Signal { key, signal, whom } => format!("signal {} {signal} {whom:?}", key.pid),
        Effect::Save { job, closed } => {
            format!(
                "save {} {}",
                job.key.0.pid,
                if *closed { "closed" } else { "open" }
            )
        }
        Effect::DropRecord { key } => format!("drop {}", key.pid),
        Effect::Publish { what, job } => format!("publish {what:?} {}", job.state),
        Effect::SyncFilter => "sync".to_owned(),
        Effect::WatchPressure { rules } => format!("watch {} stalls", rules.len()),
        Effect::LimitClass { class, .. } => format!("limit {class}"),
        Effect::WakeAt { at_ns } => format!("wake {at_ns}"),
    }
}

fn in_group(at_ns: u64) -> Placement {
    Placement {
        groups: vec!["/sys/fs/cgroup/cpu/ffrtmp.slice/media/s1".to_owned()],
        applied: vec![LimitOutcome {
            limit: "memory_max".to_owned(),
            target: "memory.limit_in_bytes".to_owned(),
            value: "67108864".to_owned(),
        }],
        warnings: Vec::new(),
        at_ns,
        origin: None,
    }
}

fn drained(key: ProcessKey, at_ns: u64) -> Event {
    Event::Drained {
        key,
        usage: sums(),
        at_ns,
    }
}

fn retired(key: ProcessKey) -> Event {
    Event::Retired {
        key,
        group: GroupUsage {
            memory_peak: Some(63 << 20),
            throttled_ns: Some(0),
            oom_kills: Some(0),
            ..GroupUsage::default()
        },
        warnings: Vec::new(),
    }
}
