//! The contenders. Each runs alone, is ended when it is dropped, and leaves no group and no file behind; what it did is
//! told by the referee. Only what was merely found is taken from the contender's own lines, because nothing else shows it.

mod rules;
mod told;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use self::rules::RulesDaemon;
use self::told::Told;
use super::super::machine;
use super::process::Priority;
use super::target::Target;
use crate::session::Session;

/// From the start of a contender to the first target: a daemon that has just started still reads /proc.
const SETTLE: Duration = Duration::from_millis(1_200);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Who {
    /// ffrtmp-governor.
    Ours,
    /// libcgroup's daemon on the kernel's process connector.
    Cgrulesengd,
    /// libbpf-tools' execsnoop, which finds and does not place.
    Execsnoop,
    /// A scan of /proc at this interval, milliseconds.
    Scan(u64),
}

impl Who {
    /// Every one of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Ours,
        Self::Cgrulesengd,
        Self::Execsnoop,
        Self::Scan(100),
        Self::Scan(10_000),
    ];

    /// Its name in tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Ours => "ffrtmp-governor".to_owned(),
            Self::Cgrulesengd => "cgrulesengd".to_owned(),
            Self::Execsnoop => "execsnoop".to_owned(),
            Self::Scan(ms) if ms >= 1_000 => format!("/proc scan, {} s", ms / 1_000),
            Self::Scan(ms) => format!("/proc scan, {ms} ms"),
        }
    }

    /// Whether it moves what it finds.
    pub(super) fn places(self) -> bool {
        self != Self::Execsnoop
    }

    /// How long a process must live that it is to find for certain.
    pub(super) fn needs(self) -> Duration {
        match self {
            Self::Scan(ms) => Duration::from_millis(ms + ms / 10),
            Self::Ours | Self::Cgrulesengd | Self::Execsnoop => Duration::from_millis(50),
        }
    }
}

/// A contender that runs.
pub(super) enum Running {
    /// The governor.
    Ours(Session),
    /// The daemon with rules.
    Rules(RulesDaemon),
    /// One that prints what it finds, with the group it places in if it does.
    Told(Told, Option<Group>),
}

impl Running {
    /// Starts one at a priority and waits until it has settled. `extra` is for the governor's configuration.
    pub(super) fn start(
        who: Who,
        priority: Priority,
        binaries: &Path,
        target: &Target,
        extra: &str,
    ) -> Result<Self> {
        let running = match who {
            Who::Ours => Self::Ours(Session::start(binaries, &format!("{extra}{}", target.rules()))?),
            Who::Cgrulesengd => Self::Rules(RulesDaemon::start(target, Group::make()?)?),
            Who::Execsnoop => Self::Told(Told::execsnoop(target)?, None),
            Who::Scan(ms) => {
                let group = Group::make()?;
                Self::Told(Told::scan(binaries, target, ms, &group)?, Some(group))
            }
        };
        std::thread::sleep(SETTLE);
        // What the governor raises by itself is the thread that places; at this priority that is the comparison.
        if who != Who::Ours || priority == Priority::Normal {
            priority.give(running.pid())?;
        }
        Ok(running)
    }

    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Ours(session) => session.governor_pid(),
            Self::Rules(daemon) => daemon.pid(),
            Self::Told(told, _) => told.pid(),
        }
    }

    /// What the paths of its groups hold; `None` for one that places nothing.
    pub(super) fn groups(&self) -> Option<String> {
        match self {
            Self::Ours(_) => Some("ffrtmp.slice/".to_owned()),
            Self::Rules(daemon) => Some(daemon.group().name()),
            Self::Told(_, group) => group.as_ref().map(Group::name),
        }
    }

    /// Each pid it said it found, with the moment in nanoseconds of the monotonic clock.
    pub(super) fn found(&self) -> Vec<(u32, u64)> {
        match self {
            Self::Told(told, _) => told.lines(),
            Self::Ours(_) | Self::Rules(_) => Vec::new(),
        }
    }

    /// Ends it.
    pub(super) fn close(self) -> Result<()> {
        if let Self::Ours(session) = self {
            for left in session.close()? {
                println!("left behind: {left}");
            }
        }
        Ok(())
    }
}

/// A group for a peer's processes, in the hierarchy that holds CPU limits.
pub(super) struct Group(PathBuf);

impl Group {
    fn make() -> Result<Self> {
        let path = machine::cpu_hierarchy()?.join(format!("ffrtmp-bench-peer-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("making the group {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its name, which is all of its path inside the hierarchy.
    fn name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel needs a moment to let go of the last process.
        for _ in 0..20 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("left behind: {}", self.0.display());
    }
}
