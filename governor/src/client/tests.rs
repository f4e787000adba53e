//! The client against the real server on a real socket, and against an engine in this process.

use std::sync::Arc;
use std::time::Duration;

use ffrtmp_api::{Intent, Limits};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::control::server::{ControlState, Socket};
use crate::control::types::Happened;
use crate::core::facts::Found;
use crate::ledger::LedgerHealth;
use crate::testing::{FakeEngine, eventually, live_job};

struct World {
    engine: FakeEngine,
    stop: CancellationToken,
    directory: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let engine = FakeEngine::start(vec![live_job(10, 5, 0, "job-1"), live_job(11, 6, 1000, "job-2")]);
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket::bind(&directory.path().join("governor.sock")).unwrap();
        let handle = engine.handle.clone();
        let reload = Arc::new(move || {
            handle.replace_rules(crate::core::rule::RuleSet::default());
            Ok(Reloaded {
                path: None,
                names: vec!["ffmpeg".to_owned()],
                wide: false,
            })
        });
        let state = ControlState::new(engine.handle.clone(), None, LedgerHealth::default(), reload);
        let stop = CancellationToken::new();
        tokio::spawn(socket.serve(state, stop.clone()));
        Self {
            engine,
            stop,
            directory,
        }
    }

    async fn both(&self) -> [Governor; 2] {
        let socket = self.directory.path().join("governor.sock");
        let daemon = DaemonClient::connect(&socket).await.unwrap();
        [
            Governor::Daemon(daemon),
            Governor::Local(self.engine.handle.clone()),
        ]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn request(pid: u32) -> AttachRequest {
    AttachRequest {
        pid,
        found: Found::Attach,
        job_id: None,
        limits: Limits::default(),
        intent: Intent::Test,
        sla_eligible: false,
        timeout_ms: None,
        placement: None,
        command: None,
    }
}

#[tokio::test]
async fn daemon_and_local_engine_give_the_same_answers() {
    let world = World::start();
    let [daemon, local] = world.both().await;
    assert_eq!(daemon.jobs(false).await, local.jobs(false).await);
    assert_eq!(daemon.jobs(true).await, local.jobs(true).await);
    assert_eq!(daemon.explain(10).await, local.explain(10).await);
    assert_eq!(
        daemon.status().await.unwrap().tier,
        local.status().await.unwrap().tier
    );
    let released = ReleaseRequest::One("job-1".to_owned());
    assert_eq!(
        daemon.release(released.clone()).await,
        local.release(released).await
    );
    let attached = daemon.attach(request(20)).await.unwrap();
    assert_eq!(attached, local.attach(request(20)).await.unwrap());
    assert_eq!(world.engine.state.lock().unwrap().released.len(), 2);
}

#[tokio::test]
async fn a_wait_answers_when_the_job_ends() {
    let world = World::start();
    for (governor, pid) in world.both().await.into_iter().zip([10, 11]) {
        let key = local_key(&world, pid);
        let waiting = tokio::spawn(async move { governor.wait(key).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        world.engine.end(key, 3);
        let job = waiting.await.unwrap().unwrap();
        assert_eq!(job.report.exit_code, Some(3));
    }
}

fn local_key(world: &World, pid: u32) -> JobKey {
    let state = world.engine.state.lock().unwrap();
    state.jobs.iter().find(|job| job.key.0.pid == pid).unwrap().key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_hears_what_happens_and_its_rules_go_with_it() {
    let world = World::start();
    for governor in world.both().await {
        let rules = SessionRules {
            targets: vec!["ffmpeg".to_owned()],
            ..SessionRules::default()
        };
        let mut watch = governor.open_watch(rules).await.unwrap();
        assert_eq!(world.engine.state.lock().unwrap().sessions, [watch.session]);
        let job = live_job(10, 5, 0, "job-1");
        world.engine.publish(Happened::Discovered, &job);
        world.engine.publish(Happened::Exited, &job);
        let first = watch.events.next().await.unwrap().unwrap();
        assert_eq!((first.what, first.job), (Happened::Discovered, job));
        assert_eq!(watch.events.next().await.unwrap().unwrap().what, Happened::Exited);
        drop(watch);
        eventually("the end of the session", || {
            world.engine.state.lock().unwrap().sessions.is_empty()
        });
    }
}

#[tokio::test]
async fn events_end_when_the_engine_does() {
    let world = World::start();
    let [daemon, local] = world.both().await;
    let mut streams = [daemon.events().await.unwrap(), local.events().await.unwrap()];
    world
        .engine
        .publish(Happened::Placed, &live_job(10, 5, 0, "job-1"));
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().unwrap().what, Happened::Placed);
    }
    world.engine.handle.stop().await;
    for stream in &mut streams {
        assert!(stream.next().await.is_none());
    }
    assert_eq!(daemon.status().await.unwrap_err().code, ErrorCode::Gone);
}

#[tokio::test]
async fn a_refusal_arrives_with_its_code_and_hint() {
    let world = World::start();
    for governor in world.both().await {
        let error = governor.open_watch(SessionRules::default()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid);
        assert!(error.message.contains("targets") && error.hint.is_some());
    }
    let [daemon, local] = world.both().await;
    let long = SessionRules {
        yaml: Some("#".repeat(2 << 20)),
        ..SessionRules::default()
    };
    let error = daemon.open_watch(long).await.unwrap_err();
    assert!(error.message.contains("1048576"), "{error}");
    assert_eq!(daemon.reload().await.unwrap().names, ["ffmpeg"]);
    assert_eq!(local.reload().await.unwrap_err().code, ErrorCode::Invalid);
}

#[tokio::test]
async fn no_daemon_is_told_from_not_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.sock");
    let missing = DaemonClient::connect(&path).await.unwrap_err();
    assert!(missing.is_no_daemon(), "{missing}");
    // A socket file whose listener has gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let refused = DaemonClient::connect(&path).await.unwrap_err();
    assert!(refused.is_no_daemon(), "{refused}");
    // The temporary directory is root's alone.
    let listener = std::os::unix::net::UnixListener::bind(directory.path().join("live.sock")).unwrap();
    let live = directory.path().join("live.sock");
    let denied = crate::testing::as_user(65534, 65534, move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(DaemonClient::connect(&live)).unwrap_err()
    });
    assert!(matches!(denied, ConnectError::NotAllowed { .. }), "{denied}");
    drop(listener);
}
