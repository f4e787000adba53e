//! The lifecycle of a job, as a table: which state follows which, and what may happen when.
//!
//! This file owns the states, the triggers and [`State::after`]; it knows nothing of processes, groups or effects. A
//! pair the table does not list is a stray: the governor counts it and changes nothing. The complete matrix and its
//! drawing are snapshots (`docs/generated/job-lifecycle.md`), so that a changed transition shows up in review.

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Judged, nothing ordered yet. No job stays here.
    New,
    /// A placement was ordered and not yet answered.
    Placing,
    /// Its limits are in force.
    Governed,
    /// Followed to its exit, nothing changed.
    Observed,
    /// The placement failed; followed to its exit where it was.
    Unplaced,
    /// Its first process ended, others live on.
    Draining,
    /// Its last process ended; the group is being read and removed.
    Retiring,
    /// The final record is with the ledger.
    Closed,
    /// The final record is on disk and the kernel's was dropped.
    Gone,
}

/// What moves a job from state to state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trigger {
    /// We ordered its placement.
    Ordered,
    /// We decided to follow it only.
    Followed,
    /// The host placed it.
    Placed,
    /// The host could not place it.
    PlaceFailed,
    /// A process of it executed another program.
    Reexeced,
    /// Somebody else moved a process of it.
    Moved,
    /// We ordered its release.
    ReleaseOrdered,
    /// The host undid its placement.
    Released,
    /// We ordered its end, because its time limit passed or somebody cancelled it.
    EndOrdered,
    /// Its first process ended.
    Exited,
    /// Its last process ended.
    Drained,
    /// The host read its group for the last time.
    Retired,
    /// The ledger has its final record.
    Saved,
}

impl State {
    /// The state after `trigger`, or `None` when it may not happen here.
    ///
    /// The host answers the orders for one job in the order they were given, so the answer to a placement may still
    /// arrive while a process that lived microseconds is already draining or retiring: it is recorded and changes no
    /// state. The same holds for an exit that a resync delivers after the drain.
    pub fn after(self, trigger: Trigger) -> Option<Self> {
        use State::{Closed, Draining, Gone, Governed, New, Observed, Placing, Retiring, Unplaced};
        match (trigger, self) {
            (Trigger::Ordered, New | Placing | Governed | Observed | Unplaced) => Some(Placing),
            (Trigger::Placed, Placing | Governed | Observed | Unplaced) => Some(Governed),
            (Trigger::PlaceFailed, Placing | Governed | Observed | Unplaced) => Some(Unplaced),
            (Trigger::Followed, New | Observed | Unplaced)
            | (Trigger::Released, Governed | Observed | Unplaced) => Some(Observed),
            (Trigger::Exited, Placing | Governed | Observed | Unplaced | Draining) => Some(Draining),
            (Trigger::Drained, Placing | Governed | Observed | Unplaced | Draining) => Some(Retiring),
            (Trigger::Retired, Retiring) => Some(Closed),
            (Trigger::Saved, Closed) => Some(Gone),
            (Trigger::Placed | Trigger::PlaceFailed, Draining | Retiring)
            | (Trigger::Released, Placing | Draining | Retiring)
            | (Trigger::Exited, Retiring)
            | (
                Trigger::Reexeced | Trigger::Moved | Trigger::ReleaseOrdered | Trigger::EndOrdered,
                Placing | Governed | Observed | Unplaced | Draining,
            ) => Some(self),
            (
                Trigger::Ordered
                | Trigger::Followed
                | Trigger::Placed
                | Trigger::PlaceFailed
                | Trigger::Reexeced
                | Trigger::Moved
                | Trigger::ReleaseOrdered
                | Trigger::Released
                | Trigger::EndOrdered
                | Trigger::Exited
                | Trigger::Drained
                | Trigger::Retired
                | Trigger::Saved,
                New | Placing | Governed | Observed | Unplaced | Draining | Retiring | Closed | Gone,
            ) => None,
        }
    }

    /// True while some process of the job may live.
    pub fn live(self) -> bool {
        matches!(
            self,
            Self::Placing | Self::Governed | Self::Observed | Self::Unplaced | Self::Draining
        )
    }

    /// The word that `ps` and the API show.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Placing => "placing",
            Self::Governed => "governed",
            Self::Observed => "observed",
            Self::Unplaced => "unplaced",
            Self::Draining => "draining",
            Self::Retiring => "retiring",
            Self::Closed | Self::Gone => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const STATES: [State; 9] = [
        State::New,
        State::Placing,
        State::Governed,
        State::Observed,
        State::Unplaced,
        State::Draining,
        State::Retiring,
        State::Closed,
        State::Gone,
    ];

    const TRIGGERS: [Trigger; 13] = [
        Trigger::Ordered,
        Trigger::Followed,
        Trigger::Placed,
        Trigger::PlaceFailed,
        Trigger::Reexeced,
        Trigger::Moved,
        Trigger::ReleaseOrdered,
        Trigger::Released,
        Trigger::EndOrdered,
        Trigger::Exited,
        Trigger::Drained,
        Trigger::Retired,
        Trigger::Saved,
    ];

    fn matrix() -> String {
        let mut text = String::from("| trigger |");
        for state in STATES {
            let _ = write!(text, " {state:?} |");
        }
        text.push_str("\n| --- |");
        text.push_str(&" --- |".repeat(STATES.len()));
        text.push('\n');
        for trigger in TRIGGERS {
            let _ = write!(text, "| {trigger:?} |");
            for state in STATES {
                let cell = match state.after(trigger) {
                    Some(next) if next == state => "stays".to_owned(),
                    Some(next) => format!("→ {next:?}"),
                    None => "stray".to_owned(),
                };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        text
    }

    fn mermaid() -> String {
        let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> New\n");
        for state in STATES {
            for next in STATES {
                let by: Vec<String> = TRIGGERS
                    .into_iter()
                    .filter(|&trigger| next != state && state.after(trigger) == Some(next))
                    .map(|trigger| format!("{trigger:?}"))
                    .collect();
                if !by.is_empty() {
                    let _ = writeln!(text, "    {state:?} --> {next:?}: {}", by.join(", "));
                }
            }
        }
        text.push_str("    Gone --> [*]\n```\n");
        text
    }

    fn page() -> String {
        format!(
            "# Lifecycle of a job\n\nGenerated from `governor/src/core/job.rs`; the test \
             `the_lifecycle_page_is_fresh` compares it.\nA stray is counted and changes nothing.\n\n{}\n{}",
            mermaid(),
            matrix()
        )
    }

    #[test]
    fn the_complete_matrix_is_as_reviewed() {
        insta::assert_snapshot!(matrix());
    }

    #[test]
    fn the_drawing_is_as_reviewed() {
        insta::assert_snapshot!(mermaid());
    }

    #[test]
    fn the_lifecycle_page_is_fresh() {
        assert_eq!(
            page(),
            include_str!("../../../docs/generated/job-lifecycle.md"),
            "docs/generated/job-lifecycle.md is stale; replace it by the left side"
        );
    }

    #[test]
    fn every_state_is_reached_from_new_and_reaches_gone() {
        let reach = |from: State| {
            let mut seen = vec![from];
            let mut next = 0;
            while let Some(&state) = seen.get(next) {
                for trigger in TRIGGERS {
                    if let Some(to) = state.after(trigger)
                        && !seen.contains(&to)
                    {
                        seen.push(to);
                    }
                }
                next += 1;
            }
            seen
        };
        assert_eq!(reach(State::New).len(), STATES.len());
        for state in STATES {
            assert!(reach(state).contains(&State::Gone), "{state:?} is a dead end");
        }
        assert_eq!(reach(State::Gone), vec![State::Gone]);
    }

    #[test]
    fn a_job_whose_last_process_ended_never_lives_again() {
        for state in [State::Retiring, State::Closed, State::Gone] {
            for trigger in TRIGGERS {
                assert!(state.after(trigger).is_none_or(|next| !next.live()));
            }
        }
    }
}
