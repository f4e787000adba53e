//! Reads the configuration again: all of it is taken, or nothing changes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::DaemonOptions;
use super::settings::{policy_in_force, rules_in_force};
use super::starts::Starts;
use crate::config::{self, Config, ConfigError};
use crate::control::types::{ErrorCode, Reloaded, RequestError};
use crate::engine::EngineHandle;
use crate::host::file::chain;

/// Puts the file's rules in force anew.
#[derive(Debug)]
pub(super) struct Reloader {
    engine: EngineHandle,
    path: Option<PathBuf>,
    required: bool,
    observe: bool,
    starts: Starts,
    /// Set while only observing because of crashes; a reload is the word to govern again.
    fallback: Arc<AtomicBool>,
    /// What the daemon started with; settings other than rules stay as they were then.
    started: Config,
    /// One reload at a time, so that the file read last is the one in force.
    turn: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        options: &DaemonOptions,
        engine: EngineHandle,
        starts: Starts,
        fallback: Arc<AtomicBool>,
    ) -> Self {
        Self {
            engine,
            path: options.config_path.clone(),
            required: options.config_required,
            observe: options.observe,
            starts,
            fallback,
            started: options.config.clone(),
            turn: Mutex::new(()),
        }
    }

    /// Reads, checks, and puts in force. A faulty file changes nothing; the error names line and column. Blocks.
    pub(super) fn reload(&self) -> Result<Reloaded, RequestError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (config, path) = self.read().map_err(|error| {
            let text = chain(&error);
            tracing::error!("reload refused, the rules in force stay: {text}");
            RequestError::new(
                ErrorCode::Invalid,
                text,
                "correct the file and reload again; nothing was changed",
            )
        })?;
        let rules = rules_in_force(&config.rules, self.observe);
        let policy = policy_in_force(&config, self.observe);
        let answer = Reloaded {
            path,
            names: rules.names(),
            wide: rules.wide(),
        };
        let count = rules.len();
        if !(self.engine.replace_rules(rules) && self.engine.replace_policy(policy)) {
            tracing::error!("reload failed, the rules in force stay: the engine does not take orders");
            return Err(RequestError::new(
                ErrorCode::Gone,
                "the engine is overloaded or has stopped; nothing was changed",
                "try again; if it lasts, look at the governor's log",
            ));
        }
        tracing::info!(rules = count, names = ?answer.names, "reloaded");
        self.govern_again();
        for setting in self.waiting(&config) {
            tracing::warn!(
                "`{setting}` has changed in the file; it takes effect at the next start of the governor"
            );
        }
        Ok(answer)
    }

    fn govern_again(&self) {
        if !self.fallback.swap(false, Ordering::Relaxed) {
            return;
        }
        tracing::info!("told to govern again after crashes; what was only observed so far stays so");
        if let Err(error) = self.starts.forget() {
            let path = self.starts.path().display();
            tracing::warn!(%error, %path, "the next start will only observe again");
        }
    }

    /// The file; the defaults when there is none and none was asked for.
    fn read(&self) -> Result<(Config, Option<PathBuf>), ConfigError> {
        let Some(path) = &self.path else {
            return Ok((Config::default(), None));
        };
        if !self.required && !path.exists() {
            return Ok((Config::default(), None));
        }
        Ok((config::load(path)?, Some(path.clone())))
    }

    /// Settings that differ from those of the start, and that only a start applies.
    fn waiting(&self, now: &Config) -> Vec<&'static str> {
        let was = &self.started;
        let changed = [
            ("listen", was.listen != now.listen),
            ("socket", was.socket != now.socket),
            ("ledger", was.ledger != now.ledger),
            ("retention", was.retention != now.retention),
            ("records", was.records != now.records),
            ("tier", was.tier != now.tier),
            ("scan_interval", was.scan_interval != now.scan_interval),
            ("cgroup.base", was.cgroup_base != now.cgroup_base),
            ("webhook", was.webhook != now.webhook),
            ("log.format", was.log_format != now.log_format),
            ("log.level", was.log_level != now.log_level),
            // Patterns have no equality; their text does.
            (
                "redact",
                format!("{:?}", was.redaction) != format!("{:?}", now.redaction),
            ),
        ];
        changed
            .into_iter()
            .filter_map(|(name, changed)| changed.then_some(name))
            .collect()
    }
}
