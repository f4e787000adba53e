//! What is known of a process when a rule is asked about it.

use std::path::PathBuf;

use ffrtmp_abi::ProcessKey;

/// What stands for the runtime of a container that only its pid namespace shows.
pub const NAMESPACE: &str = "namespace";

/// Every word a `container` fact can be.
pub const RUNTIMES: [&str; 7] = [
    "docker",
    "podman",
    "containerd",
    "kubepods",
    "lxc",
    "nspawn",
    NAMESPACE,
];

/// How a process came to our notice.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// The kernel told of its exec.
    Exec,
    /// It ran before we did, or was found by a resync.
    Adopted,
    /// Somebody asked for it by pid.
    Attach,
    /// `ffrtmp run` started it.
    Run,
}

/// Everything a rule may test. Facts that cost a read of /proc are `None` unless some rule needs them
/// ([`super::rule::RuleSet::needs`]) and the process still lived when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessFacts {
    /// Identity.
    pub key: ProcessKey,
    /// How it was found.
    pub found: Found,
    /// Boot-time clock at its exec (or, for one found alive, its start), ns.
    pub started_ns: u64,
    /// Parent's pid.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Name of that user.
    pub user: Option<String>,
    /// Last component of the path it was executed by, as typed.
    pub basename: String,
    /// Path it was executed by, as typed.
    pub filename: String,
    /// Arguments, the program's name first. `None` when they were lost.
    pub argv: Option<Vec<String>>,
    /// Parent's name, at most 15 characters.
    pub parent: Option<String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Control group: the v2 path, or on a v1 host that of the first hierarchy that is not `/`.
    pub cgroup: Option<String>,
    /// Container runtime, when a group's path shows one (docker, podman, containerd, kubepods, lxc, nspawn), or
    /// [`NAMESPACE`] for a process in a pid namespace of its own.
    pub container: Option<String>,
}
