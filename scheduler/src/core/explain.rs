//! Why a job waits, and when it may start.

use ffrtmp_api::{JobState, NodeStatus, NodeVerdict, WaitReason};

use super::blocklist::NodeNumber;
use super::book::{Book, Standing};
use super::fleet::Member;
use super::{Moment, needs};

/// What is known of a job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// Every reason, the one that matters most first.
    pub reasons: Vec<WaitReason>,
    /// Jobs that go out before it.
    pub ahead: Option<u64>,
    /// What each node thinks of it.
    pub nodes: Vec<NodeVerdict>,
    /// Seconds until it starts.
    pub estimate_sec: Option<u64>,
    /// How that was reckoned.
    pub basis: String,
}

/// Why this job is not running. `due_in_ms` is the rest of its pause while it is `retrying`.
pub fn why(book: &Book, standing: Standing, due_in_ms: u64, now: Moment) -> Why {
    let nodes: Vec<(NodeNumber, &Member, Vec<String>)> = book
        .fleet
        .iter()
        .map(|(number, member)| (number, member, obstacles(book, standing, number, member, now)))
        .collect();
    let mut reasons = Vec::new();
    if standing.held && standing.state == JobState::Queued {
        reasons.push(WaitReason::Held);
    }
    if standing.state == JobState::Retrying {
        reasons.push(WaitReason::Backoff {
            for_sec: due_in_ms.div_ceil(1000),
        });
    }
    let ahead = (standing.state == JobState::Queued && !standing.held)
        .then(|| book.ready.ahead(standing.seq, standing.place) as u64);
    if matches!(standing.state, JobState::Queued | JobState::Retrying) {
        reasons.extend(of_nodes(book, standing, &nodes, now));
        if let Some(cap) = book.tenants.get(&standing.place.tenant)
            && let Some(most) = cap.max_running.filter(|most| *most <= cap.running)
        {
            reasons.push(WaitReason::TenantCap { cap: most });
        }
        if let Some(jobs) = ahead.filter(|jobs| *jobs > 0) {
            reasons.push(WaitReason::Behind { jobs });
        }
        if reasons.is_empty() {
            reasons.push(WaitReason::WaitingForClaim);
        }
    }
    let (estimate_sec, basis) = estimate(book, standing, ahead, due_in_ms, now);
    let verdict = |(_, member, obstacles): (NodeNumber, &Member, Vec<String>)| NodeVerdict {
        node_id: member.id.clone(),
        obstacles,
    };
    Why {
        reasons,
        ahead,
        nodes: nodes.into_iter().map(verdict).collect(),
        estimate_sec,
        basis,
    }
}

/// What keeps one node from taking the job now.
fn obstacles(
    book: &Book,
    standing: Standing,
    number: NodeNumber,
    member: &Member,
    now: Moment,
) -> Vec<String> {
    let class = standing.place.class;
    let mut found = match book.classes.get(&class) {
        Some(needs) => needs::missing(needs, &member.info),
        None => Vec::new(),
    };
    if book.blocklist.blocked(number, class, now) {
        found.push("failed with this kind of work too often; blocked for a while".to_owned());
    }
    let status = member.status(&book.policy, now);
    if status != NodeStatus::Available {
        found.push(status.as_str().to_owned());
    } else if let Some(needs) = book.classes.get(&class)
        && member.free() < needs::slots(needs)
    {
        found.push(format!("{} of {} slots free", member.free(), member.info.slots()));
    }
    found
}

/// The reason that lies with the nodes, if it lies there.
fn of_nodes(
    book: &Book,
    standing: Standing,
    nodes: &[(NodeNumber, &Member, Vec<String>)],
    now: Moment,
) -> Option<WaitReason> {
    let class = standing.place.class;
    let needs = book.classes.get(&class)?;
    let capable: Vec<_> = nodes
        .iter()
        .filter(|(_, member, _)| member.can(class, needs))
        .collect();
    if capable.is_empty() {
        let mut missing: Vec<String> = nodes
            .iter()
            .flat_map(|(_, member, _)| needs::missing(needs, &member.info))
            .collect();
        missing.sort();
        missing.dedup();
        if nodes.is_empty() {
            missing.push("no node has registered".to_owned());
        }
        return Some(WaitReason::NoCapableNode { missing });
    }
    if capable.iter().any(|(_, _, obstacles)| obstacles.is_empty()) {
        return None;
    }
    let unblocked: Vec<_> = capable
        .iter()
        .filter(|(number, _, _)| !book.blocklist.blocked(*number, class, now))
        .collect();
    if unblocked.is_empty() {
        return Some(WaitReason::Blocklisted);
    }
    let busy = |member: &Member| {
        matches!(
            member.status(&book.policy, now),
            NodeStatus::Busy | NodeStatus::Available
        )
    };
    if unblocked.iter().any(|(_, member, _)| busy(member)) {
        Some(WaitReason::CapableNodesBusy)
    } else {
        Some(WaitReason::CapableNodesUnavailable)
    }
}

/// Jobs ahead, each as long as its class took on average, shared by the slots of the nodes that can run this one.
fn estimate(
    book: &Book,
    standing: Standing,
    ahead: Option<u64>,
    due_in_ms: u64,
    now: Moment,
) -> (Option<u64>, String) {
    let Some(ahead) = ahead.or((standing.state == JobState::Retrying).then_some(0)) else {
        return (None, "the job does not wait for a node".to_owned());
    };
    let Some(time) = book.run_times.get(&standing.place.class) else {
        return (None, "no job of this kind has finished yet".to_owned());
    };
    let able: Vec<&Member> = book
        .fleet
        .iter()
        .filter(|(number, member)| {
            book.would_take(*number, standing.place.class, now)
                && !matches!(
                    member.status(&book.policy, now),
                    NodeStatus::Offline | NodeStatus::Cordoned | NodeStatus::Draining
                )
        })
        .map(|(_, member)| member)
        .collect();
    let slots: u32 = able.iter().map(|member| member.info.slots()).sum();
    let free: u32 = able.iter().map(|member| member.free()).sum();
    if slots == 0 {
        return (None, "no node that could run it is here".to_owned());
    }
    let waiting_ms = if ahead < u64::from(free) {
        0.0
    } else {
        // On average a running job is half done.
        let turns = (ahead - u64::from(free)) as f64 / f64::from(slots);
        time.mean_ms * (turns + 0.5)
    };
    let basis = format!(
        "{ahead} jobs ahead, {free} of {slots} slots free, mean of {} runs {:.0} s",
        time.samples,
        time.mean_ms / 1000.0
    );
    (
        Some(((waiting_ms + due_in_ms as f64) / 1000.0).ceil() as u64),
        basis,
    )
}
