//! The core and the host tied together: an event goes in, its effects are performed, their answers go in again, until
//! nothing is left to do. No waiting happens here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ffrtmp_abi::ProcessKey;
use tokio::sync::mpsc;

use crate::control::types::{Happened, JobEvent, JobKey, JobView, Released, RequestError};
use crate::core::Governor;
use crate::core::event::{Effect, Event, Placement};
use crate::core::facts::Found;
use crate::core::pressure::PressureRule;
use crate::core::rule::PlacementMode;
use crate::host::{Host, NotPlaced, Retire};
use crate::metrics::Instruments;

use super::clock;
use super::handle::{Reply, SaveOrder, SaveQueue};
use super::limit::LimitOrders;

/// Everything the engine owes to others.
#[derive(Debug)]
pub struct Outbox {
    saves: SaveQueue,
    /// Records handed to the ledger's thread so far.
    pub sent: u64,
    subscribers: Vec<mpsc::Sender<JobEvent>>,
    waiters: HashMap<ProcessKey, Vec<Reply<Result<JobView, RequestError>>>>,
    /// When the core wants to be woken; boot-time clock, ns.
    pub wake_at_ns: Option<u64>,
    /// The filter must be written anew and the machine looked over.
    pub sync_filter: bool,
    /// Stalls the kernel must announce from now on.
    pub watch_pressure: Option<Vec<PressureRule>>,
    /// Jobs whose limits the kernel is to announce, and those that it need not any more.
    pub limits: LimitOrders,
    /// Groups whose last process is on its way out, with the file that tells.
    pub retiring: Vec<(ProcessKey, std::fs::File)>,
    /// What releases undid, for the one who asked.
    pub released: Vec<Released>,
    /// Events that a subscriber did not take.
    pub events_dropped: u64,
    /// Records the ledger's thread could not be given because it is gone.
    pub saves_failed: u64,
    /// Execs of jobs whose first placement is under way, boot-time clock, ns.
    fresh: HashMap<ProcessKey, u64>,
    /// What is counted by class; `None` where nobody looks.
    pub instruments: Option<Arc<Instruments>>,
}

impl Outbox {
    /// An outbox that writes to this ledger.
    pub fn new(saves: SaveQueue) -> Self {
        Self {
            saves,
            sent: 0,
            subscribers: Vec::new(),
            waiters: HashMap::new(),
            wake_at_ns: None,
            sync_filter: false,
            watch_pressure: None,
            limits: LimitOrders::default(),
            retiring: Vec::new(),
            released: Vec::new(),
            events_dropped: 0,
            saves_failed: 0,
            fresh: HashMap::new(),
            instruments: None,
        }
    }

    /// Sends this subscriber every event from now on.
    pub fn subscribe(&mut self, subscriber: mpsc::Sender<JobEvent>) {
        self.subscribers.push(subscriber);
    }

    /// Answers when the job's first process has ended.
    pub fn wait(&mut self, key: ProcessKey, reply: Reply<Result<JobView, RequestError>>) {
        self.waiters.entry(key).or_default().push(reply);
    }

    fn save(&mut self, job: Box<JobView>, closed: bool) {
        if self.saves.send(SaveOrder { job, closed }).is_err() {
            self.saves_failed += 1;
        } else {
            self.sent += 1;
        }
    }

    fn publish(&mut self, what: Happened, job: &JobView) {
        if let Some(instruments) = &self.instruments {
            instruments.count(what, &job.report.class);
        }
        // A job whose children live on is answered at the end of its first process; all others once the record is
        // complete, a moment later.
        let answer = what == Happened::Closed || (what == Happened::Exited && job.live > 0);
        if answer && let Some(waiters) = self.waiters.remove(&job.key.0) {
            for waiter in waiters {
                // The asker may have gone; then nobody needs the answer.
                let _gone = waiter.send(Ok(job.clone()));
            }
        }
        if self.subscribers.is_empty() {
            return;
        }
        let event = JobEvent {
            at: jiff::Timestamp::now(),
            what,
            job: job.clone(),
        };
        let dropped = &mut self.events_dropped;
        self.subscribers
            .retain(|subscriber| match subscriber.try_send(event.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    *dropped += 1;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            });
    }
}

/// The core, the machine and the outbox.
#[derive(Debug)]
pub struct Brain<H> {
    /// Decides.
    pub core: Governor,
    /// Does.
    pub host: H,
    /// Tells.
    pub outbox: Outbox,
}

impl<H: Host> Brain<H> {
    /// Lets the core handle an event, and everything that follows from it.
    pub fn feed(&mut self, now_ns: u64, event: Event) {
        let mut effects = Vec::new();
        self.take_in(now_ns, event, &mut effects);
        self.perform(effects);
    }

    /// Lets the core handle an event, and notes what follows from the event itself.
    fn take_in(&mut self, now_ns: u64, event: Event, effects: &mut Vec<Effect>) {
        let what = Noted::of(&event);
        self.core.handle(now_ns, event, effects);
        match what {
            Noted::Nothing => {}
            Noted::Executed { key, exec_ns } => {
                // Those that no rule took, or that wait for an age, are no job now.
                if self.observe(key, exec_ns, clock::boot_ns(), Instruments::decided) {
                    self.outbox.fresh.insert(key, exec_ns);
                }
            }
            Noted::Placed { key, at_ns } => {
                self.outbox.limits.watch(key);
                if let Some(exec_ns) = self.outbox.fresh.remove(&key) {
                    self.observe(key, exec_ns, at_ns, Instruments::placed);
                }
            }
            // A placement that is tried again says nothing of how fast we are.
            Noted::NotPlaced { key } => {
                self.outbox.fresh.remove(&key);
            }
        }
    }

    /// True when it was a job and somebody counts.
    fn observe(
        &self,
        key: ProcessKey,
        from_ns: u64,
        to_ns: u64,
        note: impl FnOnce(&Instruments, &str, u64),
    ) -> bool {
        let (Some(instruments), Some(class)) = (&self.outbox.instruments, self.core.class_of(key)) else {
            return false;
        };
        note(instruments, class, to_ns.saturating_sub(from_ns));
        true
    }

    /// Performs effects and feeds their answers back until the core is content. Answers carry the time at which they
    /// came, which for a placement is milliseconds after its order.
    pub fn perform(&mut self, effects: Vec<Effect>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            if let Some(answer) = self.perform_one(effect) {
                let mut more = Vec::new();
                self.take_in(clock::boot_ns(), answer, &mut more);
                queue.extend(more);
            }
        }
    }

    fn perform_one(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Forget { key } | Effect::DropRecord { key } => self.host.drop_record(key),
            Effect::Place(order) => {
                let answer = if order.mode == PlacementMode::Scope {
                    self.host.order_scope(&order)
                } else {
                    Some(self.host.place(&order))
                };
                return answer.map(|answer| placed(order.key, answer));
            }
            Effect::Retire { key } => {
                self.outbox.limits.forget(key);
                return match self.host.retire(key) {
                    Retire::Done { group, warnings } => Some(Event::Retired { key, group, warnings }),
                    Retire::Later(events) => {
                        self.outbox.retiring.push((key, events));
                        None
                    }
                };
            }
            Effect::Recheck { key, moved, restore } => {
                let found = self.host.recheck(key, moved.process, restore);
                return Some(Event::Rechecked { key, moved, found });
            }
            Effect::Release { key } => return Some(self.release(key)),
            Effect::Signal { key, signal, whom } => {
                if let Err(why) = self.host.signal(key, signal, whom) {
                    tracing::warn!(job = %JobKey(key), signal, why, "signal not sent");
                }
            }
            Effect::Save { job, closed } => self.outbox.save(job, closed),
            Effect::Publish { what, job } => self.outbox.publish(what, &job),
            Effect::WatchPressure { rules } => self.outbox.watch_pressure = Some(rules),
            Effect::LimitClass { class, limits } => {
                let outcome = self.host.limit_class(&class, &limits);
                let (applied, warnings) = (&outcome.applied, &outcome.warnings);
                if limits == ffrtmp_api::Limits::default() {
                    tracing::info!(class, ?warnings, "class lifted again");
                } else {
                    tracing::info!(class, ?applied, ?warnings, "class lowered under pressure");
                }
                return Some(Event::ClassLimited { class, outcome });
            }
            Effect::SyncFilter => self.outbox.sync_filter = true,
            Effect::WakeAt { at_ns } => self.outbox.wake_at_ns = Some(at_ns),
        }
        None
    }

    fn release(&mut self, key: ProcessKey) -> Event {
        self.outbox.limits.forget(key);
        let (undone, warnings) = self.host.release(key);
        if let Some(view) = self.core.view(key) {
            self.outbox.released.push(Released {
                job_id: view.report.job_id,
                pid: key.pid,
                undone: undone.clone(),
                warnings: warnings.clone(),
            });
        }
        Event::Released {
            key,
            undone,
            warnings,
        }
    }
}

/// What an event means beside the core.
enum Noted {
    Nothing,
    /// A process was told of by its exec.
    Executed {
        key: ProcessKey,
        exec_ns: u64,
    },
    /// A job sits in its group.
    Placed {
        key: ProcessKey,
        at_ns: u64,
    },
    /// It does not, or has ended.
    NotPlaced {
        key: ProcessKey,
    },
}

impl Noted {
    fn of(event: &Event) -> Self {
        match event {
            Event::Appeared(facts) if facts.found == Found::Exec => Self::Executed {
                key: facts.key,
                exec_ns: facts.started_ns,
            },
            Event::Placed { key, placement } if !placement.groups.is_empty() => Self::Placed {
                key: *key,
                at_ns: placement.at_ns,
            },
            Event::Placed { key, .. } | Event::PlaceFailed { key, .. } | Event::Retired { key, .. } => {
                Self::NotPlaced { key: *key }
            }
            _ => Self::Nothing,
        }
    }
}

/// A host's answer to a placement, as the core hears it.
pub(super) fn placed(key: ProcessKey, answer: Result<Placement, NotPlaced>) -> Event {
    match answer {
        Ok(placement) => Event::Placed { key, placement },
        Err(NotPlaced { why, placement }) => Event::PlaceFailed { key, why, placement },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use ffrtmp_api::Limits;

    use super::*;
    use crate::core::CoreSettings;
    use crate::core::event::{ExitFacts, GroupUsage, KernelUsage, PlaceOrder, Whereabouts, Whom};
    use crate::core::facts::ProcessFacts;
    use crate::core::pressure::{ClassOutcome, Resource, Share, Watch};
    use crate::core::rule::RuleSet;

    /// Writes down what it is told to do; refuses placements on demand and lets a group empty later.
    #[derive(Debug, Default)]
    struct RecordingHost {
        done: Vec<String>,
        refuse: bool,
        leaving: Option<std::fs::File>,
    }

    impl Host for RecordingHost {
        fn place(&mut self, order: &PlaceOrder) -> Result<Placement, NotPlaced> {
            self.done
                .push(format!("place {} {}/{}", order.key.pid, order.class, order.name));
            let placement = Placement {
                groups: vec!["/g".to_owned()],
                at_ns: 2_000,
                ..Placement::default()
            };
            if self.refuse {
                return Err(NotPlaced {
                    why: "refused".to_owned(),
                    placement: Placement::default(),
                });
            }
            Ok(placement)
        }

        fn order_scope(&mut self, order: &PlaceOrder) -> Option<Result<Placement, NotPlaced>> {
            self.done.push(format!("scope {}", order.key.pid));
            None
        }

        fn retire(&mut self, key: ProcessKey) -> Retire {
            self.done.push(format!("retire {}", key.pid));
            match self.leaving.take() {
                Some(events) => Retire::Later(events),
                None => Retire::Done {
                    group: GroupUsage::default(),
                    warnings: Vec::new(),
                },
            }
        }

        fn recheck(&mut self, key: ProcessKey, process: ProcessKey, restore: bool) -> Whereabouts {
            self.done
                .push(format!("recheck {} {} {restore}", key.pid, process.pid));
            Whereabouts::default()
        }

        fn release(&mut self, key: ProcessKey) -> (Vec<String>, Vec<String>) {
            self.done.push(format!("release {}", key.pid));
            (vec!["nice".to_owned()], Vec::new())
        }

        fn signal(&mut self, key: ProcessKey, signal: i32, whom: Whom) -> Result<(), String> {
            self.done.push(format!("signal {} {signal} {whom:?}", key.pid));
            Ok(())
        }

        fn limit_class(&mut self, class: &str, limits: &Limits) -> ClassOutcome {
            let limits = serde_json::to_string(limits).unwrap();
            self.done.push(format!("limit {class} {limits}"));
            ClassOutcome::default()
        }

        fn drop_record(&mut self, key: ProcessKey) {
            self.done.push(format!("drop {}", key.pid));
        }
    }

    const KEY: ProcessKey = ProcessKey::new(7, 1_000);

    fn brain() -> (Brain<RecordingHost>, Receiver<SaveOrder>) {
        let (saves, stored) = channel();
        let core = Governor::new(CoreSettings::new("kernel", jiff::Timestamp::UNIX_EPOCH));
        let mut brain = Brain {
            core,
            host: RecordingHost::default(),
            outbox: Outbox::new(saves),
        };
        let rules = RuleSet::from_targets(&["ffmpeg".to_owned()], Limits::default());
        brain.feed(0, Event::RulesReplaced(rules));
        (brain, stored)
    }

    fn appeared(name: &str) -> Event {
        Event::Appeared(ProcessFacts {
            key: KEY,
            found: Found::Exec,
            started_ns: 1_000,
            ppid: 1,
            uid: 0,
            user: None,
            basename: name.to_owned(),
            filename: format!("/usr/bin/{name}"),
            argv: Some(vec![name.to_owned()]),
            parent: None,
            cwd: None,
            cgroup: None,
            container: None,
        })
    }

    fn end(brain: &mut Brain<RecordingHost>) {
        let exit = ExitFacts {
            at_ns: 9_000,
            status: Some(0),
            ..ExitFacts::default()
        };
        brain.feed(
            9_000,
            Event::Exited {
                key: KEY,
                exit,
                live: 0,
            },
        );
        brain.feed(
            9_000,
            Event::Drained {
                key: KEY,
                usage: KernelUsage::default(),
                at_ns: 9_000,
            },
        );
    }

    #[test]
    fn a_job_is_placed_retired_saved_and_only_then_dropped() {
        let (mut brain, stored) = brain();
        assert!(brain.outbox.sync_filter, "new rules ask for a new filter");
        brain.feed(1_500, appeared("ffmpeg"));
        end(&mut brain);
        assert_eq!(brain.host.done, ["place 7 default/auto-ffmpeg-7", "retire 7"]);
        assert!(
            stored.try_iter().any(|order| order.closed),
            "the closed record is on its way to the ledger"
        );
        brain.feed(10_000, Event::Saved { key: KEY });
        assert_eq!(brain.host.done.last().map(String::as_str), Some("drop 7"));
    }

    #[test]
    fn a_process_no_rule_wants_is_dropped_at_once_and_stored_nowhere() {
        let (mut brain, stored) = brain();
        brain.feed(1_500, appeared("cat"));
        assert_eq!(brain.host.done, ["drop 7"]);
        assert_eq!(stored.try_iter().count(), 0);
    }

    #[test]
    fn a_refused_placement_is_a_reason_in_the_record_and_no_harm() {
        let (mut brain, stored) = brain();
        brain.host.refuse = true;
        brain.feed(1_500, appeared("ffmpeg"));
        end(&mut brain);
        let record = stored.try_iter().find(|order| order.closed).unwrap().job;
        assert_eq!(record.report.placement.not_placed.as_deref(), Some("refused"));
        assert!(
            !brain.host.done.iter().any(|done| done.starts_with("signal")),
            "{:?}",
            brain.host.done
        );
    }

    #[test]
    fn a_group_that_is_still_leaving_is_retired_by_its_own_event() {
        let (mut brain, stored) = brain();
        brain.host.leaving = Some(tempfile::tempfile().unwrap());
        brain.feed(1_500, appeared("ffmpeg"));
        end(&mut brain);
        assert_eq!(brain.outbox.retiring.len(), 1);
        assert!(
            !stored.try_iter().any(|order| order.closed),
            "not closed before its group is gone"
        );
        brain.perform(vec![Effect::Retire { key: KEY }]);
        assert!(stored.try_iter().any(|order| order.closed));
    }

    #[test]
    fn pressure_lowers_a_class_and_calm_gives_its_limits_back() {
        let (mut brain, _stored) = brain();
        let rule = PressureRule {
            name: "protect-live".to_owned(),
            watch: Watch {
                class: Some("live".to_owned()),
                resource: Resource::Cpu,
                share: Share::Some,
                stall_us: 150_000,
                window_us: 1_000_000,
            },
            class: "batch".to_owned(),
            limits: Limits {
                cpu_weight: Some(10),
                ..Limits::default()
            },
            restore_after_ns: 10_000,
        };
        brain.feed(0, Event::PolicyReplaced(vec![rule.clone()]));
        assert_eq!(brain.outbox.watch_pressure.take(), Some(vec![rule]));
        let rule = "protect-live".to_owned();
        brain.feed(1_000, Event::PressureRose { rule });
        assert_eq!(brain.host.done, ["limit batch {\"cpu_weight\":10}"]);
        assert_eq!(brain.outbox.wake_at_ns.take(), Some(11_000));
        brain.feed(11_000, Event::DeadlinePassed);
        assert_eq!(brain.host.done.last().map(String::as_str), Some("limit batch {}"));
    }

    #[test]
    fn a_slow_subscriber_loses_events_and_they_are_counted() {
        let (mut brain, _stored) = brain();
        let (sender, receiver) = mpsc::channel(1);
        brain.outbox.subscribe(sender);
        brain.feed(1_500, appeared("ffmpeg"));
        end(&mut brain);
        assert!(brain.outbox.events_dropped > 0);
        drop(receiver);
    }
}
