//! Owns the control socket: makes it, serves it, removes it.
//!
//! The socket is open to everybody (0666); who may do what is decided by `SO_PEERCRED`, see [`super::peer`].

use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::peer::{Credentials, GROUP};
use super::routes;
use super::types::{Reloaded, RequestError};
use crate::engine::handle::EngineHandle;
use crate::ledger::{LedgerHealth, Reader};

/// Where the daemon's socket is unless configured.
pub const DEFAULT_SOCKET: &str = "/run/ffrtmp/governor.sock";

/// Said while the daemon only observes because it crashed too often.
pub const FALLEN_BACK: &str = "placement: the governor crashed three times within a minute, so it only observes; look at \
                               its log, then reload it (`kill -HUP`) to govern again";

/// Reads the configuration again and puts it in force, or leaves everything as it was. May block.
pub type Reload = Arc<dyn Fn() -> Result<Reloaded, RequestError> + Send + Sync>;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket could not be made.
    #[error("{operation} {}; run as root, or name another place with --socket", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something else is there.
    #[error("{} exists and is no socket; move it away, or name another place with --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
}

/// What the routes need.
pub struct ControlState {
    /// The engine.
    pub engine: EngineHandle,
    /// The past; `None` when the ledger has no file.
    pub reader: Option<Reader>,
    /// Whether records reach the disk.
    pub ledger: LedgerHealth,
    /// How to reload.
    pub reload: Reload,
    /// Every attach and session is observed, whatever it asks.
    pub observe: bool,
    /// Set while that is so because the governor crashed too often.
    pub fallback: Arc<AtomicBool>,
    /// Name of the privileged group.
    pub group: String,
}

impl std::fmt::Debug for ControlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlState").finish_non_exhaustive()
    }
}

impl ControlState {
    /// True while nothing is changed on any process.
    pub(super) fn observes(&self) -> bool {
        self.observe || self.fallback.load(Ordering::Relaxed)
    }

    /// With group `ffrtmp` as the privileged one.
    pub fn new(engine: EngineHandle, reader: Option<Reader>, ledger: LedgerHealth, reload: Reload) -> Self {
        Self {
            engine,
            reader,
            ledger,
            reload,
            observe: false,
            fallback: Arc::default(),
            group: GROUP.to_owned(),
        }
    }
}

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "the socket's file was not removed");
        }
    }
}

impl Socket {
    /// Binds the socket. Call it while holding the [`crate::lock::Lock`] of the same directory: a socket left by a
    /// governor that was killed is removed, and the lock is what tells it from a live one's.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |operation, path: &Path| {
            let path = path.to_path_buf();
            move |source| ControlError::Io {
                operation,
                path,
                source,
            }
        };
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)
                .map_err(failed("create directory", directory))?;
        }
        // Under its name only once all may connect: whoever came between the bind and the mode would be refused.
        let fresh = path.with_extension("new");
        for old in [path, &fresh] {
            match std::fs::symlink_metadata(old) {
                Ok(found) if found.file_type().is_socket() => {
                    std::fs::remove_file(old).map_err(failed("remove the old socket", old))?;
                }
                Ok(_) => {
                    return Err(ControlError::NotASocket {
                        path: old.to_path_buf(),
                    });
                }
                Err(_) => {}
            }
        }
        let listener = UnixListener::bind(&fresh).map_err(failed("bind socket", path))?;
        let mut file = SocketFile(fresh.clone());
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o666))
            .map_err(failed("set the mode of", path))?;
        std::fs::rename(&fresh, path).map_err(failed("give its name to", path))?;
        file.0 = path.to_path_buf();
        Ok(Self { listener, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// Serves requests until told to stop, then lets running ones end: streams end when the engine does.
    pub async fn serve(self, state: ControlState, stop: CancellationToken) -> std::io::Result<()> {
        let Self { listener, file } = self;
        let app = routes::router(Arc::new(state)).into_make_service_with_connect_info::<Credentials>();
        let served = axum::serve(listener, app)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await;
        drop(file);
        served
    }
}
