//! The file's `gate`: read, checked, lowered.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::error::Problems;
use super::{absolute, between, number};
use crate::host::gate::GateSettings;

/// An exec that is held for longer is noticed by people.
const BUDGETS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));

/// The exec gate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGate {
    /// Directories in which programs under `commands` are looked for, to hold their execs. Default /usr/local/sbin,
    /// /usr/local/bin, /usr/sbin, /usr/bin, /sbin and /bin.
    pub(super) directories: Option<Vec<At<String>>>,
    /// How many groups are kept ready for each class and its limits. Default 16.
    #[schemars(range(min = 1, max = 256))]
    pub(super) ready: Option<At<i64>>,
    /// How long an exec may be held, 1ms to 500ms; then it goes on and is counted. Default 10ms, which needs
    /// `fast_placement` on kernels from 6.0 on.
    pub(super) budget: Option<At<String>>,
}

/// What is asked for; what is wrong with it goes to `problems`.
pub(super) fn lower(raw: Option<RawGate>, problems: &mut Problems) -> GateSettings {
    let raw = raw.unwrap_or_default();
    let base = GateSettings::default();
    let path = |(index, at)| absolute(Some(at), &format!("gate.directories[{index}]"), problems);
    let directories = raw.directories.as_deref();
    let directories = directories.map(|list| list.iter().enumerate().filter_map(path).collect());
    GateSettings {
        directories: directories.unwrap_or(base.directories),
        ready: number(raw.ready.as_ref(), "gate.ready", (1, 256), problems).unwrap_or(base.ready),
        budget: between(raw.budget.as_ref(), "gate.budget", BUDGETS, problems).unwrap_or(base.budget),
    }
}
