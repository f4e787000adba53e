//! Who a caller turned out to be, as the scheduler tells it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Scope;
use crate::queue::words;

/// What kind of credential a caller showed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CallerKind {
    /// None: the API is open.
    Anyone,
    /// The operator's master key.
    Master,
    /// An API key.
    Key,
    /// A node's own key or certificate.
    Node,
    /// A join token.
    Token,
}

words!(CallerKind, "kind of caller", {
    Anyone => "anyone", Master => "master", Key => "key", Node => "node", Token => "token",
});

/// `GET /whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhoAmI {
    /// What kind of credential was shown.
    pub kind: CallerKind,
    /// Public id of the key or token, or id of the node; `None` for the master key and an open API.
    pub id: Option<String>,
    /// Name of the key, as its maker chose it.
    pub name: Option<String>,
    /// What the caller may do. Admin includes all, operate includes read; a node and a join token have none.
    pub scopes: BTreeSet<Scope>,
    /// When the key ends; `None` for never.
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// Version of the scheduler.
    pub server_version: String,
    /// SHA-256 of the certificate of the scheduler's CA, hexadecimal; `None` without TLS.
    pub ca_fingerprint: Option<String>,
}
