//! Rules: which processes are governed, and how. First match wins.

use ffrtmp_api::{Intent, Limits};
use serde::{Deserialize, Serialize};

use super::facts::ProcessFacts;

/// What is done with the process's place in the cgroup tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementMode {
    /// A group of its own below our tree.
    Place,
    /// A transient systemd scope.
    Scope,
    /// Left in its group; only what needs no group is applied.
    InPlace,
    /// Nothing is changed, everything is recorded.
    Observe,
}

/// What a matching rule does.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Name of the rule, for `explain` and reports.
    pub rule: String,
    /// Class: the directory below our tree, and the metrics label.
    pub class: String,
    /// Limits.
    pub limits: Limits,
    /// Placement as the rule says; `None` leaves it to the defaults (`observe` for containers, else `place`).
    pub placement: Option<PlacementMode>,
    /// What the job is for.
    pub intent: Intent,
    /// Whether it counts towards the SLA.
    pub sla_eligible: bool,
}

/// The answer to "what about this process?"
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Govern it.
    Govern(Action),
    /// Leave it alone, with the reason `explain` shows.
    Ignore {
        /// One sentence.
        why: String,
    },
    /// A rule would match once the process is this old; ask again then.
    Later {
        /// Age in milliseconds.
        age_ms: u64,
    },
}

/// Facts beyond the kernel's own that some rule tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Parent's name.
    pub parent: bool,
    /// Working directory.
    pub cwd: bool,
}

/// An ordered list of rules.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {}

impl RuleSet {
    /// Decides about one process of the given age.
    pub fn decide(&self, _facts: &ProcessFacts, _age_ms: u64) -> Decision {
        Decision::Ignore {
            why: "no rules".to_owned(),
        }
    }

    /// Basenames the kernel's pre-filter must let through.
    pub fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// True when some rule has no name, so that the kernel must tell of every exec.
    pub fn wide(&self) -> bool {
        false
    }

    /// Which facts must be read before [`Self::decide`].
    pub fn needs(&self) -> Needs {
        Needs::default()
    }
}
