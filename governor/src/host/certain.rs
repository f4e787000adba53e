//! What the kernel's own record says of a process for certain, so that nobody has to look at /proc.
//!
//! A record says that its process has ended before its pid is free again. What lower tiers know was read at some time, and
//! is certain of nothing.

use ffrtmp_abi::{ProcessKey, Record, state};

use super::source::Source;

impl Source {
    /// True when the process has not ended.
    pub fn surely_lives(&self, key: ProcessKey) -> bool {
        self.live_record(key).is_some()
    }

    /// True when the job has one process, the first. A walk over all members, which tells of the others, takes 100 µs.
    pub fn lives_alone(&self, key: ProcessKey) -> bool {
        self.live_record(key).is_some_and(|record| record.live == 1)
    }

    fn live_record(&self, key: ProcessKey) -> Option<Record> {
        match self {
            Self::Kernel(..) => self.record(key).filter(|record| record.state == state::LIVE),
            Self::Followed(_) => None,
        }
    }
}
