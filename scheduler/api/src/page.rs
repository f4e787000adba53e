//! Filters of lists and the opaque cursor that leads to the next page.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Engine, FieldError, JobState, NodeId, Priority, Queue};

/// Where a page of a list ended: the next one begins behind this number. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Cursor(i64);

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this scheduler; leave it out to start at the first page")]
pub struct CursorError;

impl Cursor {
    const VERSION: u8 = 1;

    /// The cursor behind the row with this number.
    pub fn behind(number: i64) -> Self {
        Self(number)
    }

    /// The number of the last row of the page before.
    pub fn number(self) -> i64 {
        self.0
    }

    /// Catches a cursor that was cut or mistyped; it is no secret and protects nothing.
    fn check(number: i64) -> u8 {
        number
            .to_be_bytes()
            .iter()
            .fold(Self::VERSION, |sum, byte| sum.rotate_left(3) ^ byte)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![Self::VERSION];
        bytes.extend(self.0.to_be_bytes());
        bytes.push(Self::check(self.0));
        f.write_str(&BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| CursorError)?;
        let [Self::VERSION, middle @ .., check] = bytes.as_slice() else {
            return Err(CursorError);
        };
        let number = i64::from_be_bytes(middle.try_into().map_err(|_| CursorError)?);
        if number < 0 || *check != Self::check(number) {
            return Err(CursorError);
        }
        Ok(Self(number))
    }
}

impl TryFrom<String> for Cursor {
    type Error = CursorError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

/// Which jobs a list shows. An empty filter shows all; several fields must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobFilter {
    /// In one of these states.
    #[serde(alias = "state")]
    pub status: Vec<JobState>,
    /// In this queue.
    pub queue: Option<Queue>,
    /// Of this priority.
    pub priority: Option<Priority>,
    /// Asked for this engine.
    pub engine: Option<Engine>,
    /// Of this scenario, exactly.
    pub scenario: Option<String>,
    /// Last given to this node.
    pub node: Option<NodeId>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Submitted at or after this time.
    #[schemars(with = "Option<String>")]
    pub created_after: Option<Timestamp>,
    /// Submitted before this time.
    #[schemars(with = "Option<String>")]
    pub created_before: Option<Timestamp>,
}

impl JobFilter {
    /// Parses the comma-separated states of a query string; the predecessor's `pending` and `processing` are known.
    pub fn states(text: &str) -> Result<Vec<JobState>, FieldError> {
        let parse = |word: &str| match word {
            "pending" => Ok(JobState::Queued),
            "processing" => Ok(JobState::Running),
            "cancelled" => Ok(JobState::Canceled),
            other => other
                .parse::<JobState>()
                .map_err(|error| FieldError::new("status", error.to_string())),
        };
        text.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(parse)
            .collect()
    }

    /// Checks what no type can say.
    pub fn validate(&self) -> Result<(), FieldError> {
        let too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > 256);
        if too_long(&self.scenario) {
            return Err(FieldError::new("scenario", "is longer than 256 bytes"));
        }
        if too_long(&self.tenant) {
            return Err(FieldError::new("tenant", "is longer than 256 bytes"));
        }
        match (self.created_after, self.created_before) {
            (Some(after), Some(before)) if after >= before => Err(FieldError::new(
                "created_before",
                "is not later than created_after; no job can match",
            )),
            _ => Ok(()),
        }
    }
}

/// One page to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Paging {
    /// Rows at most, 1 to 1000; 50 by default.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
}

impl Default for Paging {
    fn default() -> Self {
        Self {
            limit: Self::LIMIT,
            cursor: None,
        }
    }
}

impl Paging {
    /// Rows of a page when nothing else is asked for.
    pub const LIMIT: u32 = 50;
    /// Rows of the largest page.
    pub const LIMIT_MOST: u32 = 1000;

    /// Checks the limit.
    pub fn validate(&self) -> Result<(), FieldError> {
        if (1..=Self::LIMIT_MOST).contains(&self.limit) {
            return Ok(());
        }
        let text = format!("{} is not possible; write 1 to {}", self.limit, Self::LIMIT_MOST);
        Err(FieldError::new("limit", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_cursor_round_trips(number in 0..=i64::MAX) {
            let cursor = Cursor::behind(number);
            proptest::prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_a_cursor_of_a_negative_number(text in ".{0,24}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                proptest::prop_assert!(cursor.number() >= 0);
                proptest::prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn a_cut_cursor_is_refused() {
        let text = Cursor::behind(1234).to_string();
        for end in 0..text.len() {
            assert!(text[..end].parse::<Cursor>().is_err());
        }
    }

    #[test]
    fn states_of_a_query_string_parse() {
        assert_eq!(
            JobFilter::states("queued, processing"),
            Ok(vec![JobState::Queued, JobState::Running])
        );
        assert_eq!(JobFilter::states("done").unwrap_err().field, "status");
    }
}
