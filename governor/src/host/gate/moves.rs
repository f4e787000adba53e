//! How long the gate held the execs that it moved: its own work, without the wake-ups before and after. Pure.

use std::collections::VecDeque;

use crate::control::types::GateMoves;

/// How many are remembered.
const LAST: usize = 1024;

/// The last moves, ns each.
#[derive(Debug, Default)]
pub(super) struct Moves(VecDeque<u64>);

impl Moves {
    pub(super) fn push(&mut self, took_ns: u64) {
        if self.0.len() == LAST {
            self.0.pop_front();
        }
        self.0.push_back(took_ns);
    }

    /// Nearest ranks; nothing before the first move.
    pub(super) fn summary(&self) -> Option<GateMoves> {
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            Some(sorted.get(rank.checked_sub(1)?)? / 1000)
        };
        Some(GateMoves {
            last: sorted.len(),
            p50_us: rank(50)?,
            p99_us: rank(99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moves_are_summed_up_and_older_ones_forgotten() {
        let mut moves = Moves::default();
        assert_eq!(moves.summary(), None);
        moves.push(70_900);
        let one = GateMoves {
            last: 1,
            p50_us: 70,
            p99_us: 70,
        };
        assert_eq!(moves.summary(), Some(one));
        (0..LAST as u64).for_each(|us| moves.push(us * 1000));
        let all = GateMoves {
            last: LAST,
            p50_us: 511,
            p99_us: 1013,
        };
        assert_eq!(moves.summary(), Some(all));
    }
}
