//! Nodes: registration, heartbeats, orders, and what operators want of them.

use ffrtmp_api::{
    Action, BlockedClass, FailureReason, Heartbeat, HeartbeatAnswer, Node, NodeId, NodeInfo, NodeIntent,
    NodeStatus, Order, Orders,
};
use jiff::Timestamp;
use rusqlite::params;
use tokio::sync::watch;

use super::engine::Engine;
use super::restore::INTENTS;
use crate::core::Moment;
use crate::core::blocklist::NodeNumber;
use crate::core::fleet::Member;
use crate::core::inventory::{Finding, compare};
use crate::core::live::{Live, Stop};
use crate::store::error::{Step, StoreError};

impl Engine {
    /// Takes a node in, or its new facts.
    pub fn register(
        &mut self,
        node: &NodeId,
        info: NodeInfo,
        now: Moment,
    ) -> Result<(Node, bool), StoreError> {
        info.validate().map_err(StoreError::Invalid)?;
        let text = serde_json::to_string(&info).step("serialise a node")?;
        let known = self.book.fleet.number(node);
        let number = self
            .connection
            .query_row(
                "INSERT INTO nodes (name, info, intent, registered_ms) VALUES (?1, ?2, 0, ?3) \
                 ON CONFLICT (name) DO UPDATE SET info = ?2, \
                 intent = CASE removed WHEN 1 THEN 0 ELSE intent END, removed = 0 RETURNING id",
                params![node.as_str(), text, now.wall_ms],
                |row| row.get::<_, NodeNumber>(0),
            )
            .step("write a node")?;
        if let Some(member) = known.and_then(|number| self.book.fleet.get_mut(number)) {
            member.replace_info(info);
        } else {
            let member = Member::new(node.clone(), info, NodeIntent::Active, now.wall_ms);
            self.book.fleet.insert(number, member);
            self.recount(number);
        }
        self.heard(node, now)?;
        self.recheck.node(number);
        Ok((self.show_node(number, now)?, known.is_none()))
    }

    /// Slots that attempts still take on a node that was removed and came back.
    fn recount(&mut self, number: NodeNumber) {
        let of_node = self.book.live.iter().filter(|live| live.node == number);
        let used = of_node.map(|live| live.slots).sum();
        if let Some(member) = self.book.fleet.get_mut(number) {
            member.used = used;
        }
    }

    /// Takes a node's regular call and tells it what to do.
    pub fn heartbeat(
        &mut self,
        node: &NodeId,
        heartbeat: &Heartbeat,
        now: Moment,
    ) -> Result<HeartbeatAnswer, StoreError> {
        let number = self.heard(node, now)?;
        if let Some(member) = self.book.fleet.get_mut(number) {
            member.load = heartbeat.load.clone();
        }
        let live: Vec<&Live> = self.book.live.iter().filter(|live| live.node == number).collect();
        let findings = compare(&self.book.policy, &live, heartbeat, now);
        let mut orders = Vec::new();
        for finding in findings {
            self.apply(finding, &mut orders, now)?;
        }
        // The word of a finding may have changed what the node is to do.
        Ok(HeartbeatAnswer {
            heartbeat_sec: (self.book.policy.heartbeat_ms / 1000) as u32,
            lease_sec: (self.book.policy.lease_ms / 1000) as u32,
            orders,
        })
    }

    fn apply(&mut self, finding: Finding, orders: &mut Vec<Order>, now: Moment) -> Result<(), StoreError> {
        let epoch = match &finding {
            Finding::Order(order) => {
                orders.push(*order);
                return Ok(());
            }
            Finding::Started(epoch)
            | Finding::Progressed(epoch, _)
            | Finding::NeverArrived(epoch)
            | Finding::Vanished(epoch)
            | Finding::Stopped(epoch)
            | Finding::Missing(epoch)
            | Finding::Back(epoch) => *epoch,
        };
        let Some(live) = self.book.live.get(epoch).cloned() else {
            return Ok(());
        };
        match finding {
            Finding::Order(_) => Ok(()),
            Finding::Started(_) => self.started(&live, now),
            Finding::Progressed(_, progress) => {
                self.progressed(&live, progress, now);
                Ok(())
            }
            Finding::NeverArrived(_) => self.take_back(&live, "the node never had it", now),
            Finding::Vanished(_) => {
                let text = "the node no longer knows how it ended";
                self.lose(&live, FailureReason::PlatformError, text, now)
            }
            Finding::Stopped(_) => match live.stop {
                Some(stop) => self.stopped(&live, stop, None, now),
                None => Ok(()),
            },
            Finding::Missing(_) | Finding::Back(_) => {
                if let Some(live) = self.book.live.get_mut(epoch) {
                    let missing = matches!(finding, Finding::Missing(_));
                    live.missing_ms = missing.then(|| live.missing_ms.unwrap_or(now.boot_ms));
                }
                Ok(())
            }
        }
    }

    /// The node's outstanding orders, and the bell that rings for new ones.
    pub(super) fn orders(
        &mut self,
        node: &NodeId,
        now: Moment,
    ) -> Result<(Orders, watch::Receiver<u64>), StoreError> {
        let number = self.heard(node, now)?;
        let bell = self.bell(number).subscribe();
        let version = *bell.borrow();
        let of_node = self.book.live.iter().filter(|live| live.node == number);
        let orders = of_node
            .map(|live| Order {
                key: live.key,
                action: match (live.stop, live.paused) {
                    (Some(Stop::Canceled), _) => Action::Cancel,
                    (Some(Stop::Stalled), _) => Action::Stop,
                    (None, true) => Action::Pause,
                    (None, false) => Action::Resume,
                },
            })
            .collect();
        Ok((Orders { version, orders }, bell))
    }

    /// Cordons, drains or resumes a node.
    pub fn node_intent(
        &mut self,
        node: &NodeId,
        intent: NodeIntent,
        now: Moment,
    ) -> Result<Node, StoreError> {
        let number = self.known(node)?;
        let place = INTENTS.iter().position(|known| *known == intent).unwrap_or(0);
        self.connection
            .execute(
                "UPDATE nodes SET intent = ?2 WHERE id = ?1",
                params![number, place as i64],
            )
            .step("write a node's intent")?;
        if let Some(member) = self.book.fleet.get_mut(number) {
            member.intent = intent;
        }
        self.recheck.node(number);
        self.show_node(number, now)
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, node: &NodeId, now: Moment) -> Result<(), StoreError> {
        let number = self.known(node)?;
        let held: Vec<Live> = self
            .book
            .live
            .iter()
            .filter(|live| live.node == number)
            .cloned()
            .collect();
        let gone = self
            .book
            .fleet
            .get(number)
            .is_some_and(|member| member.expired(&self.book.policy, now, self.book.started_ms));
        if !held.is_empty() && !gone {
            return Err(StoreError::Conflict(format!(
                "node {node} still runs {} jobs; drain it first, or wait until its lease has passed",
                held.len()
            )));
        }
        for live in held {
            self.lose(&live, FailureReason::NodeLost, "its node was removed", now)?;
        }
        self.connection
            .execute("UPDATE nodes SET removed = 1 WHERE id = ?1", [number])
            .step("remove a node")?;
        self.connection
            .execute("DELETE FROM strikes WHERE node = ?1", [number])
            .step("remove a node")?;
        self.book.fleet.remove(number);
        self.book.blocklist.forget(number);
        self.book.chooser.forget_node(number);
        self.last_claims.remove(&number);
        self.bells.remove(&number);
        Ok(())
    }

    pub(super) fn known(&self, node: &NodeId) -> Result<NodeNumber, StoreError> {
        self.book
            .fleet
            .number(node)
            .ok_or_else(|| StoreError::NoNode(node.to_string()))
    }

    /// A node as clients see it.
    pub(super) fn show_node(&self, number: NodeNumber, now: Moment) -> Result<Node, StoreError> {
        let member = self
            .book
            .fleet
            .get(number)
            .ok_or_else(|| StoreError::NoNode(number.to_string()))?;
        let of_node = self.book.live.iter().filter(|live| live.node == number);
        let job_ids: Vec<_> = of_node.map(|live| live.key.job_id).collect();
        let blocked = self.book.blocklist.of(number, now);
        let class = |class: &i64| {
            let needs = self.book.classes.get(class);
            serde_json::to_string(&needs).unwrap_or_default()
        };
        Ok(Node {
            id: member.id.clone(),
            info: member.info.clone(),
            status: member.status(&self.book.policy, now),
            load: member.load.clone(),
            last_heartbeat: member.heard.map(|heard| time(heard.wall_ms)),
            registered_at: time(member.registered_ms),
            slots_used: member.used,
            current_job_id: job_ids.first().copied(),
            job_ids,
            blocked: blocked
                .iter()
                .map(|(number, strikes)| BlockedClass {
                    class: class(number),
                    strikes: strikes.count,
                    for_sec: strikes.until_ms.saturating_sub(now.boot_ms).div_ceil(1000),
                })
                .collect(),
        })
    }

    /// All nodes as clients see them.
    pub(super) fn show_nodes(&self, now: Moment) -> Result<Vec<Node>, StoreError> {
        let numbers = self.book.fleet.iter().map(|(number, _)| number);
        numbers.map(|number| self.show_node(number, now)).collect()
    }

    /// Nodes found lost by this sweep, with everything they had.
    pub(super) fn lose_nodes(&mut self, now: Moment) -> Result<u32, StoreError> {
        let expired: Vec<NodeNumber> = self
            .book
            .fleet
            .iter()
            .filter(|(_, member)| {
                !member.lost && member.expired(&self.book.policy, now, self.book.started_ms)
            })
            .map(|(number, _)| number)
            .collect();
        for number in &expired {
            let held: Vec<Live> = self
                .book
                .live
                .iter()
                .filter(|live| live.node == *number)
                .cloned()
                .collect();
            for live in held {
                self.lose(
                    &live,
                    FailureReason::NodeLost,
                    "its node was not heard of for a whole lease",
                    now,
                )?;
            }
            self.book.chooser.forget_node(*number);
            if let Some(member) = self.book.fleet.get_mut(*number) {
                member.lost = true;
            }
        }
        self.book.count("nodes_lost", expired.len() as u64);
        Ok(expired.len() as u32)
    }

    /// Nodes by status, for the statistics.
    pub(super) fn statuses(&self, now: Moment) -> impl Iterator<Item = (NodeStatus, &Member)> {
        self.book
            .fleet
            .iter()
            .map(move |(_, member)| (member.status(&self.book.policy, now), member))
    }
}

/// A recorded time; one that no calendar holds becomes 1970.
pub(super) fn time(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}
