//! The daemon's life with an engine that is not one: everything but the kernel is real.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::client::{DaemonClient, Governor};
use crate::config;
use crate::core::rule::PlacementMode;
use crate::ledger::{self, Ledger};
use crate::testing::{FakeEngine, closed_order, ended, live_job};

struct World {
    directory: tempfile::TempDir,
    stop: CancellationToken,
    engine: Arc<Mutex<Option<(FakeEngine, SaveQueue, EngineOptions)>>>,
    running: tokio::task::JoinHandle<Result<(), DaemonError>>,
}

fn options(directory: &Path) -> DaemonOptions {
    let file = directory.join("governor.yaml");
    std::fs::write(&file, "target_commands: [one]\n").unwrap();
    let mut options = DaemonOptions::new(config::load(&file).unwrap(), Some(file));
    options.socket = directory.join("run/governor.sock");
    options.ledger = LedgerAt::File(directory.join("governor.db"));
    options.metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    options
}

impl World {
    async fn start(change: impl FnOnce(&mut DaemonOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        change(&mut options);
        let stop = options.stop.clone();
        let socket = options.socket.clone();
        let engine = Arc::new(Mutex::new(None));
        let made = Arc::clone(&engine);
        let running = tokio::spawn(run_with(options, move |options, saves, late| {
            let fake = FakeEngine::start(Vec::new());
            late.connect(fake.handle.clone());
            *made.lock().unwrap() = Some((fake.clone(), saves, options));
            Ok(fake.handle)
        }));
        for _ in 0..500 {
            if socket.exists() || running.is_finished() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self {
            directory,
            stop,
            engine,
            running,
        }
    }

    async fn client(&self) -> Governor {
        let socket = self.directory.path().join("run/governor.sock");
        Governor::Daemon(DaemonClient::connect(&socket).await.unwrap())
    }

    fn engine(&self) -> FakeEngine {
        self.engine.lock().unwrap().as_ref().unwrap().0.clone()
    }

    /// Gives the fake's end of the ledger's queue away, as the end of a real engine does.
    fn release_queue(&self) -> SaveQueue {
        self.engine.lock().unwrap().take().unwrap().1
    }
}

#[tokio::test]
async fn it_serves_until_told_to_stop_and_saves_what_it_was_given() {
    let world = World::start(|_| ()).await;
    assert_eq!(world.client().await.status().await.unwrap().tier, "kernel");
    let job = ended(live_job(10, 5, 0, "job"), 0);
    let queue = world.release_queue();
    queue.send(closed_order(job.clone())).unwrap();
    drop(queue);
    world.stop.cancel();
    world.running.await.unwrap().unwrap();
    let directory = world.directory.path();
    assert!(!directory.join("run/governor.sock").exists());
    let boot = ledger::boot_id().unwrap();
    let reader = Ledger::open(&directory.join("governor.db"), &boot)
        .unwrap()
        .reader()
        .unwrap();
    assert_eq!(reader.history(10).unwrap(), [job]);
    Lock::beside(&directory.join("run/governor.sock")).unwrap();
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_is_not_disturbed() {
    let world = World::start(|_| ()).await;
    let second = run_with(options(world.directory.path()), |_, _, _| {
        Err("a second engine was started".into())
    });
    let error = second.await.unwrap_err();
    let DaemonError::Lock(lock) = &error else {
        panic!("{error}")
    };
    assert_eq!(lock.holder(), Some(std::process::id()));
    assert!(world.client().await.status().await.is_ok());
    drop(world.release_queue());
    world.stop.cancel();
    world.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_a_good_one_is_taken() {
    let world = World::start(|_| ()).await;
    let file = world.directory.path().join("governor.yaml");
    let client = world.client().await;
    std::fs::write(&file, "target_commands: [two]\ndefault_limits:\n  cpu_qouta: 5\n").unwrap();
    let error = client.reload().await.unwrap_err();
    assert!(error.message.contains("governor.yaml:3:3"), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert!(
        client
            .reload()
            .await
            .unwrap_err()
            .message
            .contains("governor.yaml")
    );
    assert_eq!(world.engine().state.lock().unwrap().rules_replaced, 0);
    std::fs::write(&file, "target_commands: [two]\n").unwrap();
    let reloaded = client.reload().await.unwrap();
    assert_eq!(
        (reloaded.names, reloaded.path),
        (vec!["two".to_owned()], Some(file))
    );
    client.status().await.unwrap();
    assert_eq!(world.engine().state.lock().unwrap().rules_replaced, 1);
}

#[tokio::test]
async fn a_hangup_reloads() {
    let world = World::start(|_| ()).await;
    let client = world.client().await;
    client.status().await.unwrap();
    // The daemon of this test has registered its handler, so the process survives; other daemons in it reload too.
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    for _ in 0..500 {
        if world.engine().state.lock().unwrap().rules_replaced > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no reload");
}

#[tokio::test]
async fn observing_changes_every_placement() {
    let world = World::start(|options| options.observe = true).await;
    let guard = world.engine.lock().unwrap();
    let rules = &guard.as_ref().unwrap().2.rules;
    assert_eq!(rules.names(), ["one"]);
    assert!(
        rules
            .rules()
            .iter()
            .all(|rule| rule.placement == Some(PlacementMode::Observe))
    );
}

#[tokio::test]
async fn an_engine_that_ends_ends_the_daemon() {
    let world = World::start(|_| ()).await;
    world.engine().handle.stop().await;
    drop(world.release_queue());
    let error = world.running.await.unwrap().unwrap_err();
    assert!(matches!(error, DaemonError::EngineEnded), "{error}");
    assert!(!world.directory.path().join("run/governor.sock").exists());
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_leaves_no_lock() {
    let directory = tempfile::tempdir().unwrap();
    let error = run_with(options(directory.path()), |_, _, _| {
        Err("no types of the kernel".into())
    })
    .await
    .unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "no types of the kernel");
    let socket = directory.path().join("run/governor.sock");
    std::fs::write(&socket, "not ours").unwrap();
    let error = run_with(options(directory.path()), |_, saves, late| {
        let fake = FakeEngine::start(Vec::new());
        late.connect(fake.handle.clone());
        drop(saves);
        Ok(fake.handle)
    })
    .await
    .unwrap_err();
    assert!(
        matches!(error, DaemonError::Control(ControlError::NotASocket { .. })),
        "{error}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = options(directory.path());
    busy.socket = directory.path().join("other.sock");
    busy.metrics = Some(taken.local_addr().unwrap());
    let error = run_with(busy, |_, _, late| {
        let fake = FakeEngine::start(Vec::new());
        late.connect(fake.handle.clone());
        Ok(fake.handle)
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("--metrics off"), "{error}");
    Lock::beside(&directory.path().join("other.sock")).unwrap();
}
