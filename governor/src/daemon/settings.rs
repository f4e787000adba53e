//! What the daemon's options mean to its engine. Decides nothing and touches nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::store::Store;
use super::{DaemonOptions, LedgerAt};
use crate::config::{Config, PinPlace};
use crate::control::session;
use crate::core::policy::NodePolicy;
use crate::core::rule::RuleSet;
use crate::engine::{EngineOptions, PolicyOrder};
use crate::host::cgroup::{CgroupBase, TreeOptions};
use crate::host::fast::Outcome;
use crate::host::gate::{GateOptions, Note};
use crate::host::kernel::{KernelOptions, pins};
use crate::host::policy::journal_beside;
use crate::host::source::SourceOptions;

/// What the engine starts with.
pub(super) fn engine_options(
    options: &DaemonOptions,
    store: &Store,
    observe: bool,
    fast: Arc<OnceLock<Outcome>>,
) -> EngineOptions {
    let config = &options.config;
    let pins = pins_at(options);
    EngineOptions {
        rules: rules_in_force(&config.rules, observe),
        redactor: config.redaction.clone(),
        placement_retries: Some(config.placement_retries),
        kernel: KernelOptions {
            records: config.records,
            pins,
            spool: Some(spool_beside(&options.socket)),
            ..KernelOptions::default()
        },
        source: SourceOptions {
            tier: config.tier,
            scan_interval: config.scan_interval,
            ..SourceOptions::default()
        },
        tree: TreeOptions {
            base: config
                .cgroup_base
                .clone()
                .map_or(CgroupBase::Auto, CgroupBase::Below),
            ..TreeOptions::default()
        },
        spares: config.spares,
        restore: store.restore(),
        saved: store.saved(),
        ledger: Some(store.health.clone()),
        ledger_file: match &options.ledger {
            LedgerAt::File(path) => Some(path.clone()),
            LedgerAt::Memory => None,
        },
        policy: policy_in_force(config, observe),
        ceilings: Some(journal_beside(&options.socket)),
        fast,
        gate: gate(options),
        discover: true,
        ..EngineOptions::default()
    }
}

/// How the exec gate is set up. Its program is installed beside ours.
fn gate(options: &DaemonOptions) -> Option<GateOptions> {
    let own = std::env::current_exe().ok()?;
    Some(GateOptions {
        program: own.with_file_name("ffrtmp-gate"),
        note: Note::beside(&options.socket),
        settings: options.config.gate.clone(),
    })
}

/// Where the kernel's side is pinned; `None` for nowhere.
pub(super) fn pins_at(options: &DaemonOptions) -> Option<PathBuf> {
    match &options.config.pins {
        PinPlace::Auto => Some(pins::default_base(&options.socket)),
        PinPlace::Off => None,
        PinPlace::At(path) => Some(path.clone()),
    }
}

/// Arguments that are not on disk yet are kept beside the socket, which is in memory on most hosts.
pub(super) fn spool_beside(socket: &Path) -> PathBuf {
    socket.with_extension("unsaved")
}

/// An observing daemon lowers and reserves nothing, and still says what is promised beyond the machine.
pub(super) fn policy_in_force(config: &Config, observe: bool) -> PolicyOrder {
    let weighed = PolicyOrder::weigh(config.policy.clone(), &config.rules);
    if observe {
        PolicyOrder {
            policy: NodePolicy::default(),
            ..weighed
        }
    } else {
        weighed
    }
}

/// The file's rules, or the same with every placement replaced by observing.
pub(super) fn rules_in_force(rules: &RuleSet, observe: bool) -> RuleSet {
    if observe {
        session::observed(rules)
    } else {
        rules.clone()
    }
}
