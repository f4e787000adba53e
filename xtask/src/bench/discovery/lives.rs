//! What the referee saw, joined by pid into lives: an exec, the moves that followed, the end. Pure.
//!
//! A verdict needs nothing a daemon says. A process that has ended can still be moved while nobody has waited for it;
//! such a move limits nothing and counts as late, as does a placement of which a part came late.

use std::collections::HashMap;

/// One tracepoint that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    /// Nanoseconds of the monotonic clock.
    pub(super) at_ns: u64,
    /// The process.
    pub(super) pid: u32,
    /// What happened to it.
    pub(super) what: What,
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// It executed the program that is looked for.
    Execed,
    /// It was moved into a group of the contender's, in the hierarchy of this number.
    Moved {
        /// As in the first column of /proc/self/cgroup.
        hierarchy: u32,
    },
    /// It ended.
    Exited,
}

/// From an exec to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// The process.
    pub(super) pid: u32,
    /// When it executed the program.
    pub(super) exec_ns: u64,
    /// Each move, with its hierarchy.
    moves: Vec<(u64, u32)>,
    /// When it ended; `None` for one that was still there at the end.
    pub(super) exit_ns: Option<u64>,
}

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// In its group while it lived; microseconds after its exec, negative for a move that came before the exec.
    Placed(f64),
    /// Moved, wholly or in part, after it had ended.
    Late,
    /// Never moved.
    Missed,
}

impl Life {
    /// Judged by the last move in any hierarchy: a process is placed when all of it is.
    pub(super) fn verdict(&self) -> Verdict {
        self.judged(|_| true)
    }

    /// Judged by the moves of one hierarchy alone, which is where a limit comes into force.
    pub(super) fn verdict_in(&self, hierarchy: u32) -> Verdict {
        self.judged(|moved| moved == hierarchy)
    }

    fn judged(&self, counts: impl Fn(u32) -> bool) -> Verdict {
        let moves = self.moves.iter().filter(|(_, hierarchy)| counts(*hierarchy));
        match (moves.map(|(at, _)| *at).max(), self.exit_ns) {
            (None, _) => Verdict::Missed,
            (Some(last), Some(exit)) if last > exit => Verdict::Late,
            (Some(last), _) => Verdict::Placed(micros(self.exec_ns, last)),
        }
    }

    /// Microseconds from the exec to a moment.
    pub(super) fn until(&self, at_ns: u64) -> f64 {
        micros(self.exec_ns, at_ns)
    }
}

/// Microseconds between two moments, negative when the second is the earlier one.
fn micros(from_ns: u64, to_ns: u64) -> f64 {
    (to_ns as f64 - from_ns as f64) / 1e3
}

/// Joins events in any order. A pid that executes again without having ended is the same process in another image, and
/// keeps its first exec.
pub(super) fn join(mut events: Vec<Event>) -> Vec<Life> {
    events.sort_by_key(|event| event.at_ns);
    let mut lives: Vec<Life> = Vec::new();
    let mut open: HashMap<u32, usize> = HashMap::new();
    // Moves of a process whose exec has not come yet: that is what an exec gate does.
    let mut early: HashMap<u32, Vec<(u64, u32)>> = HashMap::new();
    for Event { at_ns, pid, what } in events {
        let known = open.get(&pid).copied();
        let ended = known.is_some_and(|index| lives[index].exit_ns.is_some());
        match what {
            What::Execed if known.is_none() || ended => {
                open.insert(pid, lives.len());
                lives.push(Life {
                    pid,
                    exec_ns: at_ns,
                    moves: early.remove(&pid).unwrap_or_default(),
                    exit_ns: None,
                });
            }
            What::Execed => {}
            What::Moved { hierarchy } => match known {
                Some(index) => lives[index].moves.push((at_ns, hierarchy)),
                None => early.entry(pid).or_default().push((at_ns, hierarchy)),
            },
            What::Exited => {
                if let Some(index) = known {
                    lives[index].exit_ns = lives[index].exit_ns.or(Some(at_ns));
                }
            }
        }
    }
    lives
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ns: u64, pid: u32, what: What) -> Event {
        Event { at_ns, pid, what }
    }

    fn moved(at_ns: u64, pid: u32, hierarchy: u32) -> Event {
        event(at_ns, pid, What::Moved { hierarchy })
    }

    #[test]
    fn verdicts_follow_the_order_of_the_last_move_and_the_end() {
        let lives = join(vec![
            event(1_000, 1, What::Execed),
            moved(6_000, 1, 1),
            moved(9_000, 1, 2),
            event(20_000, 1, What::Exited),
            event(1_000, 2, What::Execed),
            moved(2_000, 2, 1),
            event(3_000, 2, What::Exited),
            moved(4_000, 2, 2),
            event(1_000, 3, What::Execed),
        ]);
        let verdicts: Vec<_> = lives.iter().map(Life::verdict).collect();
        assert_eq!(verdicts, [Verdict::Placed(8.0), Verdict::Late, Verdict::Missed]);
        assert_eq!(lives[0].verdict_in(1), Verdict::Placed(5.0));
        assert_eq!(lives[1].verdict_in(1), Verdict::Placed(1.0));
        assert_eq!(lives[1].verdict_in(7), Verdict::Missed);
    }

    #[test]
    fn a_pid_that_comes_again_is_another_life() {
        let lives = join(vec![
            event(1_000, 1, What::Execed),
            event(2_000, 1, What::Exited),
            event(3_000, 1, What::Execed),
            moved(4_000, 1, 1),
        ]);
        assert_eq!(lives.len(), 2);
        assert_eq!(lives[0].verdict(), Verdict::Missed);
        assert_eq!(lives[1].verdict(), Verdict::Placed(1.0));
    }

    #[test]
    fn a_move_before_the_exec_is_placed_in_time_that_is_negative() {
        let lives = join(vec![moved(1_000, 1, 1), event(3_000, 1, What::Execed)]);
        assert_eq!(lives[0].verdict(), Verdict::Placed(-2.0));
    }

    #[test]
    fn another_image_is_no_other_life() {
        let lives = join(vec![
            event(1_000, 1, What::Execed),
            event(2_000, 1, What::Execed),
            moved(4_000, 1, 1),
        ]);
        assert_eq!(lives.len(), 1);
        assert_eq!(lives[0].verdict(), Verdict::Placed(3.0));
    }
}
