//! The words that the governor, the scheduler and the command line share.
//!
//! This crate is a leaf: it knows serde and nothing else of the project. Every identifier is parsed once, at the
//! edge, and is valid from then on; every quantity that may be unknown is an `Option`, because absent is not zero.

mod id;
mod intent;
mod limits;
mod outcome;
mod report;

pub use id::{JobId, JobIdError};
pub use intent::Intent;
pub use limits::{CpuMax, IoClass, IoPriority, LimitError, Limits};
pub use outcome::{ExitReason, OomScope, Sender, SlaVerdict, Usage};
pub use report::{Energy, LimitOutcome, LimitsReport, PlacementReport, Report};
