//! Rules: which processes are governed, and how. Ordered; the first rule that matches now wins.
//!
//! This module owns the verdict and the words that explain it. It reads nothing: every fact is handed in, and a fact
//! that is not known neither satisfies an allow list nor trips a block list. It refuses nothing at run time either;
//! rules that cannot be meant are refused by `config` when the file is read.

mod filter;
mod table;

use std::collections::BTreeSet;

use ffrtmp_api::{Intent, Limits};
use serde::{Deserialize, Serialize};

use super::facts::ProcessFacts;
use super::redact::harmless;

pub use filter::{AllowBlock, ContainerTest, Filters, ParentRef, Pattern};
pub use table::{TestRow, TestVerdict, test_rows};

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

/// When a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// Right after the exec.
    #[default]
    Event,
    /// Before the first instruction: the exec of its programs is held until the process sits in its group.
    Gate,
}

/// What is done when somebody else moves a process of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnForeignMove {
    /// It is recorded.
    #[default]
    Accept,
    /// The job is moved back, a few times a minute at most; then the move is accepted.
    Restore,
}

impl OnForeignMove {
    /// True for what holds when nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
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
    /// What is done when somebody else moves it.
    pub on_foreign_move: OnForeignMove,
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
    /// Whether it has a pid namespace of its own: for a rule that tests for containers, or leaves the placement to the
    /// default, which is another one in containers.
    pub namespaces: bool,
}

/// One rule: which processes, and what is done with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name for `explain`, reports and messages.
    pub name: String,
    /// Basenames it takes. Together with `files` it says which programs are meant: one of either suffices. Both
    /// empty means every program (`wide`).
    pub commands: Vec<String>,
    /// Whole paths it takes, as typed at the exec.
    pub files: Vec<String>,
    /// Tests beyond the program; all of them must hold.
    pub filters: Filters,
    /// Class.
    pub class: String,
    /// Limits.
    pub limits: Limits,
    /// Placement, when the rule says one.
    pub placement: Option<PlacementMode>,
    /// What its jobs are for.
    pub intent: Intent,
    /// Whether its jobs count towards the SLA.
    pub sla_eligible: bool,
    /// What is done when somebody else moves one of its jobs.
    #[serde(default)]
    pub on_foreign_move: OnForeignMove,
    /// When it acts.
    #[serde(default)]
    pub admission: Admission,
}

/// A class and the limits of its jobs, as rules ask for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Class.
    pub class: String,
    /// Limits, all of them.
    pub limits: Limits,
}

/// How one rule judges one process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Judgement {
    Matches,
    OtherProgram,
    TooYoung { age_ms: u64 },
    Refuses(String),
}

impl Rule {
    /// The class of rules that name none.
    pub const DEFAULT_CLASS: &'static str = "default";

    /// A rule that takes the given basename under the given limits and tests nothing else.
    pub fn for_command(name: String, command: String, limits: Limits) -> Self {
        Self {
            name,
            commands: vec![command],
            files: Vec::new(),
            filters: Filters::default(),
            class: Self::DEFAULT_CLASS.to_owned(),
            limits,
            placement: None,
            intent: Intent::default(),
            sla_eligible: false,
            on_foreign_move: OnForeignMove::default(),
            admission: Admission::default(),
        }
    }

    /// True when the rule names no program, so that every exec of the machine has to be looked at.
    pub fn wide(&self) -> bool {
        self.commands.is_empty() && self.files.is_empty()
    }

    /// True when it takes a process of this age now.
    pub fn takes(&self, facts: &ProcessFacts, age_ms: u64) -> bool {
        self.judge(facts, age_ms) == Judgement::Matches
    }

    fn judge(&self, facts: &ProcessFacts, age_ms: u64) -> Judgement {
        let program =
            self.wide() || self.commands.contains(&facts.basename) || self.files.contains(&facts.filename);
        if !program {
            return Judgement::OtherProgram;
        }
        if let Err(test) = self.filters.check(facts, age_ms) {
            return Judgement::Refuses(format!("rule `{}` {test}", self.name));
        }
        // Age comes last: a process is only worth waiting for when all else fits.
        match self.filters.min_age_ms {
            Some(min) if age_ms < min => Judgement::TooYoung { age_ms: min },
            _ => Judgement::Matches,
        }
    }

    fn action(&self) -> Action {
        Action {
            rule: self.name.clone(),
            class: self.class.clone(),
            limits: self.limits.clone(),
            placement: self.placement,
            intent: self.intent,
            sla_eligible: self.sla_eligible,
            on_foreign_move: self.on_foreign_move,
        }
    }
}

/// An ordered list of rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleSet {
    rules: Vec<Rule>,
}

impl RuleSet {
    /// The rules in the order given.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// One rule for each target, all under the same limits: the flags of `ffrtmp watch`.
    ///
    /// A target is a basename, or a whole path when it holds a slash. A repeated target is taken once.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand their flags over and are done with them"
    )]
    pub fn from_targets(targets: &[String], limits: Limits) -> Self {
        let mut seen = BTreeSet::new();
        let rules = targets
            .iter()
            .filter(|target| !target.is_empty() && seen.insert(target.as_str()))
            .map(|target| {
                let mut rule = Rule::for_command(format!("target:{target}"), target.clone(), limits.clone());
                if target.contains('/') {
                    rule.files = std::mem::take(&mut rule.commands);
                }
                rule
            })
            .collect();
        Self { rules }
    }

    /// The rules of all sets, in the order of the sets.
    pub fn concat<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let rules = sets
            .into_iter()
            .flat_map(|set| set.rules.iter().cloned())
            .collect();
        Self { rules }
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Decides about one process of the given age.
    ///
    /// A rule whose minimum age is not reached yet does not keep later rules from matching now; only when none does
    /// is the answer [`Decision::Later`], with the smallest age worth waiting for.
    pub fn decide(&self, facts: &ProcessFacts, age_ms: u64) -> Decision {
        let mut later: Option<u64> = None;
        let mut refusals = Vec::new();
        for rule in &self.rules {
            match rule.judge(facts, age_ms) {
                Judgement::Matches => return Decision::Govern(rule.action()),
                Judgement::OtherProgram => {}
                Judgement::TooYoung { age_ms } => {
                    later = Some(later.map_or(age_ms, |other| other.min(age_ms)));
                }
                Judgement::Refuses(why) => refusals.push(why),
            }
        }
        match later {
            Some(age_ms) => Decision::Later { age_ms },
            None => Decision::Ignore {
                why: self.why_ignored(facts, refusals),
            },
        }
    }

    fn why_ignored(&self, facts: &ProcessFacts, refusals: Vec<String>) -> String {
        if self.rules.is_empty() {
            return "there are no rules".to_owned();
        }
        let others = refusals.len().saturating_sub(1);
        let Some(first) = refusals.into_iter().next() else {
            return format!("no rule names `{}`", harmless(&facts.basename));
        };
        match others {
            0 => first,
            1 => format!("{first}; one more rule for it does not match either"),
            n => format!("{first}; {n} more rules for it do not match either"),
        }
    }

    /// Basenames the kernel's pre-filter must let through, each once, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            names.extend(rule.commands.iter().cloned());
            names.extend(rule.files.iter().map(|file| basename(file).to_owned()));
        }
        names.into_iter().collect()
    }

    /// What groups of their own the rules' jobs may need, in the order of the rules.
    pub fn pairs(&self) -> Vec<Pair> {
        let placed = |rule: &&Rule| rule.placement.is_none_or(|mode| mode == PlacementMode::Place);
        let pair = |rule: &Rule| Pair {
            class: rule.class.clone(),
            limits: rule.limits.clone(),
        };
        self.rules.iter().filter(placed).map(pair).collect()
    }

    /// Classes its rules put jobs into, in their order; one may come twice.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.class.as_str())
    }

    /// True when some rule has no name, so that the kernel must tell of every exec.
    pub fn wide(&self) -> bool {
        self.rules.iter().any(Rule::wide)
    }

    /// Which facts must be read before [`Self::decide`].
    pub fn needs(&self) -> Needs {
        Needs {
            parent: self.rules.iter().any(|rule| rule.filters.tests_parent_name()),
            cwd: self.rules.iter().any(|rule| !rule.filters.dirs.is_empty()),
            namespaces: self
                .rules
                .iter()
                .any(|rule| rule.placement.is_none() || rule.filters.container.is_some()),
        }
    }
}

/// The last component of a path as typed.
fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
