//! Flags of `ffrtmp jobs`. Words of closed lists are checked here; what a scenario may be called is checked by
//! [`ffrtmp_api::JobRequest::validate`], the same code as the scheduler's.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use ffrtmp_api::{Classification, Engine, JobRef, JobState, NodeId, Priority, Queue};
use jiff::Timestamp;

use crate::client::args::Remote;

/// Printed below the help of verbs that wait for a job.
const OUTCOMES: &str =
    "Exit status with --wait or --follow: 0 completed, 10 ended otherwise; see `ffrtmp jobs --help`.";
/// Printed below the help of `jobs`.
const AFTER_HELP: &str = "\
Exit status: 0 done; 1 refused, the message says why; 2 wrong command line, file or context;
5 no scheduler answers, or it is not trusted; 6 the key is missing, wrong or may not; 7 no such job;
8 the job's state does not allow it; 9 part of the batch was refused; 10 a job that was waited for did
not complete; 11 the scheduler is busy or its disk is full; 130 Ctrl-C ended the waiting, not the job.";

/// `jobs` and its verbs.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct JobsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: JobsVerb,
    /// Which scheduler.
    #[command(flatten)]
    pub remote: Remote,
}

/// Verbs of `jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsVerb {
    /// Submit one job, or many out of a file or a pattern
    Submit(Box<SubmitArgs>),
    /// Show one job, or the newest ones
    Status(StatusArgs),
    /// List jobs, newest first
    List(ListArgs),
    /// Print what happens to jobs as it happens
    Watch(WatchArgs),
    /// Print the last lines of a job's attempts
    Logs(OneArgs),
    /// Say why a job waits, and when it may start
    Explain(OneArgs),
    /// End jobs
    Cancel(ManyArgs),
    /// Queue jobs that have ended once more
    Retry(ManyArgs),
    /// Freeze the processes of jobs, or keep them from starting
    Pause(ManyArgs),
    /// Undo pause and hold
    Resume(ManyArgs),
    /// Keep jobs from starting
    Hold(ManyArgs),
    /// Change a job that waits
    Edit(EditArgs),
}

/// A job.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The job: its id or its number
    #[arg(value_name = "JOB")]
    pub job: JobRef,
}

/// Some jobs.
#[derive(Debug, Args)]
pub struct ManyArgs {
    /// The jobs: ids or numbers
    #[arg(value_name = "JOB", required = true)]
    pub jobs: Vec<JobRef>,
}

/// Flags of `submit`.
#[derive(Debug, Default, Args)]
#[command(after_help = OUTCOMES, group = ArgGroup::new("many").args(["file", "glob"]))]
pub struct SubmitArgs {
    /// What to produce, for instance 1080p-h264
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub scenario: Option<String>,
    /// What the job is like; the other flags.
    #[command(flatten)]
    pub job: JobFlags,
    /// Submit the jobs of this file, one a line: NDJSON, or CSV with a header line; - is standard input. The other flags
    /// hold for lines that do not say
    #[arg(short, long, value_name = "PATH", help_heading = "Many jobs")]
    pub file: Option<PathBuf>,
    /// What is in the file [default: by its ending; ndjson for standard input]
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        requires = "file",
        help_heading = "Many jobs"
    )]
    pub format: Option<FileFormat>,
    /// Submit a job for each file that matches, as its parameter `input`; in other parameters {path}, {dir}, {name} and {stem}
    /// stand for parts of its path
    #[arg(long, value_name = "PATTERN", help_heading = "Many jobs")]
    pub glob: Option<String>,
    /// Check and show what would be submitted; send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until every job has ended
    #[arg(long)]
    pub wait: bool,
    /// Wait, and show how far the jobs are
    #[arg(long)]
    pub follow: bool,
    /// The same key with the same jobs submits nothing twice [default: a new one]
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// How a file of jobs is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// A JSON object a line
    Ndjson,
    /// A header line and a job a line
    Csv,
}

/// What one job is like.
#[derive(Debug, Default, Args)]
pub struct JobFlags {
    /// Seconds of media to produce, or with a unit: 90, 5m
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub duration: Option<u64>,
    /// Bits a second, for instance 5M
    #[arg(long, value_name = "RATE")]
    pub bitrate: Option<String>,
    /// Kept and shown [default: auto]
    #[arg(long, value_name = "TEXT")]
    pub confidence: Option<String>,
    /// Program: auto, ffmpeg, gstreamer [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<Engine>,
    /// Encoder to insist on, for instance `h264_nvenc`
    #[arg(long, value_name = "NAME")]
    pub encoder: Option<String>,
    /// Line to stand in: live, default, batch [default: default]
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<Queue>,
    /// Order in the line: live, high, medium, low, batch [default: medium]
    #[arg(long, value_name = "PRIORITY")]
    pub priority: Option<Priority>,
    /// What it is for: production, test, benchmark, debug [default: production]
    #[arg(long, value_name = "KIND")]
    pub classification: Option<Classification>,
    /// Whether it counts towards the SLA [default: decided by what it is]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sla_eligible: Option<bool>,
    /// CPU limit, percent of one core: 200 is two cores
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub cpu_limit: Option<u32>,
    /// Memory limit, MB
    #[arg(long, value_name = "MB", allow_negative_numbers = true)]
    pub memory_limit: Option<u32>,
    /// End it after this long, seconds or with a unit
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub timeout: Option<u64>,
    /// Parameter of the job, for instance input=/media/a.mp4; numbers, true and false are taken as such
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = pair)]
    pub params: Vec<(String, String)>,
    /// Label that a node must have
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// Slots of a node it takes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub slots: Option<u32>,
    /// Tenant it belongs to
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Tries after faults of the platform [default: the scheduler's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_retries: Option<u32>,
    /// Wait in the queue until somebody resumes it
    #[arg(long)]
    pub hold: bool,
}

/// Flags of `status`.
#[derive(Debug, Args)]
#[command(after_help = OUTCOMES)]
pub struct StatusArgs {
    /// The job: its id or its number; the newest jobs when left out
    #[arg(value_name = "JOB")]
    pub job: Option<JobRef>,
    /// Wait until it has ended
    #[arg(long, requires = "job")]
    pub wait: bool,
    /// Wait, and show how far it is
    #[arg(long, requires = "job")]
    pub follow: bool,
}

/// Flags of `list`.
#[derive(Debug, Default, Args)]
pub struct ListArgs {
    /// In one of these states: queued, assigned, running, retrying, `timed_out`, completed, failed, canceled, rejected
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state)]
    pub status: Vec<JobState>,
    /// In this queue
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<Queue>,
    /// Of this priority
    #[arg(long, value_name = "PRIORITY")]
    pub priority: Option<Priority>,
    /// Asked for this engine
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<Engine>,
    /// Of this scenario, exactly
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<String>,
    /// Last given to this node
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeId>,
    /// Of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Submitted at or after this time, for instance 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub created_after: Option<Timestamp>,
    /// Submitted before this time
    #[arg(long, value_name = "TIME")]
    pub created_before: Option<Timestamp>,
    /// Jobs at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// All that match
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// Flags of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The job: its id or its number, until it has ended; all jobs, without end, when left out
    #[arg(value_name = "JOB")]
    pub job: Option<JobRef>,
    /// Begin behind the event with this number; 0 is the beginning [default: now]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub after: Option<i64>,
}

/// Flags of `edit`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct EditArgs {
    /// The job: its id or its number
    #[arg(value_name = "JOB")]
    pub job: JobRef,
    /// New priority
    #[arg(long, value_name = "PRIORITY", group = "change")]
    pub priority: Option<Priority>,
    /// New queue
    #[arg(long, value_name = "QUEUE", group = "change")]
    pub queue: Option<Queue>,
    /// New number of tries
    #[arg(long, value_name = "N", group = "change")]
    pub max_retries: Option<u32>,
}

/// Seconds: a bare number, or a number with its unit.
fn seconds(text: &str) -> Result<u64, String> {
    let whole = text.parse::<u64>().ok();
    let spelt = || humantime::parse_duration(text).ok().map(|span| span.as_secs());
    whole
        .or_else(spelt)
        .ok_or_else(|| "write seconds, or a number with its unit, such as 5m".to_owned())
}

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// A state; the predecessor's words are known.
fn state(text: &str) -> Result<JobState, String> {
    let states = ffrtmp_api::JobFilter::states(text).map_err(|error| error.message)?;
    states.first().copied().ok_or_else(|| "is empty".to_owned())
}
