//! How systemd's answers come back to the engine.

use std::time::Duration;

use super::EngineError;
use super::handle::{Command, EngineHandle};
use crate::host::systemd::{self, Scopes};

/// The thread that asks systemd for scopes, where systemd runs.
pub(super) fn start(handle: EngineHandle) -> Result<Option<Scopes>, EngineError> {
    /// The queue is full only while the engine is busy; the answer must not be lost.
    const PAUSE: Duration = Duration::from_millis(20);
    if systemd::absent().is_some() {
        return Ok(None);
    }
    let scopes = Scopes::start(move |scope| {
        let mut command = Command::ScopeAnswered(Box::new(scope));
        while let Err(refused) = handle.offer(command) {
            let Some(again) = refused else { return };
            command = again;
            std::thread::sleep(PAUSE);
        }
    })?;
    Ok(Some(scopes))
}
