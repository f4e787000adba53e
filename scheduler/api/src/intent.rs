//! What a job is for.

use serde::{Deserialize, Serialize};

/// What a job is for. Only production and soak jobs count towards the SLA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Work somebody waits for.
    #[default]
    Production,
    /// A trial; never counted.
    Test,
    /// Research; never counted.
    Experiment,
    /// A long run to find leaks; counted like production.
    Soak,
}

impl Intent {
    /// The word users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Test => "test",
            Self::Experiment => "experiment",
            Self::Soak => "soak",
        }
    }
}

impl std::fmt::Display for Intent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
