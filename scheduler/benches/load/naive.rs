//! What one would write first, and what the predecessor did: one commit a request, one order for all by CASE, nodes that
//! ask every three seconds. It has no network in between, so every ratio is to its favour.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rusqlite::Connection;

use crate::Size;
use crate::figure::{Figure, Times};

/// How often its nodes ask.
const POLL: Duration = Duration::from_secs(3);

/// What it can do.
pub(crate) struct Naive {
    pub(crate) submits_per_sec: f64,
    /// One claim at the deep queue.
    pub(crate) claim_deep: Duration,
    claim_shallow: Duration,
    /// From a submission to the node that asks every three seconds.
    pub(crate) dispatch: Times,
    deep: u32,
}

const CLAIM: &str = "SELECT id FROM jobs WHERE state = 'queued' ORDER BY \
    CASE queue WHEN 'live' THEN 0 WHEN 'default' THEN 1 ELSE 2 END, \
    CASE priority WHEN 'high' THEN 0 WHEN 'medium' THEN 1 ELSE 2 END, created LIMIT 1";

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT, queue TEXT, priority TEXT, created REAL, body TEXT); \
             CREATE INDEX by_state ON jobs (state);",
        )
        .unwrap();
    connection
}

fn insert(connection: &Connection, number: u64) {
    let id = format!("{:032x}", u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    connection
        .prepare_cached("INSERT INTO jobs VALUES (?1, 'queued', 'default', 'medium', ?2, ?3)")
        .unwrap()
        .execute((id, number as f64, "{\"scenario\":\"1080p-h264\"}"))
        .unwrap();
}

/// The median of a few claims.
fn claim(connection: &Connection) -> Duration {
    let times = (0..5)
        .map(|_| {
            let began = Instant::now();
            connection
                .query_row(CLAIM, [], |row| row.get::<_, String>(0))
                .unwrap();
            began.elapsed()
        })
        .collect();
    Times::of(times).percentile(50)
}

/// Measures it.
pub(crate) fn measure(directory: &Path, size: Size) -> Naive {
    let place = tempfile::tempdir_in(directory).unwrap();
    let connection = open(&place.path().join("naive.db"));
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(size.flood_sec.min(3)) {
        insert(&connection, count);
        count += 1;
    }
    let submits_per_sec = count as f64 / began.elapsed().as_secs_f64();
    let fill = |from: u64, to: u64| {
        connection.execute_batch("BEGIN").unwrap();
        (from..to).for_each(|number| insert(&connection, number));
        connection.execute_batch("COMMIT").unwrap();
    };
    connection.execute("DELETE FROM jobs", []).unwrap();
    fill(0, 10_000);
    let claim_shallow = claim(&connection);
    fill(10_000, u64::from(size.deep));
    let claim_deep = claim(&connection);
    Naive {
        submits_per_sec,
        claim_deep,
        claim_shallow,
        dispatch: dispatch(),
        deep: size.deep,
    }
}

/// Nodes that ask every three seconds, each begun at a moment of its own, each with a job that comes at another.
fn dispatch() -> Times {
    let nodes: Vec<_> = (0..64)
        .map(|_| {
            let phase = rand::rng().random_range(Duration::ZERO..POLL);
            std::thread::spawn(move || {
                let (submitted, wake) = (Instant::now(), phase);
                std::thread::sleep(wake);
                submitted.elapsed()
            })
        })
        .collect();
    Times::of(nodes.into_iter().map(|node| node.join().unwrap()).collect())
}

impl Naive {
    /// Its own figures.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::plain(
                "naive: durable submission, one commit each",
                format!("{:.0} jobs/s", self.submits_per_sec),
            ),
            Figure::plain(
                format!("naive: claim ordered by CASE, 10000 and {} queued", self.deep),
                format!(
                    "{} and {}",
                    crate::figure::ms(self.claim_shallow),
                    crate::figure::ms(self.claim_deep)
                ),
            ),
            Figure::plain(
                "naive: submission to a lone node that asks every 3 s",
                self.dispatch.line(),
            ),
        ]
    }
}
