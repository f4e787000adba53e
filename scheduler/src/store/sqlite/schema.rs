//! The tables, as an append-only list of migrations.
//!
//! `PRAGMA user_version` is the index into the list. A migration that was released is never edited; a change is a new
//! entry. A file of a newer version than this program knows is refused. The hot row of a job (`jobs`) is apart from
//! what is written once (`specs`) and what is only read by people (`outcomes`).

use rusqlite::{Connection, TransactionBehavior};

use super::super::error::{Step, StoreError};

/// Every migration, oldest first.
pub(super) const MIGRATIONS: &[&str] = &[V1];

/// States are those of `JobState` in its order, bands those of `Band::index`, phases those of `AttemptPhase`. Times are
/// milliseconds since 1970. `jobs.epoch` is the fence in force, 0 when none is; the two partial unique indexes make a
/// second attempt in force impossible whatever the program does.
const V1: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('next_epoch', 1), ('events_forgotten', 0);

CREATE TABLE classes (
    id    INTEGER PRIMARY KEY,
    needs TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE tenants (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    max_running INTEGER CHECK (max_running >= 0)
) STRICT;

CREATE TABLE nodes (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    info          TEXT    NOT NULL,
    intent        INTEGER NOT NULL CHECK (intent BETWEEN 0 AND 2),
    registered_ms INTEGER NOT NULL,
    removed       INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1))
) STRICT;

CREATE TABLE jobs (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    state       INTEGER NOT NULL CHECK (state BETWEEN 0 AND 8),
    band        INTEGER NOT NULL CHECK (band BETWEEN 0 AND 14),
    class       INTEGER NOT NULL REFERENCES classes (id),
    tenant      INTEGER REFERENCES tenants (id),
    held        INTEGER NOT NULL CHECK (held IN (0, 1)),
    paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    epoch       INTEGER NOT NULL DEFAULT 0,
    attempts    INTEGER NOT NULL DEFAULT 0,
    retries     INTEGER NOT NULL DEFAULT 0,
    losses      INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL,
    events      INTEGER NOT NULL DEFAULT 0,
    node        INTEGER REFERENCES nodes (id),
    engine      INTEGER NOT NULL,
    scenario    TEXT    NOT NULL,
    failure     INTEGER,
    created_ms  INTEGER NOT NULL,
    active_ms   INTEGER NOT NULL,
    started_ms  INTEGER,
    ended_ms    INTEGER,
    retry_ms    INTEGER,
    CHECK ((state IN (1, 2)) = (epoch > 0)),
    CHECK ((state >= 5) = (ended_ms IS NOT NULL)),
    CHECK ((state = 4) = (retry_ms IS NOT NULL))
) STRICT;
CREATE INDEX jobs_open ON jobs (state, seq) WHERE state < 5;
CREATE INDEX jobs_over ON jobs (state, seq) WHERE state >= 5;
CREATE INDEX jobs_by_end ON jobs (ended_ms) WHERE state >= 5;
CREATE INDEX jobs_by_node ON jobs (node, seq) WHERE node IS NOT NULL;

CREATE TABLE specs (
    seq  INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE outcomes (
    seq          INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    error        TEXT,
    retry_reason TEXT,
    sla_ok       INTEGER,
    sla_reason   TEXT
) STRICT;

CREATE TABLE attempts (
    epoch      INTEGER PRIMARY KEY,
    seq        INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    attempt    INTEGER NOT NULL,
    node       INTEGER NOT NULL REFERENCES nodes (id),
    phase      INTEGER NOT NULL CHECK (phase BETWEEN 0 AND 3),
    stop       INTEGER,
    ending     INTEGER,
    failure    INTEGER,
    granted_ms INTEGER NOT NULL,
    started_ms INTEGER,
    ended_ms   INTEGER,
    digest     BLOB,
    result     TEXT,
    UNIQUE (seq, attempt),
    CHECK ((phase = 3) = (ended_ms IS NOT NULL)),
    CHECK ((phase = 2) = (stop IS NOT NULL AND ending IS NULL))
) STRICT;
CREATE UNIQUE INDEX attempts_live ON attempts (seq) WHERE phase < 3;
CREATE UNIQUE INDEX attempts_accepted ON attempts (seq) WHERE ending = 0;

CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    seq     INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    n       INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    before  INTEGER,
    after   INTEGER NOT NULL,
    node    INTEGER,
    attempt INTEGER,
    reason  TEXT NOT NULL,
    UNIQUE (seq, n)
) STRICT;

CREATE TABLE idempotency (
    key    BLOB PRIMARY KEY CHECK (length(key) = 32),
    digest BLOB NOT NULL,
    seq    INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_job ON idempotency (seq);

CREATE TABLE strikes (
    node     INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    class    INTEGER NOT NULL REFERENCES classes (id),
    count    INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (node, class)
) STRICT, WITHOUT ROWID;
";

/// Version of the file's schema.
pub(super) fn version(connection: &Connection) -> Result<usize, StoreError> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map(|version| version as usize)
        .step("read the schema's version")
}

/// Why a file could not be brought to this program's schema.
#[derive(Debug)]
pub(super) enum MigrateError {
    /// A newer program wrote it.
    Newer(usize),
    /// The database refused.
    Store(StoreError),
}

impl From<StoreError> for MigrateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Runs the migrations the file has not seen, in one exclusive transaction.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), MigrateError> {
    let found = version(connection)?;
    let missing = migrations.get(found..).ok_or(MigrateError::Newer(found))?;
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Exclusive)
        .step("begin the migration")?;
    for migration in missing {
        transaction.execute_batch(migration).step("migrate")?;
    }
    transaction
        .pragma_update(None, "user_version", migrations.len() as u32)
        .step("note the schema's version")?;
    transaction.commit().step("commit the migration")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gets_every_table_and_running_again_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let tables: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(tables, 11);
        assert_eq!(version(&connection).unwrap(), MIGRATIONS.len());
    }

    #[test]
    fn a_newer_schema_is_left_alone_and_a_failing_migration_leaves_the_old_one() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(
            migrate(
                &mut connection,
                &["CREATE TABLE a (x INTEGER) STRICT", "NONSENSE"]
            )
            .is_err()
        );
        assert_eq!(version(&connection).unwrap(), 0);
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(
            migrate(&mut connection, MIGRATIONS),
            Err(MigrateError::Newer(99))
        ));
    }

    /// A released migration is never edited. Change this number only together with a migration that was never
    /// released.
    #[test]
    fn released_migrations_are_as_they_were() {
        use sha2::{Digest, Sha256};
        let hash = Sha256::digest(V1);
        insta::assert_debug_snapshot!(&hash[..8]);
    }
}
