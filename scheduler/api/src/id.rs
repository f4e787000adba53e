//! Identifiers that cross a process boundary.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A label for one job: 1 to 128 characters out of `A-Z a-z 0-9 . _ : @ -`, not starting with a dot.
///
/// The same text names the job's control group, so nothing that could leave a directory is allowed. A job id is a
/// label and may recur over time; two live jobs never share one.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// Why a text is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobIdError {
    /// The text has no characters.
    #[error("job id is empty; leave the flag out to get one made up, or give 1 to 128 characters")]
    Empty,
    /// The text is longer than [`JobId::MAX_LEN`].
    #[error("job id has {0} characters; the longest allowed is 128")]
    TooLong(usize),
    /// The text starts with a dot.
    #[error("job id `{0}` starts with a dot; start it with a letter or a digit")]
    LeadingDot(String),
    /// The text holds a character outside the allowed set.
    #[error("job id `{text}` holds {found:?}; allowed are letters, digits and . _ : @ -")]
    Character {
        /// The text as given, with control characters escaped.
        text: String,
        /// The first character that is not allowed.
        found: char,
    },
}

impl JobId {
    /// The longest job id, in bytes. Well below `NAME_MAX` (255), so that a suffix still fits.
    pub const MAX_LEN: usize = 128;

    /// Checks a text and makes it a job id.
    pub fn parse(text: &str) -> Result<Self, JobIdError> {
        if text.is_empty() {
            return Err(JobIdError::Empty);
        }
        if text.chars().count() > Self::MAX_LEN {
            return Err(JobIdError::TooLong(text.chars().count()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:@-".contains(c);
        if let Some(found) = text.chars().find(|&c| !allowed(c)) {
            return Err(JobIdError::Character {
                text: text.escape_debug().to_string(),
                found,
            });
        }
        if text.starts_with('.') {
            return Err(JobIdError::LeadingDot(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The id of a process that was found rather than named: `auto-COMMAND-PID`.
    ///
    /// Characters of the command that an id cannot hold become `_`.
    pub fn auto(command: &str, pid: u32) -> Self {
        let clean: String = command
            .chars()
            .take(96)
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._:@-".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        Self(format!("auto-{clean}-{pid}"))
    }

    /// The id of a job nobody named.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = JobIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for JobId {
    type Error = JobIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_cannot_leave_its_directory() {
        for bad in ["", "a/b", "..", "../x", ".hidden", "a b", "a\n", "ä", "a\0"] {
            assert!(JobId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(JobId::parse(&"x".repeat(129)).is_err());
        for good in ["unknown", "job-001", "auto-ffmpeg-123", "tenant@a:1", "x.y_z"] {
            assert_eq!(JobId::parse(good).unwrap().as_str(), good);
        }
    }

    proptest::proptest! {
        #[test]
        fn an_auto_id_always_parses(command in ".{0,200}", pid: u32) {
            let id = JobId::auto(&command, pid);
            proptest::prop_assert_eq!(JobId::parse(id.as_str()), Ok(id.clone()));
        }
    }
}
