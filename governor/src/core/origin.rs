//! Where a process was before we touched it, as plain data: noted by the host, kept by the core, stored in the ledger.

use serde::{Deserialize, Serialize};

/// The attributes of one process as they stand. `None` where they could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Nice of its first thread.
    pub nice: Option<i32>,
    /// `ioprio_get` of its first thread, undecoded, because class "none" must come back as it was.
    pub io_priority: Option<i32>,
    /// Out-of-memory score.
    pub oom_score_adj: Option<i32>,
}

/// A process as it was. Stored with the job, so that a later governor can undo what an earlier one did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Hierarchy by its stable name, and the group as /proc/PID/cgroup listed it.
    pub groups: Vec<(String, String)>,
    /// Nice, disk priority, out-of-memory score.
    pub attributes: Attributes,
}
