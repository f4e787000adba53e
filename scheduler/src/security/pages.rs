//! What is written in the book of credentials, as it stands in the file. Judges nothing but time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::book::Refusal;
use super::scope::Scope;
use super::token::SecretHash;

/// Version of the file's form.
pub(super) const VERSION: u32 = 1;
/// Records of spent and revoked credentials are kept so long for whoever asks what became of them.
const MEMORY: Duration = Duration::from_hours(30 * 24);

/// A user's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiKey {
    /// Name, as its maker chose it.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// Requests a second, where it has a limit of its own.
    pub per_second: Option<u32>,
    /// Hash of its secret.
    pub(super) hash: SecretHash,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// A ticket to join with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ticket {
    pub(super) hash: SecretHash,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// How many nodes may still join with it.
    pub uses_left: u32,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl Ticket {
    /// Why nobody may join with it; `None` when somebody may.
    pub(super) fn refusal(&self, now: Timestamp) -> Option<Refusal> {
        if self.revoked.is_some() {
            return Some(Refusal::Revoked);
        }
        if self.expires <= now {
            return Some(Refusal::Expired);
        }
        (self.uses_left == 0).then_some(Refusal::Spent)
    }
}

/// A node's own credential.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NodeKey {
    /// Public id of its key; `None` for a node with a certificate only.
    pub(super) key_id: Option<String>,
    pub(super) hash: Option<SecretHash>,
    pub(super) created: Timestamp,
}

/// Everything in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pages {
    pub(super) version: u32,
    pub(super) keys: BTreeMap<String, ApiKey>,
    pub(super) tickets: BTreeMap<String, Ticket>,
    pub(super) nodes: BTreeMap<String, NodeKey>,
    /// Node of each node key. Rebuilt when the file is read.
    #[serde(skip)]
    pub(super) node_of: BTreeMap<String, String>,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            version: VERSION,
            keys: BTreeMap::new(),
            tickets: BTreeMap::new(),
            nodes: BTreeMap::new(),
            node_of: BTreeMap::new(),
        }
    }
}

impl Pages {
    /// With the way back from keys to nodes.
    pub(super) fn index(mut self) -> Self {
        let pairs = self
            .nodes
            .iter()
            .filter_map(|(node, key)| Some((key.key_id.clone()?, node.clone())));
        self.node_of = pairs.collect();
        self
    }

    /// Drops what ended long ago.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let old = |time: Option<Timestamp>| {
            time.is_some_and(|time| now.duration_since(time).unsigned_abs() > MEMORY && time < now)
        };
        self.keys.retain(|_, key| !old(key.revoked) && !old(key.expires));
        self.tickets
            .retain(|_, ticket| !old(ticket.revoked) && !old(Some(ticket.expires)));
    }
}
