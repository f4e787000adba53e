//! Flags whose values are words, and what the words mean.

use clap::ValueEnum;
use ffrtmp_api::Intent;
use ffrtmp_governor::core::rule::PlacementMode;

/// [`Intent`] as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum IntentFlag {
    /// Work somebody waits for
    #[default]
    Production,
    /// A trial
    Test,
    /// Research
    Experiment,
    /// A long run to find leaks
    Soak,
}

impl From<IntentFlag> for Intent {
    fn from(flag: IntentFlag) -> Self {
        match flag {
            IntentFlag::Production => Self::Production,
            IntentFlag::Test => Self::Test,
            IntentFlag::Experiment => Self::Experiment,
            IntentFlag::Soak => Self::Soak,
        }
    }
}

/// [`PlacementMode`] as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlacementFlag {
    /// A control group of its own
    Place,
    /// A transient systemd scope
    Scope,
    /// Its present group; only what needs no group is applied
    InPlace,
    /// Nothing is changed, everything is recorded
    Observe,
}

impl From<PlacementFlag> for PlacementMode {
    fn from(flag: PlacementFlag) -> Self {
        match flag {
            PlacementFlag::Place => Self::Place,
            PlacementFlag::Scope => Self::Scope,
            PlacementFlag::InPlace => Self::InPlace,
            PlacementFlag::Observe => Self::Observe,
        }
    }
}
