//! Identifiers that the scheduler gives out: jobs, nodes, epochs, and how a path names a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{JobId, JobIdError};

/// The scheduler's name of a job: a UUID of version 7, so that names grow with time. Whoever submits makes it, never
/// the database.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct JobUuid(Uuid);

impl JobUuid {
    /// A name out of a time (milliseconds since 1970) and 10 random bytes.
    pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// The name in these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes, which sort like the time it was made.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The label that the job's groups, reports and ledger rows carry on the node.
    pub fn label(&self) -> Result<JobId, JobIdError> {
        JobId::parse(&self.0.to_string())
    }
}

impl fmt::Display for JobUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a path or an argument names a job: its whole UUID, or its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobRef {
    /// By name.
    Id(JobUuid),
    /// By number.
    Sequence(i64),
}

/// A text that names no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no job; give a job's id (36 characters) or its number")]
pub struct JobRefError(String);

impl FromStr for JobRef {
    type Err = JobRefError;

    /// A text of digits only is a number; anything else must be a whole UUID. A UUID that starts with digits is never
    /// taken for a number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || JobRefError(text.escape_debug().take(64).collect());
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() < 20 {
            return match text.parse() {
                Ok(number) if number > 0 => Ok(Self::Sequence(number)),
                _ => Err(refused()),
            };
        }
        if text.len() != 36 {
            return Err(refused());
        }
        Uuid::try_parse(text)
            .map(|uuid| Self::Id(JobUuid(uuid)))
            .map_err(|_| refused())
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Sequence(number) => number.fmt(f),
        }
    }
}

impl From<JobUuid> for JobRef {
    fn from(id: JobUuid) -> Self {
        Self::Id(id)
    }
}

/// The name of a node: the same alphabet as a job's label.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(JobId);

/// Why a text is not a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node id is not usable; give 1 to 128 letters, digits and . _ : @ -")]
pub struct NodeIdError(#[source] JobIdError);

impl NodeId {
    /// Checks a text and makes it a node's name.
    pub fn parse(text: &str) -> Result<Self, NodeIdError> {
        JobId::parse(text).map(Self).map_err(NodeIdError)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0.into()
    }
}

/// The fence of one grant. Epochs grow over the whole life of a cluster, also across a restored backup; a write that
/// carries another epoch than the job's present one is refused. Below 2^53, so that JSON keeps it exact.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One try of one job. Every write of a node carries all three.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct AttemptKey {
    /// The job.
    pub job_id: JobUuid,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// Its fence.
    pub epoch: Epoch,
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} (epoch {})", self.job_id, self.attempt, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_that_starts_with_digits_is_not_a_number() {
        let id = JobUuid::from_parts(1_700_000_000_000, [7; 10]);
        assert!(id.to_string().starts_with(|c: char| c.is_ascii_digit()));
        assert_eq!(id.to_string().parse(), Ok(JobRef::Id(id)));
        assert_eq!("17".parse(), Ok(JobRef::Sequence(17)));
        for bad in [
            "",
            "0",
            "-1",
            "17x",
            "018bcfe5",
            "99999999999999999999",
            "018bcfe5-6800-7707-8707-07070707070g",
        ] {
            assert!(bad.parse::<JobRef>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn later_names_sort_later() {
        let early = JobUuid::from_parts(1000, [255; 10]);
        let late = JobUuid::from_parts(1001, [0; 10]);
        assert!(early.as_bytes() < late.as_bytes());
        assert_eq!(early.label().unwrap().as_str(), early.to_string());
    }
}
