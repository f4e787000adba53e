//! Copies of the database: made while everything goes on, and put in its place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::open::{self, OpenError, io, with_suffix};
use super::schema::{self, MIGRATIONS};
use crate::store::error::{Step, StoreError};

/// Fences drawn after a restore begin so much later: whatever the lost history drew, it drew less. 2^53 leaves room for
/// 8,000 restores.
const GENERATION: i64 = 1 << 40;

/// Writes a copy of the database to a new file: complete and on disk under its name, or not there at all. Its size.
pub(super) fn make(from: &Path, to: &Path) -> Result<u64, StoreError> {
    if to.exists() {
        return Err(StoreError::Conflict(format!(
            "{} exists; name a file that does not",
            to.display()
        )));
    }
    let part = with_suffix(to, ".part");
    // What an earlier backup left when it was cut off.
    let _left = fs::remove_file(&part).is_ok();
    let connection = Connection::open(from).step("open the database for a backup")?;
    connection
        .execute("VACUUM INTO ?1", [part.to_string_lossy()])
        .step("write the backup")?;
    publish(&part, to).map_err(|error| StoreError::Database {
        step: "put the backup on disk",
        text: error.to_string(),
    })?;
    fs::metadata(to)
        .map(|facts| facts.len())
        .map_err(|error| StoreError::Database {
            step: "measure the backup",
            text: error.to_string(),
        })
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
    let connection = open::reader(path).map_err(failed)?;
    let found = schema::version(&connection).map_err(failed)?;
    if MIGRATIONS.len() < found {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: MIGRATIONS.len(),
        });
    }
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .step("check the backup")
        .map_err(failed)?;
    if found == 0 || verdict != "ok" {
        let text = format!("no whole database of the scheduler: {verdict}");
        return Err(failed(StoreError::Damaged(text)));
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
