//! The scheduler is killed at random under load, again and again. What it acknowledged is there, once, in order.
//!
//! 25 kills by default, 100 with `FFRTMP_TEST_LONG`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ffrtmp_api::JobState;
use rand::RngExt as _;

use crate::audit::{self, Rows};
use crate::farm::{Farm, Ledger};
use crate::server::{Place, Server};

fn rounds() -> usize {
    if std::env::var_os("FFRTMP_TEST_LONG").is_some() {
        100
    } else {
        25
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_under_load_lose_nothing_that_was_acknowledged() {
    let place = Place::new("");
    let ca = place.path("queue.d/ca.crt");
    let mut server = place.start();
    let farm = Farm::start(&server, 8, 3).await;
    let mut ended = HashMap::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds() {
        let life = rand::rng().random_range(20..400);
        tokio::time::sleep(Duration::from_millis(life)).await;
        // Whoever was answered before this moment is in these books.
        server.kill();
        farm.moved(None);
        let known = farm.ledger.submitted.lock().unwrap().clone();
        let rows = audit::read(&place.database());
        kept(&known, &rows);
        final_states(&mut ended, &rows);
        if rand::rng().random_bool(0.3) {
            // Killed again before it serves.
            let starting = Server::spawn(place.command(&[]));
            let life = rand::rng().random_range(0..120);
            tokio::time::sleep(Duration::from_millis(life)).await;
            starting.kill();
        }
        server = Server::spawn(place.command(&[])).ready(&ca);
        slowest = slowest.max(server.took);
        farm.moved(Some(&server));
    }
    let ledger = farm.end().await;
    let (status, _) = server.get("/readyz").await;
    assert_eq!(status, 200);
    server.stop();
    let rows = audit::read(&place.database());
    verdict(&ledger, &rows);
    eprintln!(
        "{} kills: {} acknowledged jobs, {} results, {} cancels, {} requests sent twice; slowest start {} ms",
        rounds(),
        ledger.submitted.lock().unwrap().len(),
        ledger.completed.lock().unwrap().len(),
        ledger.canceled.lock().unwrap().len(),
        ledger.repeated.load(std::sync::atomic::Ordering::Relaxed),
        slowest.as_millis()
    );
}

/// Every acknowledged job is there.
pub(crate) fn kept(known: &HashMap<String, String>, rows: &Rows) {
    let lost: Vec<_> = known.iter().filter(|(_, id)| !rows.contains_key(*id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged jobs are lost: {:?}",
        lost.len(),
        known.len(),
        &lost[..lost.len().min(5)]
    );
}

/// No job that had ended is anything else now: nobody here retries.
fn final_states(ended: &mut HashMap<String, JobState>, rows: &Rows) {
    for (id, state) in &*ended {
        assert_eq!(rows[id].state, *state, "{id} had ended");
    }
    let over = rows.iter().filter(|(_, row)| row.state.terminal());
    ended.extend(over.map(|(id, row)| (id.clone(), row.state)));
}

/// The whole ledger against the disk.
pub(crate) fn verdict(ledger: &Ledger, rows: &Rows) {
    let wrong = ledger.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let submitted = ledger.submitted.lock().unwrap();
    kept(&submitted, rows);
    let distinct: HashSet<&String> = submitted.values().collect();
    assert_eq!(distinct.len(), submitted.len(), "two keys gave one job");
    assert_eq!(
        rows.len(),
        submitted.len(),
        "a repeated request made a second job"
    );
    assert!(submitted.len() > 50, "only {} jobs: no load", submitted.len());
    for id in &*ledger.canceled.lock().unwrap() {
        assert_eq!(rows[id].state, JobState::Canceled, "{id} was cancelled");
    }
    let completed = ledger.completed.lock().unwrap();
    assert!(!completed.is_empty(), "no node finished anything");
    let mut winners = HashMap::new();
    for (id, epoch) in &*completed {
        let before = winners.insert(id, epoch);
        assert!(
            before.is_none_or(|before| before == epoch),
            "{id} has two results"
        );
        assert_eq!(rows[id].accepted, Some(*epoch), "{id}");
    }
}
