//! An engine in this process, for root without a daemon. For a watch it is the governor of the machine.

use std::path::Path;
use std::sync::Arc;

use ffrtmp_governor::client::Governor;
use ffrtmp_governor::control::server::{ControlError, ControlState, Reload, Socket};
use ffrtmp_governor::control::types::{ErrorCode, RequestError};
use ffrtmp_governor::engine::{Engine, EngineError, EngineOptions};
use ffrtmp_governor::host::spares::DEFAULT_EACH;
use ffrtmp_governor::ledger::{self, LateEngine, Ledger, LedgerError};
use ffrtmp_governor::lock::{Lock, LockError};
use tokio_util::sync::CancellationToken;

use crate::backend::Need;

/// Why no engine runs in this process.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The kernel refused, or the machine lacks something.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Another governor runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The socket could not be made.
    #[error(transparent)]
    Socket(#[from] ControlError),
    /// The boot's number could not be read.
    #[error("read the boot id")]
    Boot(#[from] std::io::Error),
}

/// Starts an engine here. For a watch it is the governor of the machine: it holds the lock and answers on the socket.
pub fn start(need: &Need, socket: &Path) -> Result<Governor, LocalError> {
    let boot = ledger::boot_id()?;
    let watch = match need {
        Need::Watch {
            ledger,
            placement_retries,
        } => Some((ledger, *placement_retries)),
        Need::Job | Need::Daemon | Need::Probe => None,
    };
    let lock = match watch {
        Some(_) => Some(Lock::beside(socket)?),
        None => None,
    };
    let store = match watch {
        Some((Some(path), _)) => Ledger::open(path, &boot)?,
        Some((None, _)) | None => Ledger::memory(&boot)?,
    };
    let (health, reader) = (store.health(), store.reader());
    let late = LateEngine::default();
    let (saves, _writer) = store.spawn(late.acknowledge())?;
    let options = EngineOptions {
        discover: watch.is_some(),
        spares: watch.map_or(0, |_| DEFAULT_EACH),
        placement_retries: watch.map(|(_, retries)| retries),
        ..EngineOptions::default()
    };
    let engine = Engine::start(options, |handle| {
        late.connect(handle);
        saves
    })?;
    if let Some(lock) = lock {
        let reload: Reload = Arc::new(|| {
            Err(RequestError::new(
                ErrorCode::Invalid,
                "this governor is a `watch` and has no configuration file",
                "stop it and start ffrtmp-governor instead",
            ))
        });
        let state = ControlState::new(engine.handle(), reader, health, reload);
        let listener = Socket::bind(socket)?;
        tokio::spawn(async move {
            // Held for as long as the socket is served, which is for the life of this process.
            let _lock = lock;
            listener.serve(state, CancellationToken::new()).await
        });
    }
    Ok(Governor::Local(engine.handle()))
}
