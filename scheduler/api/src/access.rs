//! Keys, join tokens and what a node gets when it joins.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::queue::words;
use crate::{AttemptKey, AttemptReport, FieldError, JobState, JobUuid, Node, NodeId, NodeInfo, Tenant};

/// One permission of a key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Submit jobs.
    Submit,
    /// See jobs, nodes and queues.
    Read,
    /// Act on jobs and nodes: cancel, pause, drain. Includes read.
    Operate,
    /// All of it, and keys, tokens and joining nodes.
    Admin,
}

words!(Scope, "scope", { Submit => "submit", Read => "read", Operate => "operate", Admin => "admin" });

/// Ten years in seconds: the longest life of a key.
const LIFE_MOST_SEC: u64 = 315_576_000;

/// `POST /keys`: a new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// What it is for, in the maker's words.
    pub name: String,
    /// What it may do; at least one.
    pub scopes: BTreeSet<Scope>,
    /// Seconds it is valid; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_sec: Option<u64>,
    /// Requests a second it may make; 0 is no limit; the scheduler's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

impl KeyRequest {
    /// Checks name, scopes and life.
    pub fn validate(&self) -> Result<(), Vec<FieldError>> {
        let mut errors = Vec::new();
        let name = self.name.trim();
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            errors.push(FieldError::new(
                "name",
                "write 1 to 128 bytes without control characters",
            ));
        }
        if self.scopes.is_empty() {
            errors.push(FieldError::new(
                "scopes",
                "is empty; write some of submit, read, operate, admin",
            ));
        }
        errors.extend(life("expires_in_sec", self.expires_in_sec).err());
        if self.per_second.is_some_and(|rate| rate > 1_000_000) {
            errors.push(FieldError::new("per_second", "write 0 to 1000000"));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

fn life(field: &str, seconds: Option<u64>) -> Result<(), FieldError> {
    match seconds {
        Some(seconds) if !(1..=LIFE_MOST_SEC).contains(&seconds) => Err(FieldError::new(
            field,
            format!("{seconds} is not possible; write 1 to {LIFE_MOST_SEC}"),
        )),
        _ => Ok(()),
    }
}

/// A key that was just made. Its text is shown here and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeyCreated {
    /// Public id.
    pub id: String,
    /// The key.
    pub key: String,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeyView {
    /// Public id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// Requests a second, where it has a limit of its own.
    pub per_second: Option<u32>,
    /// When it was made.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it ends.
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[schemars(with = "Option<String>")]
    pub revoked_at: Option<Timestamp>,
}

/// `GET /keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeyList {
    /// All keys.
    pub keys: Vec<KeyView>,
}

/// `POST /keys/{id}/rotate`: a new key like this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotateRequest {
    /// Seconds the old one stays valid; 0 ends it at once.
    pub overlap_sec: u64,
}

impl RotateRequest {
    /// Checks the overlap.
    pub fn validate(&self) -> Result<(), FieldError> {
        life(
            "overlap_sec",
            Some(self.overlap_sec).filter(|seconds| *seconds > 0),
        )
    }
}

/// `POST /tokens`: a ticket for nodes to join with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// How many nodes may join with it.
    pub uses: u32,
    /// Seconds it is valid.
    pub expires_in_sec: u64,
}

impl Default for TokenRequest {
    /// One node within an hour.
    fn default() -> Self {
        Self {
            uses: 1,
            expires_in_sec: 3600,
        }
    }
}

impl TokenRequest {
    /// Checks uses and life.
    pub fn validate(&self) -> Result<(), Vec<FieldError>> {
        let mut errors: Vec<_> = life("expires_in_sec", Some(self.expires_in_sec))
            .err()
            .into_iter()
            .collect();
        if !(1..=100_000).contains(&self.uses) {
            errors.push(FieldError::new("uses", "write 1 to 100000"));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// A ticket that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenCreated {
    /// Public id.
    pub id: String,
    /// The ticket; it carries the CA's fingerprint, so that a node knows whom to trust.
    pub token: String,
    /// SHA-256 of the CA's certificate, hexadecimal.
    pub ca_fingerprint: String,
    /// When it ends.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
}

/// A ticket without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenView {
    /// Public id.
    pub id: String,
    /// How many nodes may still join with it.
    pub uses_left: u32,
    /// When it was made.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it ends.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[schemars(with = "Option<String>")]
    pub revoked_at: Option<Timestamp>,
}

/// `GET /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenList {
    /// All tickets.
    pub tokens: Vec<TokenView>,
}

/// The authority that signed the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CaView {
    /// Its certificate, PEM.
    pub certificate: String,
    /// SHA-256 of it, hexadecimal.
    pub fingerprint: String,
}

/// `POST /nodes/register`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct JoinRequest {
    /// What the node is and can.
    #[serde(flatten)]
    pub info: NodeInfo,
    /// Id it wants; one is made up when left out. Who shows a node's own key or certificate keeps that node's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Request for a certificate, PEM. Only its public key counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_request: Option<String>,
}

/// Answer to a node that registered: the node, and its credentials where they are new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Joined {
    /// The node as the scheduler knows it.
    #[serde(flatten)]
    pub node: Node,
    /// Its own key, shown here and never again; `None` for a node that had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_key: Option<String>,
    /// Its certificate with the CA's, PEM, where it sent a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// `POST /nodes/{id}/certificate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The request, PEM.
    pub certificate_request: String,
}

/// Answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CertificateIssued {
    /// Certificate with the CA's, PEM.
    pub certificate: String,
}

/// `POST /nodes/{id}/reports`: a node's word on one of its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReportRequest {
    /// Which attempt.
    #[serde(flatten)]
    pub key: AttemptKey,
    /// What became of it.
    #[serde(flatten)]
    pub report: AttemptReport,
}

/// `GET /nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeList {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// How many.
    pub count: usize,
}

/// Answer to `DELETE /nodes/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeRemoved {
    /// `removed`.
    pub status: String,
    /// The node.
    pub node_id: NodeId,
}

/// Answer to something done to a job, in the predecessor's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobActed {
    /// `canceled`, `paused`, `resumed`, `held` or `queued`.
    pub status: String,
    /// The job.
    pub job_id: JobUuid,
    /// Its number.
    pub sequence_number: i64,
    /// Where it stands now.
    pub state: JobState,
    /// Tries used up.
    pub retry_count: u32,
}

/// `GET /jobs/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobLogs {
    /// The job.
    pub job_id: JobUuid,
    /// Last lines of each attempt, oldest attempt first.
    pub logs: String,
}

/// `GET /tenants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TenantList {
    /// All tenants.
    pub tenants: Vec<Tenant>,
}

/// `PUT /tenants/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantEdit {
    /// Jobs at once; `null` for no cap.
    pub max_running: Option<u32>,
}

/// `POST /backup`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupRequest {
    /// Name of the file in the scheduler's directory of backups; the time when left out.
    pub name: Option<String>,
}

/// A backup that is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupDone {
    /// Where it is, on the scheduler's machine.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Answer to a submission that said `Prefer: return=minimal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Submitted {
    /// Name of the job.
    pub id: JobUuid,
    /// Its number.
    pub sequence_number: i64,
}

/// `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Health {
    /// `healthy`.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_checked_field_by_field() {
        let key = |text: &str| serde_json::from_str::<KeyRequest>(text).unwrap().validate();
        assert!(key(r#"{"name":"ci","scopes":["submit","read"]}"#).is_ok());
        let errors = key(r#"{"name":" ","scopes":[],"expires_in_sec":0,"per_second":2000000}"#).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["name", "scopes", "expires_in_sec", "per_second"]);
        assert!(serde_json::from_str::<KeyRequest>(r#"{"name":"x","scopes":["root"]}"#).is_err());
        assert!(TokenRequest::default().validate().is_ok());
        assert!(
            TokenRequest {
                uses: 0,
                expires_in_sec: 0
            }
            .validate()
            .unwrap_err()
            .len()
                == 2
        );
        assert!(
            RotateRequest {
                overlap_sec: u64::MAX
            }
            .validate()
            .is_err()
        );
        assert!(RotateRequest::default().validate().is_ok());
    }
}
