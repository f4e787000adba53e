//! The rules in force: the file's first, then those each `watch` session brought, in the order they came.
//!
//! It owns the order and nothing else: what a rule tests is [`super::rule`]'s.

use std::collections::BTreeSet;
use std::fmt;

use super::facts::ProcessFacts;
use super::rule::{Decision, Needs, Pair, RuleSet};

/// Something that judges processes: a rule set, or in tests a table.
pub trait Rules: fmt::Debug + Send {
    /// Decides about one process of the given age.
    fn decide(&self, facts: &ProcessFacts, age_ms: u64) -> Decision;
    /// Basenames the kernel's pre-filter must let through.
    fn names(&self) -> Vec<String>;
    /// True when the kernel must tell of every exec.
    fn wide(&self) -> bool;
    /// Which facts must be read before [`Self::decide`].
    fn needs(&self) -> Needs;
    /// How many rules there are.
    fn count(&self) -> usize;
    /// What groups of their own their jobs may need.
    fn pairs(&self) -> Vec<Pair> {
        Vec::new()
    }
}

impl Rules for RuleSet {
    fn decide(&self, facts: &ProcessFacts, age_ms: u64) -> Decision {
        Self::decide(self, facts, age_ms)
    }

    fn names(&self) -> Vec<String> {
        Self::names(self)
    }

    fn wide(&self) -> bool {
        Self::wide(self)
    }

    fn needs(&self) -> Needs {
        Self::needs(self)
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn pairs(&self) -> Vec<Pair> {
        Self::pairs(self)
    }
}

/// All rules in force.
#[derive(Debug, Default)]
pub(super) struct Chain {
    file: Option<Box<dyn Rules>>,
    sessions: Vec<(u64, Box<dyn Rules>)>,
}

impl Chain {
    /// Replaces the file's rules.
    pub(super) fn replace_file(&mut self, rules: Box<dyn Rules>) {
        self.file = Some(rules);
    }

    /// Adds a session's rules after all others; a session that is there already gets these instead.
    pub(super) fn open(&mut self, session: u64, rules: Box<dyn Rules>) {
        self.close(session);
        self.sessions.push((session, rules));
    }

    /// Takes a session's rules away. False when there were none.
    pub(super) fn close(&mut self, session: u64) -> bool {
        let before = self.sessions.len();
        self.sessions.retain(|(number, _)| *number != session);
        self.sessions.len() < before
    }

    fn all(&self) -> impl Iterator<Item = &dyn Rules> {
        self.file
            .iter()
            .chain(self.sessions.iter().map(|(_, rules)| rules))
            .map(AsRef::as_ref)
    }

    /// The first set that governs the process now wins. Else it waits for the youngest age some set asks for: a
    /// process is not left alone while any rule may still want it. Else every set's reason is given.
    pub(super) fn decide(&self, facts: &ProcessFacts, age_ms: u64) -> Decision {
        let mut wait_ms: Option<u64> = None;
        let mut reasons: Vec<String> = Vec::new();
        for rules in self.all() {
            match rules.decide(facts, age_ms) {
                Decision::Govern(action) => return Decision::Govern(action),
                Decision::Later { age_ms } => {
                    wait_ms = Some(wait_ms.map_or(age_ms, |other| other.min(age_ms)));
                }
                Decision::Ignore { why } => {
                    if !reasons.contains(&why) {
                        reasons.push(why);
                    }
                }
            }
        }
        match wait_ms {
            Some(age_ms) => Decision::Later { age_ms },
            None if reasons.is_empty() => Decision::Ignore {
                why: "no rules are in force".to_owned(),
            },
            None => Decision::Ignore {
                why: reasons.join("; "),
            },
        }
    }

    /// Every basename some rule wants, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let names: BTreeSet<String> = self.all().flat_map(Rules::names).collect();
        names.into_iter().collect()
    }

    /// How many rules there are.
    pub(super) fn count(&self) -> usize {
        self.all().map(Rules::count).sum()
    }

    /// What groups of their own the jobs may need.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        self.all().flat_map(Rules::pairs).collect()
    }

    /// True when some rule has no name.
    pub(super) fn wide(&self) -> bool {
        self.all().any(Rules::wide)
    }

    /// The facts that some rule tests.
    pub(super) fn needs(&self) -> Needs {
        self.all()
            .map(Rules::needs)
            .fold(Needs::default(), |sum, one| Needs {
                parent: sum.parent || one.parent,
                cwd: sum.cwd || one.cwd,
                namespaces: sum.namespaces || one.namespaces,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{TestRules, facts};

    #[test]
    fn the_files_rules_come_first_and_sessions_in_their_order() {
        let mut chain = Chain::default();
        chain.open(1, Box::new(TestRules::governing(&["ffmpeg"], "first")));
        chain.open(2, Box::new(TestRules::governing(&["ffmpeg", "gst"], "second")));
        chain.replace_file(Box::new(TestRules::governing(&["x264"], "file")));
        let class = |chain: &Chain, name: &str| match chain.decide(&facts(1, 1, name), 0) {
            Decision::Govern(action) => action.class,
            other => format!("{other:?}"),
        };
        assert_eq!(class(&chain, "ffmpeg"), "first");
        assert_eq!(class(&chain, "gst"), "second");
        assert_eq!(class(&chain, "x264"), "file");
        assert_eq!(chain.names(), ["ffmpeg", "gst", "x264"]);
        assert!(chain.close(1));
        assert!(!chain.close(1));
        assert_eq!(class(&chain, "ffmpeg"), "second");
    }

    #[test]
    fn a_set_that_governs_now_beats_one_that_wants_to_wait_and_waiting_beats_ignoring() {
        let mut chain = Chain::default();
        chain.replace_file(Box::new(TestRules::waiting("ffmpeg", 500)));
        chain.open(1, Box::new(TestRules::waiting("ffmpeg", 200)));
        let ffmpeg = facts(1, 1, "ffmpeg");
        assert_eq!(chain.decide(&ffmpeg, 0), Decision::Later { age_ms: 200 });
        chain.open(2, Box::new(TestRules::governing(&["ffmpeg"], "now")));
        assert!(matches!(chain.decide(&ffmpeg, 0), Decision::Govern(_)));
        assert!(matches!(
            chain.decide(&facts(1, 1, "sh"), 0),
            Decision::Ignore { .. }
        ));
    }

    #[test]
    fn no_rules_at_all_is_a_reason_of_its_own() {
        let chain = Chain::default();
        assert_eq!(
            chain.decide(&facts(1, 1, "ffmpeg"), 0),
            Decision::Ignore {
                why: "no rules are in force".to_owned()
            }
        );
        assert!(!chain.wide());
    }
}
