//! The nodes: what each is and can, when it was last heard of, what it is meant to do.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ffrtmp_api::{Needs, NodeId, NodeInfo, NodeIntent, NodeLoad, NodeStatus};

use super::blocklist::NodeNumber;
use super::policy::Policy;
use super::{ClassId, Moment, needs};

/// One node.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// What it said of itself.
    pub info: NodeInfo,
    /// What the operator wants of it.
    pub intent: NodeIntent,
    /// When it first registered.
    pub registered_ms: i64,
    /// When it was last heard of; `None` since our start.
    pub heard: Option<Moment>,
    /// True once it was found lost; until it is heard of again.
    pub lost: bool,
    /// Its last load.
    pub load: NodeLoad,
    /// Slots taken.
    pub used: u32,
    /// Which classes it can run, as far as anybody asked.
    fits: RefCell<BTreeMap<ClassId, bool>>,
}

impl Member {
    /// A node as read from the disk.
    pub fn new(id: NodeId, info: NodeInfo, intent: NodeIntent, registered_ms: i64) -> Self {
        Self {
            id,
            info,
            intent,
            registered_ms,
            heard: None,
            lost: false,
            load: NodeLoad::default(),
            used: 0,
            fits: RefCell::default(),
        }
    }

    /// Takes new facts of the node.
    pub fn replace_info(&mut self, info: NodeInfo) {
        self.info = info;
        self.fits.borrow_mut().clear();
    }

    /// True when it can run the class.
    pub fn can(&self, class: ClassId, needs: &Needs) -> bool {
        *self
            .fits
            .borrow_mut()
            .entry(class)
            .or_insert_with(|| needs::missing(needs, &self.info).is_empty())
    }

    /// Slots free.
    pub fn free(&self) -> u32 {
        self.info.slots().saturating_sub(self.used)
    }

    /// Where it stands.
    pub fn status(&self, policy: &Policy, now: Moment) -> NodeStatus {
        let silent_ms = self.heard.map(|heard| now.since(heard.boot_ms));
        match (silent_ms, self.intent) {
            (None, _) => NodeStatus::Offline,
            (Some(silent), _) if policy.lease_ms < silent || self.lost => NodeStatus::Offline,
            (_, NodeIntent::Cordoned) => NodeStatus::Cordoned,
            (_, NodeIntent::Draining) => NodeStatus::Draining,
            (Some(silent), NodeIntent::Active) if policy.lease_ms / 2 < silent => NodeStatus::Suspect,
            (Some(_), NodeIntent::Active) if self.free() == 0 => NodeStatus::Busy,
            (Some(_), NodeIntent::Active) => NodeStatus::Available,
        }
    }

    /// True when its lease has passed. `started_ms` is our own start: silence counts from there, so that nothing
    /// expires before one whole lease after a restart.
    pub fn expired(&self, policy: &Policy, now: Moment, started_ms: u64) -> bool {
        let since = self
            .heard
            .map_or(started_ms, |heard| heard.boot_ms.max(started_ms));
        policy.lease_ms < now.since(since)
    }
}

/// All nodes.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    members: BTreeMap<NodeNumber, Member>,
    by_id: BTreeMap<NodeId, NodeNumber>,
}

impl Fleet {
    /// Adds a node or replaces it.
    pub fn insert(&mut self, number: NodeNumber, member: Member) {
        self.by_id.insert(member.id.clone(), number);
        self.members.insert(number, member);
    }

    /// Takes a node out.
    pub fn remove(&mut self, number: NodeNumber) {
        if let Some(member) = self.members.remove(&number) {
            self.by_id.remove(&member.id);
        }
    }

    /// Number of a node.
    pub fn number(&self, id: &NodeId) -> Option<NodeNumber> {
        self.by_id.get(id).copied()
    }

    /// One node.
    pub fn get(&self, number: NodeNumber) -> Option<&Member> {
        self.members.get(&number)
    }

    /// One node, to change it.
    pub fn get_mut(&mut self, number: NodeNumber) -> Option<&mut Member> {
        self.members.get_mut(&number)
    }

    /// All, in order of registration.
    pub fn iter(&self) -> impl Iterator<Item = (NodeNumber, &Member)> {
        self.members.iter().map(|(number, member)| (*number, member))
    }

    /// Takes over what only memory knows from the fleet before a reload.
    pub fn carry_over(&mut self, before: &Self) {
        for (number, member) in &mut self.members {
            if let Some(old) = before.members.get(number) {
                member.heard = old.heard;
                member.lost = old.lost;
                member.load = old.load.clone();
            }
        }
    }
}
