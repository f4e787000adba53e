//! What processes do: they appear, execute, are moved, end. Reactors of [`Governor`], one an event.
//!
//! Kernel events may come twice, late, or in the wrong order; each reactor takes what is new in one and drops the rest.

use std::collections::BTreeSet;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{ExitReason, Intent, JobId, Limits};

use super::deadline::{Due, ended_young};
use super::event::{Effect, ExitFacts, KernelUsage, Placement};
use super::explain::appearance;
use super::facts::{Found, ProcessFacts};
use super::foreign::Patience;
use super::job::{State, Trigger};
use super::observe;
use super::record::{Job, Notes};
use super::redact::{Redactor, harmless};
use super::rule::{Action, Decision, OnForeignMove, PlacementMode};
use super::{Early, Governor, Ignored, exit};
use crate::control::types::Happened;

/// What a job is opened with: a rule's action or somebody's request.
pub(super) struct Opening {
    pub(super) id: JobId,
    pub(super) rule: Option<String>,
    pub(super) class: String,
    pub(super) limits: Limits,
    pub(super) placement: Option<PlacementMode>,
    pub(super) intent: Intent,
    pub(super) sla_eligible: bool,
    pub(super) on_foreign_move: OnForeignMove,
    /// Arguments, where the request knows them better than the process does.
    pub(super) command: Option<Vec<String>>,
}

impl Governor {
    /// A process that is known already is left as it is: a resync tells of every record again. One whose record is on
    /// disk is only dropped once more, because the earlier order may have been lost with a restart of the host.
    pub(super) fn on_appeared(&mut self, now_ns: u64, facts: ProcessFacts, effects: &mut Vec<Effect>) {
        let key = facts.key;
        if self.jobs.contains_key(&key) {
            return;
        }
        if self.closed.get(key).is_some() {
            effects.push(Effect::DropRecord { key });
            return;
        }
        if self.ignored.get(key).is_some_and(|ignored| ignored.ended) {
            self.strays += 1;
            effects.push(Effect::Forget { key });
            return;
        }
        self.judge(now_ns, facts, effects);
    }

    /// Asks the rules and does as they say.
    pub(super) fn judge(&mut self, now_ns: u64, facts: ProcessFacts, effects: &mut Vec<Effect>) {
        let key = facts.key;
        let age_ns = now_ns.saturating_sub(facts.started_ns);
        self.waiting.remove(&key);
        self.deadlines.clear(key);
        match self.rules.decide(&facts, age_ns / 1_000_000) {
            Decision::Govern(action) => self.govern(now_ns, &facts, action, effects),
            Decision::Ignore { why } => self.ignore(now_ns, &facts, why, effects),
            Decision::Later { age_ms } => {
                let at_ns = facts.started_ns.saturating_add(age_ms.saturating_mul(1_000_000));
                if self.early.get(key).is_some() {
                    self.ignore(now_ns, &facts, ended_young(age_ms), effects);
                } else if now_ns < at_ns {
                    self.ignored.remove(key);
                    self.deadlines.set(key, at_ns, Due::Judge);
                    self.waiting.insert(key, facts);
                } else {
                    // Waiting for an age that has passed would wake us without end.
                    let why = format!("a rule waits for the age of {age_ms} ms, which has passed");
                    self.ignore(now_ns, &facts, why, effects);
                }
            }
        }
    }

    fn ignore(&mut self, now_ns: u64, facts: &ProcessFacts, why: String, effects: &mut Vec<Effect>) {
        let ended = self.early.remove(facts.key).is_some();
        let ignored = Ignored {
            appearance: appearance(facts),
            why,
            judged_us: now_ns.saturating_sub(facts.started_ns) / 1_000,
            ended,
        };
        self.ignored.insert(facts.key, ignored);
        effects.push(Effect::Forget { key: facts.key });
    }

    fn govern(&mut self, now_ns: u64, facts: &ProcessFacts, action: Action, effects: &mut Vec<Effect>) {
        let opening = Opening {
            id: self.auto_id(&facts.basename, facts.key.pid),
            rule: Some(action.rule),
            class: action.class,
            limits: action.limits,
            placement: action.placement,
            intent: action.intent,
            sla_eligible: action.sla_eligible,
            on_foreign_move: action.on_foreign_move,
            command: None,
        };
        self.open(now_ns, facts, opening, effects);
        self.discovered += 1;
        self.publish(facts.key, Happened::Discovered, effects);
        self.replay_end(now_ns, facts.key, effects);
    }

    /// `auto-COMMAND-PID`; a number follows when the pid was reused while children of its earlier owner live on.
    pub(super) fn auto_id(&self, basename: &str, pid: u32) -> JobId {
        let plain = JobId::auto(basename, pid);
        let mut id = plain.clone();
        let mut number = 2_u32;
        while self.ids.contains_key(&id) {
            match JobId::parse(&format!("{plain}-{number}")) {
                Ok(next) => id = next,
                Err(_too_long) => return JobId::unknown(),
            }
            number = number.saturating_add(1);
        }
        id
    }

    /// Makes a job of a process and orders its placement. The order comes first among the effects, because the
    /// microseconds until the limits hold are what counts.
    pub(super) fn open(
        &mut self,
        now_ns: u64,
        facts: &ProcessFacts,
        opening: Opening,
        effects: &mut Vec<Effect>,
    ) {
        let key = facts.key;
        let mut job = new_job(now_ns, facts, opening, &self.settings.redactor);
        job.note(job.origin_ns, appearance(facts));
        if let Some(rule) = &job.rule {
            let matched = format!("rule `{rule}` matched: class `{}`", job.class);
            job.note(now_ns, matched);
        }
        self.place_by_unit(now_ns, &mut job, facts);
        self.adopt(job);
        self.order_placement(now_ns, key, facts.container.as_deref(), effects);
    }

    /// Takes a job into the books.
    pub(super) fn adopt(&mut self, job: Job) {
        self.ignored.remove(job.key);
        if job.id != JobId::unknown() {
            self.ids.insert(job.id.clone(), job.key);
        }
        self.jobs.insert(job.key, job);
    }

    /// Gives a job that was just opened the end that arrived before it did.
    pub(super) fn replay_end(&mut self, now_ns: u64, key: ProcessKey, effects: &mut Vec<Effect>) {
        let Some(early) = self.early.remove(key) else {
            return;
        };
        if let Some((exit, live)) = early.exit {
            self.on_exited(now_ns, key, exit, live, effects);
        }
        if let Some((usage, at_ns)) = early.drain {
            self.on_drained(now_ns, key, usage, at_ns, effects);
        }
    }

    pub(super) fn on_reexeced(
        &mut self,
        now_ns: u64,
        root: ProcessKey,
        facts: ProcessFacts,
        effects: &mut Vec<Effect>,
    ) {
        if self.waiting.contains_key(&root) {
            // Another image may be one no rule wants, or one a rule wants at once. Children are not judged.
            if facts.key == root {
                self.judge(now_ns, facts, effects);
            }
            return;
        }
        let command = facts.argv.as_ref().map(|argv| self.settings.redactor.clean(argv));
        let Some(job) = self.advanced(root, Trigger::Reexeced) else {
            return;
        };
        job.note(
            facts.started_ns,
            format!("pid {} executed {}", facts.key.pid, harmless(&facts.filename)),
        );
        if facts.key == root && job.found == Found::Run && !job.launched {
            job.launched = true;
            job.started_ns = facts.started_ns;
            job.command = command.or(job.command.take());
        }
    }

    pub(super) fn on_exited(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        exit: ExitFacts,
        live: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&key) else {
            self.on_unknown_end(now_ns, key, effects, |early| early.exit = Some((exit, live)));
            return;
        };
        let known = job.exit.as_ref();
        let first = known.is_none();
        let better = known.is_none_or(|known| known.status.is_none() && exit.status.is_some());
        if !job.advance(Trigger::Exited) || !better {
            self.strays += 1;
            return;
        }
        if !job.drained {
            job.usage = exit.usage;
            job.live = live;
        }
        let at_ns = exit.at_ns;
        if let Some(handled) = exit::handled(&exit) {
            job.note(at_ns, handled);
        }
        job.exit = Some(exit);
        let word = job.reason().map_or("", |reason| reason.word());
        job.note(at_ns, format!("ended: {word}; {live} processes of it live on"));
        if live == 0 {
            self.deadlines.clear(key);
        }
        let oom = matches!(job.reason(), Some(ExitReason::Oom { .. }));
        if first {
            self.publish(key, Happened::Exited, effects);
            if oom {
                self.publish(key, Happened::Oom, effects);
            }
        }
    }

    /// An exit that was lost does not hold the job back: it is closed as unobserved, and a later one still corrects it.
    pub(super) fn on_drained(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        usage: KernelUsage,
        at_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        if !self.jobs.contains_key(&key) {
            self.on_unknown_end(now_ns, key, effects, |early| early.drain = Some((usage, at_ns)));
            return;
        }
        let Some(job) = self.advanced(key, Trigger::Drained) else {
            return;
        };
        let exit_lost = job.exit.is_none();
        if exit_lost {
            job.exit = Some(ExitFacts {
                at_ns,
                unobserved: Some("the end of its first process was not told".to_owned()),
                ..ExitFacts::default()
            });
        }
        job.drained = true;
        job.live = 0;
        job.usage = usage;
        job.note(at_ns, "its last process ended");
        self.deadlines.clear(key);
        effects.push(Effect::Retire { key });
        if exit_lost {
            self.publish(key, Happened::Exited, effects);
        }
    }

    /// The end of a process that is no job: one that waited for an age is let go, one that was never told of is
    /// remembered, and for the rest the record has been judged already.
    fn on_unknown_end(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        effects: &mut Vec<Effect>,
        remember: impl FnOnce(&mut Early),
    ) {
        if let Some(ignored) = self.ignored.get_mut(key) {
            ignored.ended = true;
            self.strays += 1;
            return;
        }
        if self.closed.get(key).is_some() {
            self.strays += 1;
            return;
        }
        let mut early = self.early.remove(key).unwrap_or_default();
        remember(&mut early);
        self.early.insert(key, early);
        if let Some(facts) = self.waiting.remove(&key) {
            let asked_ns = self.deadlines.of(key).unwrap_or(now_ns);
            let age_ms = asked_ns.saturating_sub(facts.started_ns) / 1_000_000;
            self.deadlines.clear(key);
            self.ignore(now_ns, &facts, ended_young(age_ms), effects);
        }
    }
}

pub(super) fn new_job(now_ns: u64, facts: &ProcessFacts, opening: Opening, redactor: &Redactor) -> Job {
    Job {
        key: facts.key,
        found: facts.found,
        uid: facts.uid,
        id: opening.id,
        command: opening
            .command
            .as_ref()
            .or(facts.argv.as_ref())
            .map(|argv| redactor.clean(argv)),
        started_ns: facts.started_ns,
        origin_ns: match facts.found {
            Found::Exec => facts.started_ns,
            Found::Adopted | Found::Attach | Found::Run => now_ns,
        },
        rule: opening.rule,
        class: opening.class,
        limits: opening.limits,
        intent: opening.intent,
        sla_eligible: opening.sla_eligible,
        on_foreign_move: opening.on_foreign_move,
        patience: Patience::default(),
        outside: Vec::new(),
        asked_mode: opening.placement,
        mode: observe::mode(opening.placement, facts),
        unit: None,
        inside_unit: false,
        scoped_in: BTreeSet::new(),
        state: State::New,
        placement: Placement::default(),
        not_placed: None,
        released: false,
        retries: 0,
        end_order: None,
        launched: false,
        exit: None,
        drained: false,
        live: 1,
        usage: KernelUsage::default(),
        group: None,
        breached: Vec::new(),
        warnings: Notes::default(),
        steps: Notes::default(),
    }
}
