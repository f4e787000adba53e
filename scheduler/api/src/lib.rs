//! The words that the governor, the scheduler and the command line share.
//!
//! This crate is a leaf: it knows serde and nothing else of the project. Every identifier is parsed once, at the
//! edge, and is valid from then on; every quantity that may be unknown is an `Option`, because absent is not zero.

mod access;
mod attempt;
mod constraint;
mod explain;
mod id;
mod ident;
mod intent;
mod job;
mod limits;
mod node;
mod object;
mod outcome;
mod page;
mod problem;
mod queue;
mod report;
mod request;
mod scenario;
mod state;
mod whoami;

pub use access::{
    BackupDone, BackupRequest, CaView, CertificateIssued, CertificateRequest, Health, JobActed, JobLogs,
    JoinRequest, Joined, KeyCreated, KeyList, KeyRequest, KeyView, NodeList, NodeRemoved, ReportRequest,
    RotateRequest, Scope, Submitted, TenantEdit, TenantList, TokenCreated, TokenList, TokenRequest,
    TokenView,
};
pub use attempt::{
    Action, Attempt, AttemptReport, AttemptResult, ClaimRequest, ClaimResponse, Grant, Heartbeat,
    HeartbeatAnswer, HeldAttempt, NodeLoad, Order, Orders, Progress, ReportAnswer, ResultStatus,
    output_suffix,
};
pub use constraint::{ResourceLimits, WrapperConstraints};
pub use explain::{BandDepth, Explanation, NodeVerdict, Stats, Tenant, WaitReason};
pub use id::{JobId, JobIdError};
pub use ident::{AttemptKey, Epoch, JobRef, JobRefError, JobUuid, NodeId, NodeIdError};
pub use intent::Intent;
pub use job::{BatchResponse, ItemOutcome, Job, JobEdit, JobEvent, JobList, StateTransition};
pub use limits::{CpuMax, IoClass, IoPriority, LimitError, Limits};
pub use node::{BlockedClass, Node, NodeInfo, NodeIntent};
pub use object::{object, objects, optional_object};
pub use outcome::{ExitReason, OomScope, Sender, SlaVerdict, Usage};
pub use page::{Cursor, CursorError, JobFilter, Paging};
pub use problem::{ErrorCode, FieldError, Problem, StaleAdvice};
pub use queue::{Band, Classification, Engine, Priority, Queue, UnknownWord};
pub use report::{Energy, LimitBreach, LimitOutcome, LimitsReport, PlacementReport, Report};
pub use request::{BatchRequest, JobRequest, Needs};
pub use scenario::{Codec, HARDWARE, Scenario, bitrate};
pub use state::{AttemptEnd, AttemptPhase, FailureReason, JobState, NodeStatus};
pub use whoami::{CallerKind, WhoAmI};
