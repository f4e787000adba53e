//! What one would write first, and what the predecessor did: one commit a request, one order for all by CASE, nodes that
//! ask every three seconds. It runs on the same disk with the same durability and has no network in between, so every
//! ratio is to its favour.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rusqlite::{Connection, OptionalExtension as _};

use crate::Size;
use crate::figure::{Figure, Times, ms};

/// How often its nodes ask.
const POLL: Duration = Duration::from_secs(3);
/// Lone nodes, each with a queue of its own.
const LONE: usize = 32;
/// Jobs submitted to the crowd.
const CROWD_JOBS: u64 = 100;

/// What it can do.
pub(crate) struct Naive {
    pub(crate) submits_per_sec: f64,
    /// One claim at the deep queue.
    pub(crate) claim_deep: Duration,
    claim_shallow: Duration,
    /// From a submission to the only node, which asks every three seconds.
    pub(crate) dispatch: Times,
    crowd: Crowd,
    deep: u32,
}

/// Many nodes that ask one queue.
struct Crowd {
    nodes: usize,
    dispatch: Times,
    empty_per_sec: f64,
}

const CLAIM: &str = "SELECT id FROM jobs WHERE state = 'queued' ORDER BY \
    CASE queue WHEN 'live' THEN 0 WHEN 'default' THEN 1 ELSE 2 END, \
    CASE priority WHEN 'high' THEN 0 WHEN 'medium' THEN 1 ELSE 2 END, created LIMIT 1";

/// Its queue: one connection behind one lock.
struct Queue(Connection);

impl Queue {
    fn open(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT, queue TEXT, priority TEXT, created REAL, body TEXT); \
                 CREATE INDEX by_state ON jobs (state);",
            )
            .unwrap();
        Self(connection)
    }

    /// A submission: one row, one commit.
    fn submit(&self, number: u64) -> String {
        let id = format!("{:032x}", u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        self.0
            .prepare_cached("INSERT INTO jobs VALUES (?1, 'queued', 'default', 'medium', ?2, ?3)")
            .unwrap()
            .execute((&id, number as f64, "{\"scenario\":\"1080p-h264\"}"))
            .unwrap();
        id
    }

    fn fill(&self, from: u64, to: u64) {
        self.0.execute_batch("BEGIN").unwrap();
        for number in from..to {
            self.submit(number);
        }
        self.0.execute_batch("COMMIT").unwrap();
    }

    /// A node asks: the first job in order, and one commit when there is one.
    fn claim(&self) -> Option<String> {
        let mut statement = self.0.prepare_cached(CLAIM).unwrap();
        let found = statement.query_row([], |row| row.get::<_, String>(0)).optional();
        let id = found.unwrap()?;
        self.0
            .prepare_cached("UPDATE jobs SET state = 'assigned' WHERE id = ?1")
            .unwrap()
            .execute([&id])
            .unwrap();
        Some(id)
    }

    /// The median of a few claims.
    fn claim_time(&self) -> Duration {
        let times = (0..5)
            .map(|_| {
                let began = Instant::now();
                self.claim().expect("a job");
                began.elapsed()
            })
            .collect();
        Times::of(times).percentile(50)
    }
}

/// Measures it.
pub(crate) fn measure(directory: &Path, size: Size) -> Naive {
    let place = tempfile::tempdir_in(directory).unwrap();
    let queue = Queue::open(&place.path().join("naive.db"));
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(size.flood_sec.min(3)) {
        queue.submit(count);
        count += 1;
    }
    let submits_per_sec = count as f64 / began.elapsed().as_secs_f64();
    queue.0.execute("DELETE FROM jobs", []).unwrap();
    queue.fill(0, 10_000);
    let claim_shallow = queue.claim_time();
    queue.fill(10_000, u64::from(size.deep));
    let claim_deep = queue.claim_time();
    Naive {
        submits_per_sec,
        claim_deep,
        claim_shallow,
        dispatch: lone(place.path()),
        crowd: crowd(place.path(), size.waiters),
        deep: size.deep,
    }
}

/// One node and one job each: the node began to ask at a moment of its own, the job comes at another.
fn lone(directory: &Path) -> Times {
    let times = std::thread::scope(|scope| {
        let pairs: Vec<_> = (0..LONE)
            .map(|number| {
                let queue = Queue::open(&directory.join(format!("lone-{number}.db")));
                scope.spawn(move || {
                    let (polls, comes) = (Instant::now(), rand::rng().random_range(Duration::ZERO..POLL));
                    std::thread::sleep(comes);
                    let submitted = Instant::now();
                    queue.submit(1);
                    std::thread::sleep(POLL.saturating_sub(polls.elapsed()));
                    while queue.claim().is_none() {
                        std::thread::sleep(POLL);
                    }
                    submitted.elapsed()
                })
            })
            .collect();
        pairs.into_iter().map(|pair| pair.join().unwrap()).collect()
    });
    Times::of(times)
}

/// So many nodes, each asking every three seconds, spread evenly; jobs come one at a time.
fn crowd(directory: &Path, nodes: usize) -> Crowd {
    let queue = Mutex::new(Queue::open(&directory.join("crowd.db")));
    let (done, empty, claimed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let gap = POLL / nodes as u32;
    let times = std::thread::scope(|scope| {
        scope.spawn(|| {
            for call in 0_u32.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep((gap * call).saturating_sub(began.elapsed()));
                match queue.lock().unwrap().claim() {
                    Some(_) => claimed.fetch_add(1, Ordering::SeqCst),
                    None => empty.fetch_add(1, Ordering::SeqCst),
                };
            }
        });
        let mut times = Vec::new();
        for number in 0..CROWD_JOBS {
            std::thread::sleep(Duration::from_millis(10));
            let submitted = Instant::now();
            queue.lock().unwrap().submit(number);
            while claimed.load(Ordering::SeqCst) <= number {
                std::thread::sleep(Duration::from_micros(50));
            }
            times.push(submitted.elapsed());
        }
        done.store(true, Ordering::Relaxed);
        times
    });
    Crowd {
        nodes,
        empty_per_sec: empty.load(Ordering::SeqCst) as f64 / began.elapsed().as_secs_f64(),
        dispatch: Times::of(times),
    }
}

impl Naive {
    /// Its own figures.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let Crowd {
            nodes,
            dispatch,
            empty_per_sec,
        } = &self.crowd;
        vec![
            Figure::plain(
                "naive: durable submission, one commit each",
                format!("{:.0} jobs/s", self.submits_per_sec),
            ),
            Figure::plain(
                format!("naive: claim ordered by CASE, 10000 and {} queued", self.deep),
                format!("{} and {}", ms(self.claim_shallow), ms(self.claim_deep)),
            ),
            Figure::plain(
                "naive: submission to a lone node that asks every 3 s",
                self.dispatch.line(),
            ),
            Figure::plain(
                format!("naive: submission to the first of {nodes} nodes that ask every 3 s"),
                format!(
                    "{}, {empty_per_sec:.0} requests a second for nothing",
                    dispatch.line()
                ),
            ),
        ]
    }
}
