//! Opens the ledger's file, sorts what can go wrong with it, and sets a damaged one aside.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::schema::{self, MigrateError};
use super::store;

/// Where the ledger lives.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A file that outlives the process.
    File(PathBuf),
    /// Memory of this process.
    Memory,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("in memory"),
        }
    }
}

/// What went wrong, sorted by what can be done about it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A newer program's file.
    Newer {
        /// Its schema.
        found: usize,
    },
    /// The file's content is damaged, or it never was a database.
    Corrupt(rusqlite::Error),
    /// No space. The connection stays good.
    Full(rusqlite::Error),
    /// Anything that a new connection may cure: read-only, no permission, no directory, an IO error.
    Other(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            Some(ErrorCode::DiskFull) => Self::Full(error),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<MigrateError> for Trouble {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Newer(found) => Self::Newer { found },
            MigrateError::Sql(error) => error.into(),
        }
    }
}

/// The database: where it is, and its connection while there is one.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) place: Place,
    pub(super) boot_id: String,
    pub(super) connection: Option<Connection>,
}

impl Database {
    pub(super) fn new(place: Place, boot_id: String) -> Self {
        Self {
            place,
            boot_id,
            connection: None,
        }
    }

    /// Gives the connection, opening it when there is none. A damaged file is set aside and a new one begun.
    pub(super) fn connect(&mut self) -> Result<&mut Connection, Trouble> {
        if self.connection.is_none() {
            let opened = match self.open() {
                Err(Trouble::Corrupt(error)) => {
                    self.set_aside(&error)?;
                    self.open()?
                }
                other => other?,
            };
            self.connection = Some(opened);
        }
        self.connection
            .as_mut()
            .ok_or_else(|| Trouble::Other("the connection is gone".to_owned()))
    }

    fn open(&self) -> Result<Connection, Trouble> {
        let mut connection = match &self.place {
            Place::Memory => Connection::open_in_memory()?,
            Place::File(path) => {
                prepare(path)?;
                Connection::open(path)?
            }
        };
        // Somebody who reads the file with another tool may hold it for a moment.
        connection.busy_timeout(Duration::from_secs(5))?;
        // Takes effect in an empty file only; lets `prune` give pages back to the disk.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(16);
        schema::migrate(&mut connection, schema::MIGRATIONS)?;
        let closed = store::close_earlier_boots(&mut connection, &self.boot_id)?;
        if closed > 0 {
            tracing::info!(jobs = closed, "closed the records that an earlier boot left open");
        }
        Ok(connection)
    }

    /// Renames the damaged file and its companions, and says so.
    pub(super) fn set_aside(&mut self, error: &rusqlite::Error) -> Result<(), Trouble> {
        self.connection = None;
        let Place::File(path) = &self.place else {
            return Err(Trouble::Other(error.to_string()));
        };
        let aside = aside_name(path, jiff::Timestamp::now().as_microsecond());
        for suffix in ["", "-wal", "-shm"] {
            let (from, to) = (with_suffix(path, suffix), with_suffix(&aside, suffix));
            match std::fs::rename(&from, &to) {
                Err(cause) if suffix.is_empty() || cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Trouble::Other(format!(
                        "set the damaged {} aside as {}: {cause}",
                        from.display(),
                        to.display()
                    )));
                }
                Ok(()) | Err(_) => {}
            }
        }
        tracing::error!(
            "ledger {} is damaged ({error}); it was set aside as {} and a new one begun. `sqlite3 FILE .recover` may \
             bring back what it held",
            path.display(),
            aside.display()
        );
        Ok(())
    }
}

/// Makes the directory (0750) and the file (0600): records hold command lines, which unprivileged users of the control
/// socket do not see of others.
fn prepare(path: &Path) -> Result<(), Trouble> {
    let failed = |operation: &str, path: &Path, cause: &std::io::Error| {
        Trouble::Other(format!("{operation} {}: {cause}", path.display()))
    };
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)
            .map_err(|cause| failed("create directory", directory, &cause))?;
    }
    if !path.exists() {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|cause| failed("create", path, &cause))?;
    }
    Ok(())
}

fn aside_name(path: &Path, now_us: i64) -> PathBuf {
    with_suffix(path, &format!(".corrupt-{now_us}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
