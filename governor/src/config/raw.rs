//! The file as it is written: every key, its type and its meaning. The JSON Schema is generated from these types.
//!
//! Nothing is judged here beyond names and types. Key order is that of the documentation. Keys marked "watch" are those
//! of the predecessor's `watch-config.yaml`, with its meaning.

use std::collections::BTreeMap;

use ffrtmp_api::Intent;
use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Quantity, SwitchOrList};
use super::gate::RawGate;
use super::webhook::RawWebhook;
use crate::core::pressure::{Resource, Share};
use crate::core::rule::{Admission, OnForeignMove, PlacementMode};
use crate::core::tier::Choice;

type Texts = Option<Vec<At<String>>>;
type Numbers = Option<Vec<At<i64>>>;

/// Configuration of the node governor (`/etc/ffrtmp/governor.yaml`), and of `ffrtmp watch --watch-config`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "ffrtmp governor configuration")]
pub(super) struct RawConfig {
    /// Address of /metrics, /healthz and /readyz. Default 127.0.0.1:9091.
    pub(super) listen: Option<At<String>>,
    /// Path of the control socket. Default /run/ffrtmp/governor.sock.
    pub(super) socket: Option<At<String>>,
    /// Path of the ledger. Default /var/lib/ffrtmp/governor.db.
    pub(super) ledger: Option<At<String>>,
    /// How long closed jobs stay in the ledger, such as 30d. Default 30d.
    pub(super) retention: Option<At<String>>,
    /// How many records the kernel map holds. Default 65536.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub(super) records: Option<At<i64>>,
    /// Where kernel programs and maps are kept while no governor runs: auto (the host's bpffs, or one of our own beside
    /// the socket), off, or an absolute path. Default auto.
    pub(super) pins: Option<At<String>>,
    /// How often a placement that failed is tried again, after 1 s, 2 s, 4 s and so on. Default 3.
    #[schemars(range(min = 0, max = 100))]
    pub(super) placement_retries: Option<At<i64>>,
    /// How many groups are kept ready for each class and limits that the rules name, so that a start waits for none; 0 makes
    /// every group when its job comes. Default 4.
    #[schemars(range(min = 0, max = 64))]
    pub(super) spares: Option<At<i64>>,
    /// Mount a cgroup hierarchy of our own with favordynmods, so that a lone placement waits for no grace period of the
    /// kernel's. It acts on the whole host: forks and exits take a little longer. Default false.
    pub(super) fast_placement: Option<bool>,
    /// The exec gate, for rules with `admission: gate`.
    pub(super) gate: Option<RawGate>,
    /// Where facts about processes come from: auto takes the best that is to be had, and says so. Default auto.
    pub(super) tier: Option<Choice>,
    /// Where control groups are made.
    pub(super) cgroup: Option<RawCgroup>,
    /// CPUs that all jobs together leave to the rest of the host, such as 1 or 0.5. Default none.
    #[schemars(range(min = 0, max = 8192))]
    pub(super) reserve_cpus: Option<At<f64>>,
    /// Memory that all jobs together leave to the rest of the host: a number of MiB, or a text with a unit such as 2GiB.
    /// Default none.
    pub(super) reserve_memory: Option<At<Quantity>>,
    /// Which class is lowered while another, or the machine, stalls. Default none.
    pub(super) pressure: Option<Vec<At<RawPressure>>>,
    /// Server that is sent events of jobs. Default none.
    pub(super) webhook: Option<At<RawWebhook>>,
    /// Logging.
    pub(super) log: Option<RawLog>,
    /// Secrets in command lines.
    pub(super) redact: Option<RawRedact>,
    /// Rules, in order; the first that matches wins.
    pub(super) rules: Option<Vec<At<RawRule>>>,
    /// Watch: how often /proc is read where the kernel cannot tell of execs, such as 10s. Default 10s.
    pub(super) scan_interval: Option<At<String>>,
    /// Watch: programs to govern, by basename. Default [ffmpeg, gst-launch-1.0], unless the file has `rules` and no key
    /// marked watch other than `scan_interval`.
    pub(super) target_commands: Texts,
    /// Watch: limits of the programs in `target_commands` and `commands`.
    pub(super) default_limits: Option<RawLimits>,
    /// Watch: tests that processes found by `target_commands` and `commands` must pass.
    pub(super) filters: Option<RawFilters>,
    /// Watch: limits and filters of single programs. Each key given here replaces the global one. A program named here
    /// is a target even if `target_commands` leaves it out.
    pub(super) commands: Option<BTreeMap<String, At<Option<RawCommand>>>>,
}

/// Where control groups are made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCgroup {
    /// Group below which jobs get theirs, as a path inside the hierarchy. Default: the daemon's own delegated group under
    /// systemd, `ffrtmp.slice` elsewhere.
    pub(super) base: Option<At<String>>,
}

/// One pressure rule: when the watched stall is reached a class is lowered, and it is lifted again after a calm.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPressure {
    /// Name for messages. Default `pressure-N`, counted from 1.
    pub(super) name: Option<At<String>>,
    /// Whose stall lowers the class. Needed.
    pub(super) watch: Option<RawWatch>,
    /// What is lowered. Needed.
    pub(super) lower: Option<RawLower>,
    /// How long the stall must have stayed below its mark before the class is lifted, 1s to 24h. Default 10s.
    pub(super) restore_after: Option<At<String>>,
}

/// A stall the kernel is to announce.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWatch {
    /// Class whose tasks are watched. Default: all tasks of the machine.
    pub(super) class: Option<At<String>>,
    /// What they wait for. Needed.
    pub(super) resource: Option<Resource>,
    /// Whether some task or all of them must wait. Default some.
    pub(super) share: Option<Share>,
    /// Waiting time within the window that is too much, such as 150ms. Needed.
    pub(super) stall: Option<At<String>>,
    /// Length of the window, 500ms to 10s. Default 1s.
    pub(super) window: Option<At<String>>,
}

/// What a class as a whole gets while it is lowered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLower {
    /// The class. Needed.
    pub(super) class: Option<At<String>>,
    /// CPU time of all its jobs together in percent of one core.
    #[schemars(range(min = 1, max = 102_400))]
    pub(super) cpu_quota: Option<At<i64>>,
    /// Its share of the CPU under contention; 100 is normal.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) cpu_weight: Option<At<i64>>,
    /// Its share of the disk under contention, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(super) io_weight: Option<At<i64>>,
}

/// Logging.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    /// Form of a line. Default text.
    pub(super) format: Option<LogFormat>,
    /// Least severity shown. Default info.
    pub(super) level: Option<LogLevel>,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And what happens to jobs.
    #[default]
    Info,
    /// And each step.
    Debug,
    /// And each event.
    Trace,
}

/// Secrets in command lines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRedact {
    /// Regular expressions of the site's own. Of a match the first group is replaced, or all of it without a group.
    pub(super) patterns: Texts,
    /// Whether the built-in patterns apply as well. Default true.
    pub(super) defaults: Option<bool>,
}

/// One rule.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRule {
    /// Name for messages and reports. Default `rule-N`, counted from 1.
    pub(super) name: Option<At<String>>,
    /// Basenames of the programs meant.
    pub(super) commands: Texts,
    /// Whole paths of programs meant, as typed at the exec. One of `commands` or `files` suffices.
    pub(super) files: Texts,
    /// True for a rule that names no program: every exec of the machine is looked at.
    pub(super) wide: Option<At<bool>>,
    /// Tests beyond the program; all must hold.
    pub(super) filters: Option<RawFilters>,
    /// Class: directory of the job's group and label of metrics. Default `default`.
    pub(super) class: Option<At<String>>,
    /// Limits.
    pub(super) limits: Option<RawLimits>,
    /// What is done with the process's control group. Default: `observe` in containers and in a pid namespace of its own,
    /// else `place`. A rule for users who are not trusted says `place`, because anybody may make such a namespace.
    pub(super) placement: Option<PlacementMode>,
    /// When the rule acts. Default event.
    pub(super) admission: Option<At<Admission>>,
    /// What the jobs are for. Default production.
    pub(super) intent: Option<Intent>,
    /// Whether the jobs count towards the SLA. Default false.
    pub(super) sla_eligible: Option<bool>,
    /// What is done when somebody else moves a job to another group. Default accept.
    pub(super) on_foreign_move: Option<OnForeignMove>,
}

/// Limits and filters of one program.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCommand {
    /// Limits; each key given replaces that of `default_limits`.
    pub(super) limits: Option<RawLimits>,
    /// Filters; each key given replaces that of the global `filters`.
    pub(super) filters: Option<RawFilters>,
}

/// Limits of a job. A key left out limits nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    /// CPU time in percent of one core (200 is two cores); 0 is no limit.
    #[schemars(range(min = 0, max = 102_400))]
    pub(super) cpu_quota: Option<At<i64>>,
    /// CPU time as the kernel writes it: `QUOTA PERIOD` in microseconds, or `max`.
    pub(super) cpu_max: Option<At<String>>,
    /// Share of the CPU under contention; 100 is normal.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) cpu_weight: Option<At<i64>>,
    /// Memory: a number of MiB, or a text with a unit such as 2GiB; 0 is no limit.
    pub(super) memory_limit: Option<At<Quantity>>,
    /// Memory: a number of bytes, or a text with a unit such as 2GiB; 0 is no limit.
    pub(super) memory_max: Option<At<Quantity>>,
    /// Share of the disk under contention, 1 to 100; 0 is the default.
    #[schemars(range(min = 0, max = 100))]
    pub(super) io_weight: Option<At<i64>>,
    /// Disk limit as the kernel writes it: `MAJOR:MINOR rbps=N wbps=N riops=N wiops=N`.
    pub(super) io_max: Option<At<String>>,
    /// How many tasks a job may have.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub(super) pids_max: Option<At<i64>>,
    /// CPUs the job may run on, such as `0-3,8`.
    pub(super) cpu_set: Option<At<String>>,
    /// Nice value.
    #[schemars(range(min = -20, max = 19))]
    pub(super) nice: Option<At<i64>>,
    /// Disk priority: `realtime:0` to `realtime:7`, `best-effort:0` to `best-effort:7`, `idle`.
    pub(super) io_priority: Option<At<String>>,
    /// Preference of the out-of-memory killer; 1000 is killed first.
    #[schemars(range(min = -1000, max = 1000))]
    pub(super) oom_score_adj: Option<At<i64>>,
    /// The same as `oom_score_adj`.
    #[schemars(range(min = -1000, max = 1000))]
    pub(super) oom_score: Option<At<i64>>,
}

/// Tests of a process. All must hold; a block list wins over an allow list; an empty list tests nothing; what is not
/// known neither satisfies an allow list nor trips a block list.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFilters {
    /// User names taken.
    pub(super) allowed_users: Texts,
    /// User names left alone.
    pub(super) blocked_users: Texts,
    /// User ids taken.
    pub(super) allowed_uids: Numbers,
    /// User ids left alone.
    pub(super) blocked_uids: Numbers,
    /// Parents taken: pids, or names of at most 15 characters.
    pub(super) allowed_parents: Option<Vec<At<Quantity>>>,
    /// Parents left alone: pids, or names of at most 15 characters.
    pub(super) blocked_parents: Option<Vec<At<Quantity>>>,
    /// Youngest age, such as 5s; a younger process is asked about again at that age.
    pub(super) min_runtime: Option<At<String>>,
    /// Oldest age, such as 24h; for processes that ran before the governor did.
    pub(super) max_runtime: Option<At<String>>,
    /// Working directories taken, with everything below them.
    pub(super) allowed_dirs: Texts,
    /// Working directories left alone, with everything below them.
    pub(super) blocked_dirs: Texts,
    /// Control groups taken, with everything below them.
    pub(super) allowed_cgroups: Texts,
    /// Control groups left alone, with everything below them.
    pub(super) blocked_cgroups: Texts,
    /// Regular expression the control group's path must match.
    pub(super) cgroup_regex: Option<At<String>>,
    /// Regular expression the arguments, joined by blanks, must match.
    pub(super) argv: Option<At<String>>,
    /// Regular expression the arguments, joined by blanks, must not match.
    pub(super) blocked_argv: Option<At<String>>,
    /// True: only in containers; false: only outside; a list: only in those of these runtimes (docker, podman, containerd,
    /// kubepods, lxc, nspawn; `namespace` is a pid namespace of its own that no path explains).
    pub(super) container: Option<At<SwitchOrList>>,
}

impl RawFilters {
    /// Each key of `self`, or else that of `base`.
    pub(super) fn or(self, base: &Self) -> Self {
        let base = base.clone();
        Self {
            allowed_users: self.allowed_users.or(base.allowed_users),
            blocked_users: self.blocked_users.or(base.blocked_users),
            allowed_uids: self.allowed_uids.or(base.allowed_uids),
            blocked_uids: self.blocked_uids.or(base.blocked_uids),
            allowed_parents: self.allowed_parents.or(base.allowed_parents),
            blocked_parents: self.blocked_parents.or(base.blocked_parents),
            min_runtime: self.min_runtime.or(base.min_runtime),
            max_runtime: self.max_runtime.or(base.max_runtime),
            allowed_dirs: self.allowed_dirs.or(base.allowed_dirs),
            blocked_dirs: self.blocked_dirs.or(base.blocked_dirs),
            allowed_cgroups: self.allowed_cgroups.or(base.allowed_cgroups),
            blocked_cgroups: self.blocked_cgroups.or(base.blocked_cgroups),
            cgroup_regex: self.cgroup_regex.or(base.cgroup_regex),
            argv: self.argv.or(base.argv),
            blocked_argv: self.blocked_argv.or(base.blocked_argv),
            container: self.container.or(base.container),
        }
    }
}
