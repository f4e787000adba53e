//! A heartbeat compared with the books: what the node has, what it should have, and what to tell it.
//!
//! A launch of unknown outcome counts as launched: a grant that the node does not list is taken back only after a third
//! of a lease, and a running attempt that vanished only after a whole one. Work that the node lists and that is not in
//! force is ended; work that has finished is never ordered away, because its report may be on its way.

use ffrtmp_api::{Action, AttemptPhase, Epoch, Heartbeat, HeldAttempt, Order, Progress};

use super::Moment;
use super::live::{Live, Stop};
use super::policy::Policy;

/// What a heartbeat means for the books.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// Tell the node this.
    Order(Order),
    /// It runs; nobody had said so yet.
    Started(Epoch),
    /// How far it is.
    Progressed(Epoch, Progress),
    /// The node never had it, or has it no longer although it had not started.
    NeverArrived(Epoch),
    /// It ran and the node does not know how it ended.
    Vanished(Epoch),
    /// It was to be ended and is gone.
    Stopped(Epoch),
    /// The node does not list it; the next heartbeats will tell.
    Missing(Epoch),
    /// It was missing and is back.
    Back(Epoch),
}

/// Compares. `live` are the attempts that the books have on this node.
pub fn compare(policy: &Policy, live: &[&Live], heartbeat: &Heartbeat, now: Moment) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attempt in live {
        match heartbeat.held.iter().find(|held| held.key == attempt.key) {
            Some(held) => present(attempt, held, &mut findings),
            None => findings.push(absent(policy, attempt, now)),
        }
    }
    for held in &heartbeat.held {
        let known = live.iter().any(|attempt| attempt.key == held.key);
        if !known && !held.finished {
            findings.push(order(held, Action::Stop));
        }
    }
    findings
}

fn order(held: &HeldAttempt, action: Action) -> Finding {
    Finding::Order(Order {
        key: held.key,
        action,
    })
}

fn present(attempt: &Live, held: &HeldAttempt, findings: &mut Vec<Finding>) {
    let epoch = attempt.key.epoch;
    if attempt.missing_ms.is_some() {
        findings.push(Finding::Back(epoch));
    }
    if held.finished {
        return;
    }
    match attempt.stop {
        Some(Stop::Canceled) => return findings.push(order(held, Action::Cancel)),
        Some(Stop::Stalled) => return findings.push(order(held, Action::Stop)),
        None => {}
    }
    if held.started && attempt.phase == AttemptPhase::Granted {
        findings.push(Finding::Started(epoch));
    }
    if held.started {
        findings.push(Finding::Progressed(epoch, held.progress.clone()));
    }
    match (attempt.paused, held.paused) {
        (true, false) => findings.push(order(held, Action::Pause)),
        (false, true) => findings.push(order(held, Action::Resume)),
        _ => {}
    }
}

fn absent(policy: &Policy, attempt: &Live, now: Moment) -> Finding {
    let epoch = attempt.key.epoch;
    // The answer to the claim may still be on its way.
    let settled = policy.lease_ms / 3 <= now.since(attempt.granted_ms);
    let missing_ms = attempt.missing_ms.map_or(0, |since| now.since(since));
    match (attempt.stop, attempt.phase) {
        (Some(_), _) if settled => Finding::Stopped(epoch),
        (None, AttemptPhase::Granted) if settled => Finding::NeverArrived(epoch),
        (None, AttemptPhase::Running) if policy.lease_ms <= missing_ms => Finding::Vanished(epoch),
        _ => Finding::Missing(epoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ffrtmp_api::{AttemptKey, JobUuid, Queue};

    fn live(phase: AttemptPhase, stop: Option<Stop>) -> Live {
        Live {
            key: AttemptKey {
                job_id: JobUuid::from_parts(1, [1; 10]),
                attempt: 1,
                epoch: Epoch(5),
            },
            seq: 1,
            node: 1,
            slots: 1,
            phase,
            stop,
            queue: Queue::Default,
            tenant: 0,
            class: 1,
            paused: false,
            granted_ms: 0,
            moved_ms: 0,
            missing_ms: None,
            progress: Progress::default(),
        }
    }

    fn held(started: bool, finished: bool) -> HeldAttempt {
        HeldAttempt {
            key: live(AttemptPhase::Granted, None).key,
            started,
            finished,
            progress: Progress::default(),
            paused: false,
        }
    }

    fn found(live: &[&Live], held: Vec<HeldAttempt>, boot_ms: u64) -> Vec<Finding> {
        let heartbeat = Heartbeat {
            held,
            ..Heartbeat::default()
        };
        compare(
            &Policy::default(),
            live,
            &heartbeat,
            Moment { wall_ms: 0, boot_ms },
        )
    }

    #[test]
    fn a_grant_is_taken_back_only_after_a_third_of_a_lease() {
        let granted = live(AttemptPhase::Granted, None);
        assert_eq!(found(&[&granted], vec![], 9_999), [Finding::Missing(Epoch(5))]);
        assert_eq!(
            found(&[&granted], vec![], 10_000),
            [Finding::NeverArrived(Epoch(5))]
        );
    }

    #[test]
    fn a_running_attempt_vanishes_only_after_a_whole_lease_and_may_come_back() {
        let mut running = live(AttemptPhase::Running, None);
        assert_eq!(found(&[&running], vec![], 50_000), [Finding::Missing(Epoch(5))]);
        running.missing_ms = Some(50_000);
        assert_eq!(found(&[&running], vec![], 79_999), [Finding::Missing(Epoch(5))]);
        assert_eq!(found(&[&running], vec![], 80_000), [Finding::Vanished(Epoch(5))]);
        let back = found(&[&running], vec![held(true, false)], 79_999);
        assert_eq!(back[0], Finding::Back(Epoch(5)));
    }

    #[test]
    fn what_is_not_in_force_is_ended_and_what_has_finished_is_let_report() {
        let canceled = live(AttemptPhase::Stopping, Some(Stop::Canceled));
        let action = |findings: Vec<Finding>| match findings.as_slice() {
            [Finding::Order(order)] => Some(order.action),
            _ => None,
        };
        assert_eq!(
            action(found(&[&canceled], vec![held(true, false)], 0)),
            Some(Action::Cancel)
        );
        assert_eq!(found(&[&canceled], vec![], 10_000), [Finding::Stopped(Epoch(5))]);
        assert_eq!(action(found(&[], vec![held(true, false)], 0)), Some(Action::Stop));
        assert_eq!(found(&[], vec![held(true, true)], 0), []);
    }

    #[test]
    fn a_pause_is_repeated_until_the_node_has_done_it() {
        let mut running = live(AttemptPhase::Running, None);
        running.paused = true;
        let findings = found(&[&running], vec![held(true, false)], 0);
        assert!(findings.iter().any(|finding| matches!(
            finding,
            Finding::Order(Order {
                action: Action::Pause,
                ..
            })
        )));
    }
}
