//! The scheduler's brain: who may run what, what follows what, and why something waits.
//!
//! Nothing here does IO, reads a clock or draws random numbers: every decision is a function of what it is given. The
//! store writes a decision down first and then tells the [`Book`](book::Book); when the disk refuses, the book is
//! read anew from the disk, which stays the only truth.

pub mod blocklist;
pub mod book;
pub mod choose;
pub mod explain;
pub mod failure;
pub mod fleet;
pub mod inventory;
pub mod lifecycle;
pub mod live;
pub mod needs;
pub mod policy;
pub mod ready;
pub mod sla;

/// One moment on the two clocks that matter. Recorded times are wall time; every wait is measured on the boot clock,
/// which runs on through a suspend and never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// Milliseconds since boot.
    pub boot_ms: u64,
}

impl Moment {
    /// How long ago `earlier` was, in milliseconds; 0 when it is still to come.
    pub fn since(self, earlier_boot_ms: u64) -> u64 {
        self.boot_ms.saturating_sub(earlier_boot_ms)
    }
}

/// Number of a class of equal needs.
pub type ClassId = i64;

/// Number of a tenant; 0 is "no tenant".
pub type TenantId = i64;

/// Number of a job.
pub type Seq = i64;
