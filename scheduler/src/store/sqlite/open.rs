//! Opens the database's file: checks where it lies, that nobody else has it, and which SQLite reads it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::statfs;
use nix::sys::statvfs::statvfs;
use rusqlite::{Connection, OpenFlags};

use super::schema::{self, MIGRATIONS, MigrateError};
use crate::store::error::{Step, StoreError};

/// Why the database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another scheduler has it.
    #[error("another scheduler uses {}; stop it first", .0.display())]
    Held(PathBuf),
    /// It lies where locks do not hold.
    #[error("{} lies on {kind}, whose locks cannot be trusted with a database; choose a local disk", path.display())]
    Remote {
        /// The file.
        path: PathBuf,
        /// Kind of the filesystem.
        kind: &'static str,
    },
    /// A newer program wrote it.
    #[error("{} has schema {found}, this program knows up to {known}; use the newer program, or restore the backup that it made before its migration", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// The SQLite this program was built with may damage files.
    #[error(
        "SQLite {0} has the log-reset fault (3.7.0 to 3.51.2, 3.52.0); build with 3.51.3, 3.53.0 or later"
    )]
    Library(&'static str),
    /// A file or directory could not be used.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("open {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// How.
        source: StoreError,
    },
}

/// When an acknowledged commit is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Before it is acknowledged, against power loss too.
    #[default]
    Full,
    /// Against a killed process at once, against power loss a little later. A named choice of the operator.
    Normal,
    /// Never; for simulators, which crash no machine.
    Volatile,
}

/// Held while the database is open, so that no second scheduler opens it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        operation,
        path,
        source,
    }
}

/// True when this SQLite does not have the log-reset fault.
fn sound(version: i32) -> bool {
    version >= 3_051_003 && version != 3_052_000
}

/// Checks the library.
pub(super) fn check_library() -> Result<(), OpenError> {
    if sound(rusqlite::version_number()) {
        Ok(())
    } else {
        Err(OpenError::Library(rusqlite::version()))
    }
}

/// Kinds of filesystems on which a database is refused, by the magic number of `statfs(2)`.
const REMOTE: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB 2"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0102_1997, "9P"),
];

fn remote(magic: i64) -> Option<&'static str> {
    // The field is signed and 32 bits wide in places, so only the low half counts.
    let low = magic & 0xffff_ffff;
    REMOTE
        .iter()
        .find(|(number, _)| *number == low)
        .map(|(_, kind)| *kind)
}

/// Makes the directory (0750) and the file (0600), refuses a remote filesystem and takes the lock.
pub(super) fn prepare(path: &Path) -> Result<Lock, OpenError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    crate::directory::make(directory, 0o750).map_err(io("create directory", directory))?;
    let kind = statfs(directory)
        .map_err(std::io::Error::from)
        .map_err(io("look at the filesystem of", directory))?
        .filesystem_type();
    // The inner type differs between libc implementations.
    #[expect(
        clippy::useless_conversion,
        reason = "the magic number's type depends on the C library"
    )]
    if let Some(kind) = remote(i64::from(kind.0)) {
        let path = path.to_owned();
        return Err(OpenError::Remote { path, kind });
    }
    let create = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io("open", path))
    };
    create(path)?;
    let lock_path = with_suffix(path, ".lock");
    match Flock::lock(create(&lock_path)?, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Lock { _file: file }),
        Err((_, Errno::EWOULDBLOCK)) => Err(OpenError::Held(path.to_owned())),
        Err((_, errno)) => Err(io("lock", &lock_path)(errno.into())),
    }
}

/// The path with something behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Free bytes on the file's disk for whoever is not root.
pub(super) fn free_space(path: &Path) -> Option<u64> {
    let stat = statvfs(path.parent().filter(|parent| !parent.as_os_str().is_empty())?).ok()?;
    Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// Opens the writing connection and brings the file to this program's schema, keeping a copy of an older one.
pub(super) fn writer(path: &Path, durability: Durability) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let mut connection = Connection::open(path).step("open").map_err(failed)?;
    settings(&connection, durability).map_err(failed)?;
    let found = schema::version(&connection).map_err(failed)?;
    if 0 < found && found < MIGRATIONS.len() {
        let copy = with_suffix(path, &format!(".before-v{}", MIGRATIONS.len()));
        if !copy.exists() {
            connection
                .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
                .step("copy the database before its migration")
                .map_err(failed)?;
        }
    }
    schema::migrate(&mut connection, MIGRATIONS).map_err(|error| match error {
        MigrateError::Newer(found) => OpenError::Newer {
            path: path.to_owned(),
            found,
            known: MIGRATIONS.len(),
        },
        MigrateError::Store(source) => failed(source),
    })?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn settings(connection: &Connection, durability: Durability) -> Result<(), StoreError> {
    let step = "set the database up";
    connection.busy_timeout(Duration::from_secs(5)).step(step)?;
    connection
        .pragma_update(None, "auto_vacuum", "INCREMENTAL")
        .step(step)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .step(step)?;
    if mode != "wal" {
        return Err(StoreError::Damaged(format!("journal mode {mode} instead of wal")));
    }
    let level = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
        Durability::Volatile => "OFF",
    };
    connection.pragma_update(None, "synchronous", level).step(step)?;
    connection.pragma_update(None, "foreign_keys", true).step(step)?;
    let keys: bool = connection
        .pragma_query_value(None, "foreign_keys", |row| row.get(0))
        .step(step)?;
    if !keys {
        return Err(StoreError::Damaged(
            "foreign keys that cannot be turned on".to_owned(),
        ));
    }
    // The writer puts the log back itself, when nothing waits for it.
    connection
        .pragma_update(None, "wal_autocheckpoint", 0)
        .step(step)?;
    connection
        .pragma_update(None, "temp_store", "MEMORY")
        .step(step)?;
    // 64 MiB of cache, in KiB.
    connection.pragma_update(None, "cache_size", -65_536).step(step)
}

/// Opens a connection that can only read.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let step = "open a reading connection";
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).step(step)?;
    connection.busy_timeout(Duration::from_secs(5)).step(step)?;
    connection.pragma_update(None, "query_only", true).step(step)?;
    connection
        .pragma_update(None, "mmap_size", 268_435_456_i64)
        .step(step)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_log_reset_fault_are_refused() {
        for (version, ok) in [
            (3_051_002, false),
            (3_051_003, true),
            (3_052_000, false),
            (3_053_000, true),
        ] {
            assert_eq!(sound(version), ok, "{version}");
        }
        assert!(check_library().is_ok());
    }

    #[test]
    fn remote_filesystems_are_known_by_their_magic() {
        assert_eq!(remote(0x6969), Some("NFS"));
        assert_eq!(remote(i64::from(0xff53_4d42_u32 as i32)), Some("CIFS"));
        assert_eq!(remote(0xef53), None, "ext4");
        assert_eq!(remote(0x0102_1994), None, "tmpfs");
    }

    #[test]
    fn a_second_scheduler_is_kept_out_and_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/queue.db");
        let lock = prepare(&path).unwrap();
        assert!(matches!(prepare(&path), Err(OpenError::Held(_))));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        drop(lock);
        prepare(&path).unwrap();
    }

    #[test]
    fn a_newer_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("queue.db");
        let connection = writer(&path, Durability::Full).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = writer(&path, Durability::Full).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    }
}
