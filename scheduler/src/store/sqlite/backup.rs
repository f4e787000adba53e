//! Copies of the database: made while everything goes on, and put in its place.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::open::{self, OpenError, io, with_suffix};
use super::schema::{self, MIGRATIONS};
use crate::store::error::{Step, StoreError};

/// Fences drawn after a restore begin so much later: whatever the lost history drew, it drew less. 2^53 leaves room for
/// 8,000 restores.
const GENERATION: i64 = 1 << 40;
/// How long a backup waits for a lock. Only the start and the end of a scheduler hold one, for less than a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes a copy of the database to a new file, which may be in use meanwhile: complete, checked and on disk under its
/// name, or not there at all. The copy's size in bytes.
pub fn backup(from: &Path, to: &Path) -> Result<u64, OpenError> {
    open::check_library()?;
    let connection = existing(from)?;
    known(&connection, from)?;
    let failed = |source| OpenError::Database {
        path: to.to_owned(),
        source,
    };
    if to.exists() {
        let text = "the file exists; name one that does not".to_owned();
        return Err(failed(StoreError::Conflict(text)));
    }
    let part = with_suffix(to, ".part");
    // What an earlier backup left when it was cut off.
    let _left = fs::remove_file(&part).is_ok();
    let written = write(&connection, &part).and_then(|()| {
        check(&part)?;
        publish(&part, to).map_err(io("put the backup on disk as", to))
    });
    if let Err(error) = written {
        // Nobody shall take half a copy for a whole one, and a full disk needs the space.
        let _none = fs::remove_file(&part).is_ok();
        return Err(error);
    }
    let facts = fs::metadata(to).map_err(io("measure", to))?;
    Ok(facts.len())
}

/// The same for a request, which learns no more than what it may do about it.
pub(super) fn make(from: &Path, to: &Path) -> Result<u64, StoreError> {
    backup(from, to).map_err(|error| match error {
        OpenError::Database {
            source: source @ (StoreError::Conflict(_) | StoreError::Full),
            ..
        } => source,
        other => StoreError::Database {
            step: "back the database up",
            text: other.to_string(),
        },
    })
}

/// Copies one consistent moment; commits go on beside it.
fn write(connection: &Connection, part: &Path) -> Result<(), OpenError> {
    // Only its owner reads it, from its first moment; SQLite takes an empty file.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)
        .map_err(io("create", part))?;
    connection
        .execute("VACUUM INTO ?1", [part.to_string_lossy()])
        .step("write the backup")
        .map_err(|source| OpenError::Database {
            path: part.to_owned(),
            source,
        })?;
    Ok(())
}

/// A database that is there; none is made.
fn existing(path: &Path) -> Result<Connection, OpenError> {
    fs::metadata(path).map_err(io("look at", path))?;
    // Not read-only: reading beside a writer takes a place in the shared index.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let connection = Connection::open_with_flags(path, flags)
        .step("open")
        .map_err(failed)?;
    connection
        .busy_timeout(PATIENCE)
        .step("set the database up")
        .map_err(failed)?;
    Ok(connection)
}

/// Checks that the schema is one this program knows.
fn known(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let found = schema::version(connection).map_err(failed)?;
    if MIGRATIONS.len() < found {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: MIGRATIONS.len(),
        });
    }
    if found == 0 {
        let text = "no database of the scheduler".to_owned();
        return Err(failed(StoreError::Damaged(text)));
    }
    Ok(())
}

/// Gives a file its final name, durably.
fn publish(part: &Path, to: &Path) -> std::io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, to)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Puts a backup in the place of a database that no scheduler has open. The database that was there is kept beside it;
/// the answer is its new name, if there was one.
///
/// Fences begin in a new generation, so that no attempt of the history that is lost can be taken for one of the
/// restored.
pub fn restore(from: &Path, to: &Path) -> Result<Option<PathBuf>, OpenError> {
    let failed = |source| OpenError::Database {
        path: from.to_owned(),
        source,
    };
    open::check_library()?;
    check(from)?;
    let _lock = open::prepare(to)?;
    let part = with_suffix(to, ".restore");
    fs::copy(from, &part).map_err(io("copy the backup to", &part))?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o600)).map_err(io("make private", &part))?;
    let connection = open::writer(&part, open::Durability::Full)?;
    connection
        .execute(
            "UPDATE meta SET value = (value / ?1 + 1) * ?1 WHERE key = 'next_epoch'",
            [GENERATION],
        )
        .step("begin a new generation of fences")
        .map_err(failed)?;
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .step("put the log back")
        .map_err(failed)?;
    drop(connection);
    for suffix in ["-wal", "-shm"] {
        let _none = fs::remove_file(with_suffix(&part, suffix)).is_ok();
    }
    let kept = set_aside(to)?;
    publish(&part, to).map_err(io("put in place", to))?;
    Ok(kept)
}

/// Checks that a file is a whole database of a schema this program knows.
fn check(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    fs::metadata(path).map_err(io("look at", path))?;
    let connection = open::reader(path).map_err(failed)?;
    known(&connection, path)?;
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .step("check the backup")
        .map_err(failed)?;
    if verdict != "ok" {
        return Err(failed(StoreError::Damaged(verdict)));
    }
    Ok(())
}

/// Renames the database and its companions, unless it is empty.
fn set_aside(path: &Path) -> Result<Option<PathBuf>, OpenError> {
    let empty = fs::metadata(path).map_or(true, |facts| facts.len() == 0);
    if empty {
        return Ok(None);
    }
    let aside = (1..10_000)
        .map(|number| with_suffix(path, &format!(".replaced-{number}")))
        .find(|name| !name.exists())
        .unwrap_or_else(|| with_suffix(path, ".replaced"));
    for suffix in ["", "-wal", "-shm"] {
        let from = with_suffix(path, suffix);
        if from.exists() {
            fs::rename(&from, with_suffix(&aside, suffix)).map_err(io("set aside", &from))?;
        }
    }
    Ok(Some(aside))
}
