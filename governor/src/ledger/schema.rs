//! The ledger's tables, as an append-only list of migrations.
//!
//! `PRAGMA user_version` is the index into the list: version N means that the first N migrations have run. A migration
//! that was released is never edited; a change is a new entry. A file with a higher version than this program knows
//! is refused, because writing to it could break what the newer program relies on.

use rusqlite::{Connection, TransactionBehavior};

/// Every migration, oldest first.
pub(super) const MIGRATIONS: &[&str] = &[V1];

/// `view` is the whole record as the control socket answers it; the columns repeat what SQL readers ask for. A job's
/// identity is (boot, pid, start): the label `job_id` may recur.
const V1: &str = "
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY,
    boot_id      TEXT    NOT NULL,
    pid          INTEGER NOT NULL,
    start_ns     INTEGER NOT NULL,
    job_id       TEXT    NOT NULL,
    found        TEXT    NOT NULL,
    mode         TEXT    NOT NULL,
    intent       TEXT    NOT NULL,
    sla_eligible INTEGER NOT NULL,
    class        TEXT    NOT NULL,
    rule         TEXT,
    tier         TEXT    NOT NULL,
    placement    TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    started_us   INTEGER NOT NULL,
    ended_us     INTEGER,
    closed       INTEGER NOT NULL CHECK (closed IN (0, 1)),
    view         TEXT    NOT NULL,
    UNIQUE (boot_id, pid, start_ns)
) STRICT;
CREATE INDEX jobs_by_label ON jobs (job_id, id);
CREATE INDEX jobs_open ON jobs (boot_id) WHERE closed = 0;
CREATE INDEX jobs_by_end ON jobs (coalesce(ended_us, started_us)) WHERE closed = 1;

CREATE TABLE processes (
    job      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    pid      INTEGER NOT NULL,
    start_ns INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    command  TEXT,
    PRIMARY KEY (job, pid, start_ns)
) STRICT, WITHOUT ROWID;

CREATE TABLE exits (
    job           INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    exit_code     INTEGER,
    exit_reason   TEXT NOT NULL,
    signal        INTEGER,
    killed_by     TEXT,
    sla_compliant INTEGER,
    sla_reason    TEXT
) STRICT;

CREATE TABLE usage (
    job                  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    cpu_sec              REAL,
    user_sec             REAL,
    system_sec           REAL,
    read_bytes           INTEGER,
    write_bytes          INTEGER,
    net_rx_bytes         INTEGER,
    net_tx_bytes         INTEGER,
    memory_peak_bytes    INTEGER,
    processes            INTEGER,
    voluntary_switches   INTEGER,
    involuntary_switches INTEGER,
    throttled_sec        REAL
) STRICT;

CREATE TABLE warnings (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq  INTEGER NOT NULL,
    text TEXT    NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Why a file could not be brought to this program's schema.
#[derive(Debug)]
pub(super) enum MigrateError {
    /// A newer program wrote it; the value is its version.
    Newer(usize),
    /// SQLite refused.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Runs the migrations the file has not seen, all in one exclusive transaction, so that a crash leaves the old
/// schema or the new one and two programs that start at once cannot both migrate.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), MigrateError> {
    if version(connection)? == migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let found = version(&transaction)?;
    let missing = migrations.get(found..).ok_or(MigrateError::Newer(found))?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", migrations.len() as u32)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> Result<usize, rusqlite::Error> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map(|version| version as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    }

    #[test]
    fn an_empty_file_gets_every_table_and_the_version() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        assert_eq!(
            tables(&connection),
            ["exits", "jobs", "meta", "processes", "usage", "warnings"]
        );
        assert_eq!(version(&connection).unwrap(), MIGRATIONS.len());
        migrate(&mut connection, MIGRATIONS).unwrap();
    }

    #[test]
    fn only_the_missing_migrations_run() {
        let mut connection = Connection::open_in_memory().unwrap();
        let one = ["CREATE TABLE a (x INTEGER) STRICT"];
        let two = [one[0], "CREATE TABLE b (x INTEGER) STRICT"];
        migrate(&mut connection, &one).unwrap();
        migrate(&mut connection, &two).unwrap();
        assert_eq!(tables(&connection), ["a", "b"]);
    }

    #[test]
    fn a_failing_migration_leaves_the_old_schema() {
        let mut connection = Connection::open_in_memory().unwrap();
        let bad = ["CREATE TABLE a (x INTEGER) STRICT", "CREATE NONSENSE"];
        assert!(matches!(
            migrate(&mut connection, &bad),
            Err(MigrateError::Sql(_))
        ));
        assert_eq!(tables(&connection), [""; 0]);
        assert_eq!(version(&connection).unwrap(), 0);
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .pragma_update(None, "user_version", MIGRATIONS.len() as u32 + 1)
            .unwrap();
        assert!(matches!(
            migrate(&mut connection, MIGRATIONS),
            Err(MigrateError::Newer(n)) if n == MIGRATIONS.len() + 1
        ));
        assert_eq!(tables(&connection), [""; 0]);
    }
}
