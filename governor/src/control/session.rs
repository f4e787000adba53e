//! A session: rules that live as long as whoever brought them.

use crate::control::types::{ErrorCode, JobEvent, RequestError, SessionRules};
use crate::core::rule::{PlacementMode, Rule, RuleSet};
use crate::engine::handle::EngineHandle;
use tokio::sync::mpsc;

/// Events a session may leave unread before it loses some. About 2 KiB each.
const EVENTS_UNREAD: usize = 4096;

/// An open session. Dropping it takes its rules away.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub number: u64,
    /// What happens from its opening on.
    pub events: mpsc::Receiver<JobEvent>,
    guard: SessionGuard,
}

impl Session {
    /// Checks the rules and puts them in force after the file's.
    ///
    /// Runs to its end even when the caller stops waiting, so that no session is left behind without an owner.
    pub async fn open(engine: &EngineHandle, rules: &SessionRules) -> Result<Self, RequestError> {
        Self::with(engine, lower(rules)?).await
    }

    /// The same with rules that were lowered already.
    pub(crate) async fn with(engine: &EngineHandle, lowered: RuleSet) -> Result<Self, RequestError> {
        let engine = engine.clone();
        let opening = tokio::spawn(async move {
            // First the ears, then the rules: what they find is heard.
            let events = engine.subscribe(EVENTS_UNREAD);
            let number = engine.open_session(lowered).await?;
            Ok(Self {
                number,
                events,
                guard: SessionGuard { engine, number },
            })
        });
        opening.await.unwrap_or_else(|error| {
            Err(RequestError::new(
                ErrorCode::Failed,
                format!("the session could not be opened: {error}"),
                "look at the governor's log",
            ))
        })
    }

    /// The events, and what must be kept for as long as they are read.
    pub(crate) fn into_parts(self) -> (mpsc::Receiver<JobEvent>, SessionGuard) {
        (self.events, self.guard)
    }
}

/// Events from now on: when this answers, nothing that happens later is missed. The question for the status waits behind
/// the subscription in the engine's queue.
pub(crate) async fn listen(engine: &EngineHandle) -> Result<mpsc::Receiver<JobEvent>, RequestError> {
    let events = engine.subscribe(EVENTS_UNREAD);
    engine.status().await?;
    Ok(events)
}

/// Closes its session when dropped.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    engine: EngineHandle,
    number: u64,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if self.engine.close_session(self.number) {
            return;
        }
        // The engine's queue is full, or it has stopped. In the first case it empties soon; in the second the session
        // has ended with it, and ten attempts find that out.
        let (engine, number) = (self.engine.clone(), self.number);
        let retry = std::thread::Builder::new()
            .name("close-session".to_owned())
            .spawn(move || {
                let closed = (0..10).any(|attempt| {
                    std::thread::sleep(std::time::Duration::from_millis(10 << attempt));
                    engine.close_session(number)
                });
                if !closed {
                    tracing::warn!(session = number, "the engine did not take the end of a session");
                }
            });
        if let Err(error) = retry {
            tracing::error!(%error, session = self.number, "the end of a session could not be told to the engine");
        }
    }
}

/// The same rules with every placement replaced by "observe": nothing is changed, everything is recorded.
pub(crate) fn observed(rules: &RuleSet) -> RuleSet {
    let observe = |rule: &Rule| Rule {
        placement: Some(PlacementMode::Observe),
        ..rule.clone()
    };
    RuleSet::new(rules.rules().iter().map(observe).collect())
}

/// Turns what a session brings into rules.
pub fn lower(rules: &SessionRules) -> Result<RuleSet, RequestError> {
    let invalid = |message: String, hint: &str| RequestError::new(ErrorCode::Invalid, message, hint);
    if rules.targets.is_empty() && rules.yaml.is_none() {
        return Err(invalid(
            "field `targets`: neither a program name nor rules were given".to_owned(),
            "name a program, for instance --target ffmpeg, or give a rules file",
        ));
    }
    if let Some(bad) = rules
        .targets
        .iter()
        .find(|name| name.is_empty() || name.contains('\0') || (name.contains('/') && !name.starts_with('/')))
    {
        return Err(invalid(
            format!("field `targets`: {bad:?} is not a program name"),
            "write the last component of the program's path, for instance ffmpeg, or the whole path from /",
        ));
    }
    rules
        .limits
        .validate()
        .map_err(|error| invalid(format!("field `limits`: {error}"), "see `ffrtmp watch --help`"))?;
    let flags = RuleSet::from_targets(&rules.targets, rules.limits.clone());
    let Some(yaml) = &rules.yaml else { return Ok(flags) };
    let file =
        crate::config::parse(rules.origin.as_deref().unwrap_or("watch-config"), yaml).map_err(|error| {
            invalid(
                error.to_string(),
                "correct the rules and start again; nothing was changed",
            )
        })?;
    Ok(RuleSet::concat([&file.rules, &flags]))
}
