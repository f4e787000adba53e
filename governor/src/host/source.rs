//! Who tells of processes: the kernel's programs, or what stands in for them. One set of questions for the three tiers.
//!
//! The choice is made once, at start. Nothing here decides what happens to a process.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_abi::decode::{DecodeError, Entry};
use ffrtmp_abi::{Counter, LiveRow, ProcessKey, Record, TaskRow};

use super::alias::Aliases;
use super::file::chain;
use super::follow::{Connector, ConnectorError, Follower};
use super::kernel::{Kernel, KernelError, KernelOptions};
use super::process::{same_start, tick_ns};
use crate::core::event::KernelUsage;
use crate::core::tier::{Choice, Tier, reason};

/// What the choice is made from.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Which tiers may be used.
    pub tier: Choice,
    /// How often /proc is read in tier scan.
    pub scan_interval: Duration,
    /// Room for messages that were not read yet in tier connector, bytes.
    pub receive_bytes: usize,
}

impl Default for SourceOptions {
    /// The kernel programs or nothing, as an engine without a daemon has it; the daemon's configuration asks for more.
    fn default() -> Self {
        Self {
            tier: Choice::Kernel,
            scan_interval: Duration::from_secs(10),
            receive_bytes: receive_bytes(),
        }
    }
}

/// Room for 20,000 messages, or what the environment says, so that tests can make it overflow. Who sets the environment of
/// a root process owns it anyway.
fn receive_bytes() -> usize {
    std::env::var("FFRTMP_CONNECTOR_BYTES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8 << 20)
}

/// Why nothing tells of processes.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The kernel programs do not run, and nothing else may be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// There is no connector, and nothing else may be used.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// A descriptor could not be made.
    #[error("set up the following of processes")]
    Setup(#[from] std::io::Error),
}

/// Who tells.
#[derive(Debug)]
pub enum Source {
    /// The kernel's programs, and the names that a lower tier gave to some of their processes.
    Kernel(Box<Kernel>, Aliases),
    /// The connector or /proc.
    Followed(Box<Follower>),
}

impl Source {
    /// Takes the best tier that is to be had and may be used. Gives it with the reason why it is not the best there is.
    pub fn choose(
        kernel: &KernelOptions,
        options: &SourceOptions,
    ) -> Result<(Self, Option<String>), SourceError> {
        let mut failed = Vec::new();
        let only = options.tier.only();
        if matches!(only, None | Some(Tier::Kernel)) {
            match Kernel::load(kernel) {
                Ok(kernel) => return Ok((Self::Kernel(Box::new(kernel), Aliases::default()), None)),
                // Pins that another governor uses, or that cannot be made, are no lack of the kernel's: two governors must not
                // act on one machine unasked. Without root no tier could act on what it sees.
                Err(error)
                    if only.is_some()
                        || matches!(error, KernelError::Pins(_))
                        || !nix::unistd::geteuid().is_root() =>
                {
                    return Err(error.into());
                }
                Err(error) => failed.push((Tier::Kernel, chain(&error))),
            }
        }
        if matches!(only, None | Some(Tier::Connector)) {
            match Connector::open(options.receive_bytes) {
                Ok(connector) => {
                    let follower = Follower::by_connector(connector, kernel.records)?;
                    return Ok((Self::Followed(Box::new(follower)), reason(options.tier, &failed)));
                }
                Err(error) if only.is_some() => return Err(error.into()),
                Err(error) => failed.push((Tier::Connector, chain(&error))),
            }
        }
        let follower = Follower::by_scan(options.scan_interval, kernel.records)?;
        Ok((Self::Followed(Box::new(follower)), reason(options.tier, &failed)))
    }

    /// Which tier this is.
    pub fn tier(&self) -> Tier {
        match self {
            Self::Kernel(..) => Tier::Kernel,
            Self::Followed(follower) => follower.tier(),
        }
    }

    /// What does not work here, a sentence each.
    pub fn off(&self) -> Vec<String> {
        match self {
            Self::Kernel(kernel, _) => kernel.off().to_vec(),
            Self::Followed(_) => self
                .tier()
                .blind_spots()
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// True when ends of processes that user space admitted must be watched from outside.
    pub fn needs_watch(&self) -> bool {
        matches!(self, Self::Kernel(..))
    }

    /// True when a pass over all processes is due, which only tier scan asks for.
    pub fn take_pass_due(&mut self) -> bool {
        match self {
            Self::Kernel(..) => false,
            Self::Followed(follower) => follower.take_pass_due(),
        }
    }

    /// Execs whose process was gone before it had a name.
    pub fn vanished(&self) -> u64 {
        match self {
            Self::Kernel(..) => 0,
            Self::Followed(follower) => follower.vanished(),
        }
    }

    /// Wait status of a job's first process, or why it is not known.
    pub fn status(&self, key: ProcessKey, record: &Record) -> (Option<i32>, Option<String>) {
        match self {
            Self::Kernel(..) => (Some(record.exit_code.cast_signed()), None),
            Self::Followed(follower) => follower.status(key),
        }
    }

    /// From now on a live or recorded process is told by the key that the ledger has for it, where a governor of another
    /// tier knew its start less exactly.
    pub fn recognise(&mut self, told: ProcessKey) {
        let Self::Kernel(kernel, aliases) = self else {
            return;
        };
        let same = |key: &ProcessKey| key.pid == told.pid && same_start(told, key.start / tick_ns());
        // Keys from the kernel are exact; hardly one in ten million of them is a whole number of ticks.
        if !told.start.is_multiple_of(tick_ns()) || kernel.record(told).is_some() {
            return;
        }
        let recorded = kernel.all_records().into_iter().map(|(key, _)| key).find(same);
        let living = || {
            let rows = kernel.all_tasks().unwrap_or_default();
            rows.into_iter().map(|row| row.key).find(same)
        };
        if let Some(exact) = recorded.or_else(living) {
            aliases.add(told, exact);
        }
    }

    /// The sums of a record, as far as this tier sees them. A scan misses processes, so it counts none.
    pub fn usage(&self, record: &Record) -> KernelUsage {
        let processes = (self.tier() != Tier::Scan).then_some(record.processes);
        match self {
            Self::Kernel(..) => KernelUsage {
                run_ns: Some(record.run_ns),
                utime_ns: Some(record.utime_ns),
                stime_ns: Some(record.stime_ns),
                read_bytes: Some(record.read_bytes),
                write_bytes: Some(record.write_bytes.saturating_sub(record.cancelled_bytes)),
                nvcsw: Some(record.nvcsw),
                nivcsw: Some(record.nivcsw),
                processes,
            },
            Self::Followed(_) => KernelUsage {
                processes,
                ..KernelUsage::default()
            },
        }
    }

    /// The job's processes sit in this group from now on.
    pub fn housed(&mut self, root: ProcessKey, home: Option<PathBuf>) {
        if let (Self::Followed(follower), Some(home)) = (self, home) {
            follower.housed(root, home);
        }
    }
}

/// The questions that [`Kernel`] answers.
impl Source {
    /// Says in the log where facts come from, where that is not the best source.
    pub fn warn(&self, reason: Option<&str>) {
        let tier = self.tier();
        if tier != Tier::Kernel {
            tracing::warn!("tier {}: {}", tier.name(), reason.unwrap_or_default());
        }
    }

    /// As [`Kernel::ring`].
    pub fn ring(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kernel(kernel, _) => kernel.ring(),
            Self::Followed(follower) => follower.ready(),
        }
    }

    /// As [`Kernel::drain`].
    pub fn drain(&mut self, limit: usize, entries: &mut Vec<Result<Entry, DecodeError>>) -> usize {
        match self {
            Self::Kernel(kernel, aliases) => {
                let before = entries.len();
                let taken = kernel.drain(limit, entries);
                for entry in entries[before..].iter_mut().flatten() {
                    aliases.tell(entry);
                }
                taken
            }
            Self::Followed(follower) => follower.drain(limit, entries),
        }
    }

    /// As [`Kernel::resumed`].
    pub fn resumed(&self) -> bool {
        match self {
            Self::Kernel(kernel, _) => kernel.resumed(),
            Self::Followed(_) => false,
        }
    }

    /// As [`Kernel::left_entries`].
    pub fn left_entries(&mut self) -> Vec<Result<Entry, DecodeError>> {
        match self {
            Self::Kernel(kernel, aliases) => {
                let mut entries = kernel.left_entries();
                for entry in entries.iter_mut().flatten() {
                    aliases.tell(entry);
                }
                entries
            }
            Self::Followed(_) => Vec::new(),
        }
    }

    /// As [`Kernel::settle`].
    pub fn settle(&mut self, sent: u64, written: u64) {
        if let Self::Kernel(kernel, _) = self {
            kernel.settle(sent, written);
        }
    }

    /// As [`Kernel::unspooled`].
    pub fn unspooled(&self) -> u64 {
        match self {
            Self::Kernel(kernel, _) => kernel.unspooled(),
            Self::Followed(_) => 0,
        }
    }

    /// As [`Kernel::record`].
    pub fn record(&self, key: ProcessKey) -> Option<Record> {
        match self {
            Self::Kernel(kernel, aliases) => kernel.record(aliases.exact(key)),
            Self::Followed(follower) => follower.record(key),
        }
    }

    /// As [`Kernel::all_records`].
    pub fn all_records(&self) -> Vec<(ProcessKey, Record)> {
        match self {
            Self::Kernel(kernel, aliases) => {
                let records = kernel.all_records().into_iter();
                records.map(|(key, record)| (aliases.told(key), record)).collect()
            }
            Self::Followed(follower) => follower.records(),
        }
    }

    /// As [`Kernel::remove`].
    pub fn remove(&mut self, key: ProcessKey) {
        match self {
            Self::Kernel(kernel, aliases) => {
                kernel.remove(aliases.exact(key));
                aliases.remove(key);
            }
            Self::Followed(follower) => follower.remove(key),
        }
    }

    /// As [`Kernel::adopt`].
    pub fn adopt(&mut self, key: ProcessKey, record: &Record) -> Result<bool, KernelError> {
        match self {
            Self::Kernel(kernel, aliases) => kernel.adopt(aliases.exact(key), record),
            Self::Followed(follower) => Ok(follower.adopt(key, record)),
        }
    }

    /// As [`Kernel::root_of`].
    pub fn root_of(&self, key: ProcessKey) -> Option<ProcessKey> {
        match self {
            Self::Kernel(kernel, aliases) => {
                kernel.root_of(aliases.exact(key)).map(|root| aliases.told(root))
            }
            Self::Followed(follower) => follower.root_of(key),
        }
    }

    /// As [`Kernel::members_of`].
    pub fn members_of(&self, root: ProcessKey) -> Vec<ProcessKey> {
        match self {
            Self::Kernel(kernel, aliases) => {
                let members = kernel.members_of(aliases.exact(root)).into_iter();
                members.map(|key| aliases.told(key)).collect()
            }
            Self::Followed(follower) => follower.members_of(root),
        }
    }

    /// As [`Kernel::set_filter`].
    pub fn set_filter(&mut self, names: &[String], wide: bool) -> Result<(), KernelError> {
        match self {
            Self::Kernel(kernel, _) => kernel.set_filter(names, wide),
            Self::Followed(follower) => {
                follower.set_filter(names, wide);
                Ok(())
            }
        }
    }

    /// As [`Kernel::counter`].
    pub fn counter(&self, counter: Counter) -> u64 {
        match self {
            Self::Kernel(kernel, _) => kernel.counter(counter),
            Self::Followed(follower) => follower.counter(counter),
        }
    }

    /// As [`Kernel::live_rows`]; the lower tiers sum up nothing while a job lives.
    pub fn live_rows(&mut self) -> Result<Vec<LiveRow>, KernelError> {
        match self {
            Self::Kernel(kernel, aliases) => {
                let mut rows = kernel.live_rows()?;
                for row in &mut rows {
                    row.root = aliases.told(row.root);
                }
                Ok(rows)
            }
            Self::Followed(_) => Ok(Vec::new()),
        }
    }

    /// As [`Kernel::all_tasks`].
    pub fn all_tasks(&mut self) -> Result<Vec<TaskRow>, KernelError> {
        match self {
            Self::Kernel(kernel, aliases) => {
                let mut rows = kernel.all_tasks()?;
                for row in &mut rows {
                    row.key = aliases.told(row.key);
                }
                Ok(rows)
            }
            Self::Followed(follower) => Ok(follower.all_tasks()),
        }
    }

    /// As [`Kernel::close_over_children`].
    pub fn close_over_children(&mut self) -> Result<(), KernelError> {
        match self {
            Self::Kernel(kernel, _) => kernel.close_over_children().map(drop),
            Self::Followed(follower) => {
                follower.close_over_children();
                Ok(())
            }
        }
    }
}
