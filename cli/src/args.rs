//! The command line as typed: clap definitions and nothing else. Every number is checked here, with the flag named;
//! what the flags mean together is [`crate::limits`].

mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ffrtmp_api::{CpuMax, IoPriority, JobId, Limits};

use crate::client::args::SchedulerVerb;
use crate::limits;

pub use words::{IntentFlag, PlacementFlag};

/// Largest `--cpu-quota`, percent of one core: 1024 cores, the bound of [`Limits::validate`].
const CPU_QUOTA_MAX: i64 = 102_400;

/// Largest `--memory-limit`, MiB: the figure in bytes still fits 63 bits.
const MEBIBYTES_MAX: i64 = (1 << 43) - 1;

/// Largest `--pids-max`: `PID_MAX_LIMIT` of a 64-bit kernel (include/linux/threads.h).
const PIDS_MAX: i64 = 1 << 22;

/// Largest pid as a number; whether such a process exists is asked of the kernel.
const PID_MAX: i64 = i32::MAX as i64;

/// Governs media processes: starts or finds them, limits them, follows them to their exit, never owns them.
#[derive(Debug, Parser)]
#[command(name = "ffrtmp", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How results are written to standard output
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub output: Format,
    /// The daemon's control socket
    #[arg(
        long,
        global = true,
        env = "FFRTMP_SOCKET",
        value_name = "PATH",
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,
    /// Govern from this process even when a daemon is running
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_daemon: bool,
    /// Govern with what needs neither a daemon nor privilege, even when more is to be had
    #[arg(long, global = true, hide = true)]
    pub plain: bool,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Aligned columns for people
    #[default]
    #[value(alias = "text")]
    Table,
    /// The table with every column
    Wide,
    /// JSON
    Json,
    /// Comma-separated values with a header line
    Csv,
    /// YAML; `config recommend` only
    #[value(hide = true)]
    Yaml,
    /// Shell variables; `config recommend` only
    #[value(hide = true)]
    Bash,
}

impl Format {
    /// The word, for a form that only a recommendation has.
    pub fn recommendation(self) -> Option<&'static str> {
        match self {
            Self::Yaml => Some("yaml"),
            Self::Bash => Some("bash"),
            Self::Table | Self::Wide | Self::Json | Self::Csv => None,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a command under limits and follow it to its exit
    Run(RunArgs),
    /// Put a running process under limits and follow it to its exit
    Attach(AttachArgs),
    /// Put every matching process under limits as it starts
    ///
    /// With a daemon its file's rules come first, and the jobs they govern are told of too.
    Watch(WatchArgs),
    /// List governed jobs
    Ps(PsArgs),
    /// Tell what happens to jobs as it happens, with `-o json` one event a line
    Events(EventsArgs),
    /// Say how a process was judged, and what was done to it when
    Explain(ExplainArgs),
    /// Undo what was done to a job; the job runs on
    Release(ReleaseArgs),
    /// Check rules
    Rules(RulesArgs),
    /// Say what works on this machine, and why the rest does not
    Doctor,
    /// What a scheduler is asked.
    #[command(flatten)]
    Scheduler(SchedulerVerb),
    /// Print a completion script
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(ManArgs),
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(after_help = crate::exit::AFTER_HELP)]
pub struct RunArgs {
    /// Labels.
    #[command(flatten)]
    pub job: JobFlags,
    /// Directory the command starts in
    #[arg(long, value_name = "STRING")]
    pub workdir: Option<PathBuf>,
    /// End the command this long after its start: SIGTERM, then SIGKILL [0: never]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Give the command the terminal: its input, and Ctrl-C and Ctrl-Z
    #[arg(long)]
    pub interactive: bool,
    /// Limits.
    #[command(flatten)]
    pub limits: LimitFlags,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Flags of `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on until interrupted
    #[arg(long, short, required_unless_present = "count")]
    pub follow: bool,
    /// End after this many events
    #[arg(long, short = 'n', value_name = "INT")]
    pub count: Option<u64>,
}

/// Flags of `attach`.
#[derive(Debug, Args)]
#[command(after_help = crate::exit::AFTER_HELP)]
pub struct AttachArgs {
    /// The process
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u32>(1..=PID_MAX))]
    pub pid: u32,
    /// Labels.
    #[command(flatten)]
    pub job: JobFlags,
    /// Limits.
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// Labels of one job.
#[derive(Debug, Args)]
pub struct JobFlags {
    /// Job identifier [default: unknown]
    #[arg(long, value_name = "STRING", value_parser = JobId::parse)]
    pub job_id: Option<JobId>,
    /// Count the job towards the SLA
    #[arg(long)]
    pub sla_eligible: bool,
    /// What the job is for; only production and soak count towards the SLA
    #[arg(long, value_enum, default_value_t, value_name = "INTENT")]
    pub intent: IntentFlag,
    /// Print the report as JSON on standard output, and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Where the process is put [default: what suits it]
    #[arg(long, value_enum, value_name = "MODE")]
    pub placement: Option<PlacementFlag>,
}

/// What one job may use.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Limits by name; single flags override it
    #[arg(long, value_enum)]
    pub preset: Option<limits::Preset>,
    /// CPU in percent of one core: 200 is two cores [default: 0, unlimited]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u32>(0..=CPU_QUOTA_MAX))]
    pub cpu_quota: Option<u32>,
    /// CPU as cgroup v2 writes it: "200000 100000" in microseconds; --cpu-quota wins
    #[arg(long, value_name = "STRING", value_parser = limits::parse_cpu_max)]
    pub cpu_max: Option<CpuMax>,
    /// Share of the CPU under contention, 1 to 10000 [default: 100]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u32>(1..=10_000))]
    pub cpu_weight: Option<u32>,
    /// Scheduler priority, -20 (first, needs privilege) to 19 (last) [default: 0, as it is]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<i32>(-20..=19))]
    pub nice: Option<i32>,
    /// Memory in MB (1048576 bytes) [default: 0, unlimited]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u64>(0..=MEBIBYTES_MAX))]
    pub memory_limit: Option<u64>,
    /// Memory in bytes [default: 0, unlimited]; --memory-limit wins
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::parse_memory_max)]
    pub memory_max: Option<u64>,
    /// Share of the disk under contention, 1 to 100 [default: 0, as it is]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u32>(0..=100))]
    pub io_weight: Option<u32>,
    /// Disk limit as cgroup v2 writes it: "8:0 rbps=1048576 wiops=max"
    #[arg(long, value_name = "STRING", value_parser = limits::parse_io_max)]
    pub io_max: Option<String>,
    /// Disk priority: realtime:0 to realtime:7, best-effort:0 to best-effort:7, or idle
    #[arg(long, value_name = "CLASS[:LEVEL]", value_parser = limits::parse_io_priority)]
    pub io_priority: Option<IoPriority>,
    /// Number of tasks, at least 1
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u64>(1..=PIDS_MAX))]
    pub pids_max: Option<u64>,
    /// CPUs the job may run on, such as 0-1,4
    #[arg(long, value_name = "LIST", value_parser = limits::parse_cpu_set)]
    pub cpu_set: Option<String>,
    /// Out-of-memory preference, -1000 (never killed, needs privilege) to 1000 (first) [default: 0, as it is]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<i32>(-1000..=1000))]
    pub oom_score: Option<i32>,
}

/// Flags of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Rules; replaces --target and the limits below
    #[arg(long, value_name = "FILE")]
    pub watch_config: Option<PathBuf>,
    /// How often /proc is read where the kernel does not tell of new processes; else unused
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = limits::parse_interval)]
    pub scan_interval: Duration,
    /// Programs to watch for, by name; repeat it or separate by commas
    #[arg(long, value_name = "STRING", value_delimiter = ',', default_values = ["ffmpeg", "gst-launch-1.0"], value_parser = limits::parse_target)]
    pub target: Vec<String>,
    /// CPU of each process in percent of one core [default: 0, unlimited]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u32>(0..=CPU_QUOTA_MAX))]
    pub cpu_quota: Option<u32>,
    /// Share of the CPU under contention, 1 to 10000 [default: 100]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u32>(1..=10_000))]
    pub cpu_weight: Option<u32>,
    /// Memory of each process in MB [default: 0, unlimited]
    #[arg(long, value_name = "INT", allow_negative_numbers = true, value_parser = limits::whole::<u64>(0..=MEBIBYTES_MAX))]
    pub memory_limit: Option<u64>,
    /// Keep the ledger in --state-path, so that a restart goes on where this one ended
    #[arg(long)]
    pub enable_state: bool,
    /// The ledger's file, a database
    #[arg(long, value_name = "FILE", default_value = "/var/lib/ffrtmp/watch-state.db")]
    pub state_path: PathBuf,
    /// Accepted for old scripts: every record is committed as it closes, so there is nothing to flush
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = limits::parse_interval)]
    pub state_flush_interval: Duration,
    /// Accepted for old scripts: a placement that failed is always tried again, after 1 s, 2 s, 4 s
    #[arg(long)]
    pub enable_retry: bool,
    /// How often a placement that failed is tried again; a daemon does as its file says
    #[arg(long, value_name = "INT", default_value_t = 3, allow_negative_numbers = true, value_parser = limits::whole::<u32>(0..=i64::from(u32::MAX)))]
    pub max_retry_attempts: u32,
}

/// Flags of `ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Ended jobs too
    #[arg(short, long)]
    pub all: bool,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The process
    #[arg(allow_negative_numbers = true, value_parser = limits::whole::<u32>(1..=PID_MAX))]
    pub pid: u32,
}

/// Flags of `release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Job id, pid or key
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub job: Option<String>,
    /// Every live job
    #[arg(long)]
    pub all: bool,
}

/// Flags of `rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub verb: RulesVerb,
}

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum RulesVerb {
    /// Show what a rules file would do to the processes that run now; nothing is changed
    Test {
        /// The rules
        file: PathBuf,
        /// Processes that no rule governs too
        #[arg(short, long)]
        all: bool,
    },
}

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages go
    #[arg(long, default_value = "docs/generated/man")]
    pub dir: PathBuf,
}

impl WatchArgs {
    /// The limits among these flags, as `run` has them.
    pub fn limits(&self) -> Limits {
        limits::resolve(&LimitFlags {
            cpu_quota: self.cpu_quota,
            cpu_weight: self.cpu_weight,
            memory_limit: self.memory_limit,
            ..LimitFlags::default()
        })
    }
}
