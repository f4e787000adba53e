//! The lowest tier of `watch`: /proc is read at an interval, because nobody without privilege is told of an exec.
//! A process that lives shorter than the interval is not seen, and nobody claims so.

use std::collections::BTreeSet;

use ffrtmp_api::{Intent, JobId};
use ffrtmp_governor::control::types::{AttachRequest, Happened, JobEvent, JobKey, JobView, RequestError};
use ffrtmp_governor::core::facts::{Found, ProcessFacts};
use ffrtmp_governor::core::rule::{Action, Decision, Needs, OnForeignMove, RuleSet};
use ffrtmp_governor::host::procfs;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Plain;
use crate::backend::{Backend, EVENTS_BUFFERED, WatchOrder};

/// Who decides what is governed.
enum Judge {
    Targets(Box<WatchOrder>),
    File(RuleSet),
}

impl Judge {
    fn needs(&self) -> Needs {
        match self {
            Self::File(rules) => rules.needs(),
            Self::Targets(_) => Needs {
                namespaces: true,
                ..Needs::default()
            },
        }
    }

    fn decide(&self, facts: &ProcessFacts, age_ms: u64) -> Option<Action> {
        match self {
            Self::File(rules) => match rules.decide(facts, age_ms) {
                Decision::Govern(action) => Some(action),
                Decision::Ignore { .. } | Decision::Later { .. } => None,
            },
            Self::Targets(order) => order.targets.contains(&facts.basename).then(|| Action {
                rule: facts.basename.clone(),
                class: "watch".to_owned(),
                limits: order.limits.clone(),
                placement: None,
                intent: Intent::Production,
                sla_eligible: false,
                on_foreign_move: OnForeignMove::Accept,
            }),
        }
    }
}

/// Starts to scan; ends when the receiver is dropped.
pub(super) fn open(plain: Plain, order: WatchOrder) -> Result<mpsc::Receiver<JobEvent>, RequestError> {
    let (sender, receiver) = mpsc::channel(EVENTS_BUFFERED);
    let interval = order.scan_interval;
    let judge = if order.targets.is_empty() {
        Judge::File(crate::backend::read_rules(&order.rules, &order.origin)?)
    } else {
        Judge::Targets(Box::new(order))
    };
    tokio::spawn(async move {
        let mut known = BTreeSet::new();
        let mut ticks = tokio::time::interval(interval);
        while !sender.is_closed() {
            tokio::select! {
                _ = ticks.tick() => scan(&plain, &judge, &mut known, &sender).await,
                () = sender.closed() => return,
            }
        }
    });
    Ok(receiver)
}

async fn scan(plain: &Plain, judge: &Judge, known: &mut BTreeSet<JobKey>, events: &mpsc::Sender<JobEvent>) {
    let processes = procfs::all_processes(judge.needs());
    let alive: BTreeSet<JobKey> = processes.iter().map(|facts| JobKey(facts.key)).collect();
    known.retain(|key| alive.contains(key));
    let now = super::boot_ns();
    let mut found = Vec::new();
    for facts in processes {
        let age_ms = now.saturating_sub(facts.started_ns) / 1_000_000;
        if known.contains(&JobKey(facts.key)) || facts.key.pid == std::process::id() {
            continue;
        }
        if let Some(action) = judge.decide(&facts, age_ms) {
            known.insert(JobKey(facts.key));
            found.push((facts, action));
        }
    }
    // All discoveries are told before the first attach, so that a reader can count them.
    let mut attached = Vec::new();
    for (facts, action) in found {
        let request = request_for(&facts, action);
        if let Ok(view) = plain.attach(request).await {
            tell(events, Happened::Discovered, &view).await;
            attached.push(view);
        }
    }
    for view in attached {
        // Nothing is placed in this tier; what could be applied has been, so the job is under all the limits it gets.
        tell(events, Happened::Placed, &view).await;
        tokio::spawn(follow(plain.clone(), view, events.clone()));
    }
}

fn request_for(facts: &ProcessFacts, action: Action) -> AttachRequest {
    AttachRequest {
        pid: facts.key.pid,
        found: Found::Adopted,
        job_id: Some(JobId::auto(&facts.basename, facts.key.pid)),
        limits: action.limits,
        intent: action.intent,
        sla_eligible: action.sla_eligible,
        timeout_ms: None,
        placement: action.placement,
        command: None,
    }
}

async fn follow(plain: Plain, view: JobView, events: mpsc::Sender<JobEvent>) {
    if let Ok(ended) = plain.wait(view.key).await {
        tell(&events, Happened::Exited, &ended).await;
        tell(&events, Happened::Closed, &ended).await;
    }
}

async fn tell(events: &mpsc::Sender<JobEvent>, what: Happened, job: &JobView) {
    let event = JobEvent {
        at: Timestamp::now(),
        what,
        job: job.clone(),
    };
    // A receiver that is gone has ended its watch.
    let _ended = events.send(event).await;
}
