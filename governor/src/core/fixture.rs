//! What the tests of the core share: facts, rules as a table, requests.

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{Intent, Limits};
use jiff::Timestamp;

use super::CoreSettings;
use super::chain::Rules;
use super::event::{ExitFacts, KernelUsage};
use super::facts::{Found, ProcessFacts};
use super::rule::{Action, Decision, Needs, OnForeignMove, PlacementMode};
use crate::control::types::AttachRequest;

/// Facts of a process whose start is also its key's.
pub(super) fn facts(pid: u32, started_ns: u64, name: &str) -> ProcessFacts {
    ProcessFacts {
        key: ProcessKey::new(pid, started_ns),
        found: Found::Exec,
        started_ns,
        ppid: 1,
        uid: 1000,
        user: None,
        basename: name.to_owned(),
        filename: format!("/usr/bin/{name}"),
        argv: Some(vec![name.to_owned(), "-i".to_owned(), "in.mp4".to_owned()]),
        parent: None,
        cwd: None,
        cgroup: None,
        container: None,
    }
}

/// Settings whose clocks start at the epoch.
pub(super) fn settings() -> CoreSettings {
    CoreSettings::new("kernel", Timestamp::UNIX_EPOCH)
}

/// Limits with a quota and a memory limit.
pub(super) fn limits() -> Limits {
    Limits {
        cpu_max: ffrtmp_api::CpuMax::from_percent(50),
        memory_max: Some(64 << 20),
        ..Limits::default()
    }
}

/// A request to attach to a pid.
pub(super) fn attach_request(pid: u32) -> AttachRequest {
    AttachRequest {
        pid,
        found: Found::Attach,
        job_id: None,
        limits: Limits::default(),
        intent: Intent::Production,
        sla_eligible: false,
        timeout_ms: None,
        placement: None,
        command: None,
    }
}

/// An exit with this wait status.
pub(super) fn exit(at_ns: u64, status: i32) -> ExitFacts {
    ExitFacts {
        at_ns,
        status: Some(status),
        usage: sums(),
        ..ExitFacts::default()
    }
}

/// Sums such as the kernel tier gives.
pub(super) fn sums() -> KernelUsage {
    KernelUsage {
        run_ns: Some(2_000_000),
        utime_ns: Some(1_000_000),
        stime_ns: Some(1_000_000),
        read_bytes: Some(4096),
        write_bytes: Some(512),
        nvcsw: Some(1),
        nivcsw: Some(2),
        processes: Some(1),
    }
}

/// Rules as a table: a basename and what it gets; the first line wins.
#[derive(Debug, Clone, Default)]
pub(super) struct TestRules {
    lines: Vec<(String, u64, Action)>,
}

impl TestRules {
    /// Governs these names in one class.
    pub(super) fn governing(names: &[&str], class: &str) -> Self {
        names
            .iter()
            .fold(Self::default(), |rules, name| rules.and(name, 0, action(class)))
    }

    /// Governs a name once it is this old.
    pub(super) fn waiting(name: &str, age_ms: u64) -> Self {
        Self::default().and(name, age_ms, action("late"))
    }

    /// One more line.
    pub(super) fn and(mut self, name: &str, age_ms: u64, action: Action) -> Self {
        self.lines.push((name.to_owned(), age_ms, action));
        self
    }
}

/// An action with limits, in a class; the rule is named after it.
pub(super) fn action(class: &str) -> Action {
    Action {
        rule: format!("{class}-rule"),
        class: class.to_owned(),
        limits: limits(),
        placement: None,
        intent: Intent::Production,
        sla_eligible: true,
        on_foreign_move: OnForeignMove::default(),
    }
}

/// The same, undoing moves by others.
pub(super) fn restoring(class: &str) -> Action {
    Action {
        on_foreign_move: OnForeignMove::Restore,
        ..action(class)
    }
}

/// The same with a placement.
pub(super) fn placed(class: &str, mode: PlacementMode) -> Action {
    Action {
        placement: Some(mode),
        ..action(class)
    }
}

impl Rules for TestRules {
    fn decide(&self, facts: &ProcessFacts, age_ms: u64) -> Decision {
        let line = self.lines.iter().find(|(name, _, _)| *name == facts.basename);
        match line {
            Some((_, at_ms, _)) if age_ms < *at_ms => Decision::Later { age_ms: *at_ms },
            Some((_, _, action)) => Decision::Govern(action.clone()),
            None => Decision::Ignore {
                why: format!("no rule names `{}`", facts.basename),
            },
        }
    }

    fn names(&self) -> Vec<String> {
        self.lines.iter().map(|(name, _, _)| name.clone()).collect()
    }

    fn wide(&self) -> bool {
        false
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn count(&self) -> usize {
        self.lines.len()
    }
}
