//! The lifecycle of a job, as a table: which state follows which, and what may happen when.
//!
//! This file owns the triggers and [`after`]; it knows nothing of attempts, nodes or rows. A pair the table does not
//! list is refused: the store answers a conflict and changes nothing. The complete matrix and its drawing are snapshots
//! (`docs/generated/scheduler-lifecycle.md`), so that a changed transition shows up in review.

use ffrtmp_api::JobState;

/// What moves a job from state to state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trigger {
    /// A node was given it.
    Granted,
    /// The node gave it back untouched, or never had it.
    Returned,
    /// The node said that its process runs.
    Started,
    /// A result was accepted.
    Succeeded,
    /// It failed and will not be tried again.
    Failed,
    /// It failed through no fault of its own and will be tried again.
    Retried,
    /// It made no progress for too long, or its own time limit passed.
    TimedOut,
    /// Its next try is due.
    Due,
    /// Somebody cancelled it.
    Canceled,
    /// No node can ever run it.
    Rejected,
    /// Somebody asked for another try of a job that was over.
    Reopened,
}

/// The state after `trigger`, or `None` when it may not happen here.
///
/// A job waits in `timed_out` until the node has confirmed that the process is gone, or is itself lost; only then is it
/// tried again or failed. That is why no other node can be given it in between.
pub fn after(state: JobState, trigger: Trigger) -> Option<JobState> {
    use JobState::{Assigned, Canceled, Completed, Failed, Queued, Rejected, Retrying, Running, TimedOut};
    match (trigger, state) {
        (Trigger::Granted, Queued) => Some(Assigned),
        (Trigger::Returned, Assigned)
        | (Trigger::Due, Retrying)
        | (Trigger::Reopened, Failed | Canceled | Rejected) => Some(Queued),
        (Trigger::Started, Assigned) => Some(Running),
        (Trigger::Succeeded, Running) => Some(Completed),
        (Trigger::Failed, Assigned | Running | Retrying | TimedOut) => Some(Failed),
        (Trigger::Retried, Assigned | Running | TimedOut) => Some(Retrying),
        (Trigger::TimedOut, Assigned | Running) => Some(TimedOut),
        (Trigger::Canceled, Queued | Assigned | Running | Retrying | TimedOut) => Some(Canceled),
        (Trigger::Rejected, Queued) => Some(Rejected),
        (
            Trigger::Granted
            | Trigger::Returned
            | Trigger::Started
            | Trigger::Succeeded
            | Trigger::Failed
            | Trigger::Retried
            | Trigger::TimedOut
            | Trigger::Due
            | Trigger::Canceled
            | Trigger::Rejected
            | Trigger::Reopened,
            Queued | Assigned | Running | Retrying | TimedOut | Completed | Failed | Canceled | Rejected,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const TRIGGERS: [Trigger; 11] = [
        Trigger::Granted,
        Trigger::Returned,
        Trigger::Started,
        Trigger::Succeeded,
        Trigger::Failed,
        Trigger::Retried,
        Trigger::TimedOut,
        Trigger::Due,
        Trigger::Canceled,
        Trigger::Rejected,
        Trigger::Reopened,
    ];

    fn matrix() -> String {
        let mut text = String::from("| trigger |");
        for state in JobState::ALL {
            let _ = write!(text, " {state} |");
        }
        text.push_str("\n| --- |");
        text.push_str(&" --- |".repeat(JobState::ALL.len()));
        text.push('\n');
        for trigger in TRIGGERS {
            let _ = write!(text, "| {trigger:?} |");
            for &state in JobState::ALL {
                match after(state, trigger) {
                    Some(next) => {
                        let _ = write!(text, " → {next} |");
                    }
                    None => text.push_str(" refused |"),
                }
            }
            text.push('\n');
        }
        text
    }

    fn mermaid() -> String {
        let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> queued\n");
        for &state in JobState::ALL {
            for &next in JobState::ALL {
                let by: Vec<String> = TRIGGERS
                    .into_iter()
                    .filter(|&trigger| after(state, trigger) == Some(next))
                    .map(|trigger| format!("{trigger:?}"))
                    .collect();
                if !by.is_empty() {
                    let _ = writeln!(text, "    {state} --> {next}: {}", by.join(", "));
                }
            }
        }
        text.push_str("    completed --> [*]\n```\n");
        text
    }

    fn page() -> String {
        format!(
            "# Lifecycle of a job in the queue\n\nGenerated from `scheduler/src/core/lifecycle.rs`; the test \
             `the_lifecycle_page_is_fresh` compares it.\nWhat is refused is answered 409 and changes nothing.\n\n{}\n{}",
            mermaid(),
            matrix()
        )
    }

    #[test]
    fn the_complete_matrix_is_as_reviewed() {
        insta::assert_snapshot!(matrix());
    }

    #[test]
    fn the_lifecycle_page_is_fresh() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/generated/scheduler-lifecycle.md"
        );
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            page(),
            found,
            "docs/generated/scheduler-lifecycle.md is stale; replace it by the left side"
        );
    }

    #[test]
    fn only_an_explicit_retry_leaves_a_final_state_and_nothing_leaves_completed() {
        for &state in JobState::ALL {
            for trigger in TRIGGERS {
                if state.terminal() && trigger != Trigger::Reopened {
                    assert_eq!(after(state, trigger), None, "{state} {trigger:?}");
                }
            }
        }
        assert_eq!(after(JobState::Completed, Trigger::Reopened), None);
    }

    #[test]
    fn every_state_is_reached_from_queued_and_can_reach_an_end() {
        let reach = |from: JobState| {
            let mut seen = vec![from];
            let mut next = 0;
            while let Some(&state) = seen.get(next) {
                for trigger in TRIGGERS {
                    if let Some(to) = after(state, trigger)
                        && !seen.contains(&to)
                    {
                        seen.push(to);
                    }
                }
                next += 1;
            }
            seen
        };
        assert_eq!(reach(JobState::Queued).len(), JobState::ALL.len());
        for &state in JobState::ALL {
            assert!(
                reach(state).iter().any(|state| state.terminal()),
                "{state} is a dead end"
            );
        }
    }
}
