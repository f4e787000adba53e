//! The node's policy at work in the engine: the reserve is written, triggers are set, and what the kernel announces goes
//! to the core.
//!
//! Owns the triggers' descriptors and what doctor shows of them. It waits for announcements only; an average is never
//! read.

use std::collections::BTreeMap;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::watchdog::Watched;
use super::{Worker, clock};
use crate::control::types::{PolicyLine, PolicyStatus};
use crate::core::event::Event;
use crate::core::policy::{NodePolicy, overcommit, overcommit_live};
use crate::core::pressure::PressureRule;
use crate::core::rule::RuleSet;
use crate::host::policy::machine;
use crate::host::pressure::{PressureError, Trigger, because};

/// How often a trigger is set anew after its group was removed under it, before that counts as a fault. A run beside us
/// that takes an empty class away costs one.
const REARMS_MAX: u32 = 1_000;

/// A policy, weighed against the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyOrder {
    /// The policy.
    pub policy: NodePolicy,
    /// What the rules promise beyond the machine, a sentence each.
    pub overcommit: Vec<String>,
}

impl PolicyOrder {
    /// Weighs a policy and the rules beside it.
    pub fn weigh(policy: NodePolicy, rules: &RuleSet) -> Self {
        let overcommit = machine().map_or_else(Vec::new, |size| overcommit(rules, policy.reserve, size));
        Self { policy, overcommit }
    }
}

/// What the engine knows of its policy.
#[derive(Debug, Default)]
pub(super) struct PolicyState {
    order: PolicyOrder,
    reserve: Vec<PolicyLine>,
    triggers: BTreeMap<String, PolicyLine>,
    /// Tokens of the triggers that are set.
    tokens: Vec<u64>,
    rearms: u32,
}

impl Worker {
    /// Puts a policy in force in place of the one before.
    pub(super) fn set_policy(&mut self, order: PolicyOrder) {
        for sentence in &order.overcommit {
            tracing::warn!("overcommitted: {sentence}");
        }
        self.brain.host.join_always(&order.policy.controllers());
        if order.policy.reserve != self.policy.order.policy.reserve {
            self.policy.reserve = self.brain.host.reserve(order.policy.reserve, machine());
            for line in &self.policy.reserve {
                if line.in_force {
                    tracing::info!("reserve: {}", line.text);
                } else {
                    tracing::warn!("reserve: {}", line.text);
                }
            }
        }
        let pressure = order.policy.pressure.clone();
        let changed = pressure != self.policy.order.policy.pressure;
        self.policy.order = order;
        if changed {
            self.brain.feed(clock::boot_ns(), Event::PolicyReplaced(pressure));
            self.watch_pressure();
        }
    }

    /// Sets the triggers the core has asked for, and takes the old ones away.
    pub(super) fn watch_pressure(&mut self) {
        let Some(rules) = self.brain.outbox.watch_pressure.take() else {
            return;
        };
        for token in std::mem::take(&mut self.policy.tokens) {
            if let Some(Watched::Pressure(_, trigger)) = self.watchdog.take(token) {
                self.forget(&trigger);
            }
        }
        self.policy.triggers.clear();
        for rule in rules {
            self.arm(rule);
        }
    }

    fn arm(&mut self, rule: PressureRule) {
        let name = rule.name.clone();
        let line = match self.set_trigger(rule) {
            Ok(text) => {
                tracing::info!("pressure rule `{name}`: {text}");
                PolicyLine { in_force: true, text }
            }
            Err(error) => {
                let text = because(&error);
                tracing::warn!("pressure rule `{name}` lowers nothing: {text}");
                PolicyLine {
                    in_force: false,
                    text,
                }
            }
        };
        self.policy.triggers.insert(name, line);
    }

    fn set_trigger(&mut self, rule: PressureRule) -> Result<String, PressureError> {
        let group = match &rule.watch.class {
            None => None,
            Some(class) => {
                let made = self.brain.host.v2_class(class);
                let class = || class.clone();
                match made.map_err(|source| PressureError::Group {
                    class: class(),
                    source,
                })? {
                    Some(group) => Some(group),
                    None => return Err(PressureError::NoGroup { class: class() }),
                }
            }
        };
        let trigger = Trigger::set(&rule.watch, group.as_deref())?;
        let text = trigger.describe(&rule.watch);
        let token = self.watchdog.next_token();
        let announced = EpollEvent::new(EpollFlags::EPOLLPRI, token);
        self.epoll
            .add(&trigger, announced)
            .map_err(|errno| PressureError::Wait {
                path: trigger.path.clone(),
                source: errno.into(),
            })?;
        self.watchdog.add(Watched::Pressure(Box::new(rule), trigger));
        self.policy.tokens.push(token);
        Ok(text)
    }

    /// The kernel announced a stall, or that the group of a trigger is gone.
    pub(super) fn on_pressure(
        &mut self,
        token: u64,
        rule: Box<PressureRule>,
        trigger: Trigger,
        what: EpollFlags,
    ) {
        if !what.contains(EpollFlags::EPOLLERR) {
            let name = rule.name.clone();
            self.watchdog.put_back(token, Watched::Pressure(rule, trigger));
            self.brain
                .feed(clock::boot_ns(), Event::PressureRose { rule: name });
            return;
        }
        // An engine beside us (`ffrtmp run` without the daemon) has taken the empty class away.
        self.forget(&trigger);
        self.policy.tokens.retain(|known| *known != token);
        self.policy.rearms += 1;
        if self.policy.rearms <= REARMS_MAX {
            self.arm(*rule);
        } else {
            let text = "its group is removed again and again; restart the governor when that has ended";
            tracing::error!("pressure rule `{}` lowers nothing any more: {text}", rule.name);
            let line = PolicyLine {
                in_force: false,
                text: text.to_owned(),
            };
            self.policy.triggers.insert(rule.name.clone(), line);
        }
    }

    /// What doctor and ps show.
    pub(super) fn policy_status(&self) -> PolicyStatus {
        let mut pressure = self.brain.core.pressure_status(clock::boot_ns());
        for one in &mut pressure {
            one.trigger = self.policy.triggers.get(&one.rule).cloned();
        }
        let reserve = self.policy.order.policy.reserve;
        let live = self.brain.core.asked_of_live();
        let mut overcommit = self.policy.order.overcommit.clone();
        overcommit.extend(machine().map_or_else(Vec::new, |size| overcommit_live(&live, reserve, size)));
        PolicyStatus {
            reserve: self.policy.reserve.clone(),
            pressure,
            overcommit,
        }
    }
}
