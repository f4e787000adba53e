//! The socket as its users meet it: real connections, of root and of an unprivileged user, with good and bad input.

mod access;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::server::{ControlError, ControlState, Socket};
use super::types::{Happened, JobKey, Reloaded};
use crate::ledger::{Ledger, LedgerHealth, Reader};
use crate::testing::{FakeEngine, as_user, closed_order, ended, live_job};

/// uid and gid of nobody.
const NOBODY: u32 = 65534;

/// A server on a runtime of its own, so that a test may block.
struct World {
    engine: FakeEngine,
    path: PathBuf,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        Self::with(|_| None, super::peer::GROUP)
    }

    fn with(reader: impl FnOnce(&Path) -> Option<Reader>, group: &str) -> Self {
        let engine = FakeEngine::start(vec![
            live_job(10, 5, 0, "of-root"),
            live_job(11, 6, NOBODY, "of-nobody"),
            ended(live_job(12, 7, 0, "over"), 1),
        ]);
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("run/governor.sock");
        let reload = || {
            Ok(Reloaded {
                path: None,
                names: Vec::new(),
                wide: false,
            })
        };
        let mut state = ControlState::new(
            engine.handle.clone(),
            reader(directory.path()),
            LedgerHealth::default(),
            Arc::new(reload),
        );
        group.clone_into(&mut state.group);
        let stop = CancellationToken::new();
        let (stopped, bind) = (stop.clone(), path.clone());
        let (ready, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = runtime();
            runtime.block_on(async move {
                let socket = Socket::bind(&bind).unwrap();
                ready.send(()).unwrap();
                socket.serve(state, stopped).await.unwrap();
            });
        });
        bound.recv().unwrap();
        Self {
            engine,
            path,
            stop,
            thread: Some(thread),
            _directory: directory,
        }
    }

    fn root(&self, method: &str, route: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
        ask(&self.path, method, route, body.into())
    }

    fn nobody(&self, method: &str, route: &str, body: &Value) -> (u16, Value) {
        let (path, method, route) = (self.path.clone(), method.to_owned(), route.to_owned());
        let body = body.to_string().into_bytes();
        as_user(NOBODY, NOBODY, move || ask(&path, &method, &route, body))
    }

    fn stop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn ask(path: &Path, method: &str, route: &str, body: Vec<u8>) -> (u16, Value) {
    runtime().block_on(async {
        crate::tls::use_ring();
        let client = reqwest::Client::builder()
            .unix_socket(path)
            .no_proxy()
            .build()
            .unwrap();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("http://governor{route}");
        let answer = client.request(method, url).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    })
}

fn attach(pid: u32, limits: &Value) -> Value {
    json!({"pid": pid, "found": "attach", "limits": limits})
}

/// A process of nobody's; ended when dropped.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn start() -> Self {
        let mut command = std::process::Command::new("sleep");
        Self(command.arg("60").uid(NOBODY).gid(NOBODY).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn bad_input_is_refused_with_the_field_and_never_ends_the_server() {
    let world = World::start();
    let deep = "[".repeat(100_000);
    let rows: [(&str, &str, &str, u16, &str); 15] = [
        ("POST", "/v1/attach", "", 400, "EOF"),
        ("POST", "/v1/attach", "{", 400, "EOF"),
        ("POST", "/v1/attach", &deep, 400, "field"),
        ("POST", "/v1/attach", "{\"pid\":-1}", 400, "`pid`"),
        (
            "POST",
            "/v1/attach",
            "{\"pid\":1,\"found\":\"attach\",\"limits\":{\"nice\":\"x\"}}",
            400,
            "`limits.nice`",
        ),
        (
            "POST",
            "/v1/attach",
            "{\"pid\":1,\"found\":\"attach\",\"limits\":{\"nice\":99}}",
            400,
            "nice",
        ),
        (
            "POST",
            "/v1/attach",
            "{\"pid\":1,\"found\":\"attach\",\"job_id\":\"../x\"}",
            400,
            "`job_id`",
        ),
        (
            "POST",
            "/v1/attach",
            "{\"pid\":1,\"found\":\"attach\",\"limit\":{}}",
            400,
            "unknown field `limit`",
        ),
        (
            "POST",
            "/v1/attach",
            "{\"pid\":1,\"found\":\"attach\"} x",
            400,
            "after the end",
        ),
        ("POST", "/v1/release", "\"Everything\"", 400, "unknown variant"),
        (
            "POST",
            "/v1/sessions",
            "{\"targets\":[\"a/b\"]}",
            400,
            "`targets`",
        ),
        ("GET", "/v1/explain/x", "", 400, "`pid`"),
        ("GET", "/v1/jobs?limit=x", "", 400, "limit"),
        ("GET", "/v1/nothing", "", 404, "no route"),
        ("GET", "/v1/attach", "", 405, "does not take"),
    ];
    for (method, route, body, status, text) in rows {
        let (got, answer) = world.root(method, route, body);
        assert_eq!(got, status, "{method} {route} {body:.60}: {answer}");
        assert!(
            answer["message"].as_str().unwrap().contains(text),
            "{route} {body:.60}: {answer}"
        );
        assert!(answer["hint"].is_string());
    }
    assert!(world.engine.state.lock().unwrap().attached.is_empty());
    assert_eq!(world.root("GET", "/v1/status", "").0, 200);
}

#[test]
fn a_body_beyond_the_limit_is_not_read() {
    let world = World::start();
    let path = world.path.clone();
    // The server hangs up on such a body, so the answer may or may not arrive.
    let answered = runtime().block_on(async move {
        crate::tls::use_ring();
        let client = reqwest::Client::builder()
            .unix_socket(path)
            .no_proxy()
            .build()
            .unwrap();
        let body = json!({"targets": ["ffmpeg"], "yaml": "#".repeat(2 << 20)}).to_string();
        client
            .post("http://governor/v1/sessions")
            .body(body)
            .send()
            .await
            .ok()
    });
    assert!(answered.is_none_or(|answer| answer.status() == 400));
    assert_eq!(world.engine.state.lock().unwrap().last_session, 0);
    assert_eq!(world.root("GET", "/v1/status", "").0, 200);
}

#[test]
fn the_past_comes_from_the_ledger_and_each_job_once() {
    let save = |directory: &Path| {
        let ledger = Ledger::open(&directory.join("governor.db"), "boot").unwrap();
        let reader = ledger.reader();
        let (queue, thread) = ledger.spawn(|_: &[JobKey]| true).unwrap();
        for job in [live_job(12, 7, 0, "over"), live_job(5, 1, 0, "long-ago")] {
            queue.send(closed_order(ended(job, 1))).unwrap();
        }
        drop(queue);
        thread.join().unwrap();
        reader
    };
    let world = World::with(save, super::peer::GROUP);
    let ids = |answer: Value| -> Vec<String> {
        let jobs = answer.as_array().unwrap().iter();
        jobs.map(|job| job["report"]["job_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(world.root("GET", "/v1/jobs", "").1), ["of-root", "of-nobody"]);
    let all = ids(world.root("GET", "/v1/jobs?all=1", "").1);
    assert_eq!(all, ["of-root", "of-nobody", "over", "long-ago"]);
    for name in ["long-ago", "5-1"] {
        let (status, job) = world.root("GET", &format!("/v1/jobs/{name}"), "");
        assert_eq!(
            (status, &job["report"]["job_id"]),
            (200, &json!("long-ago")),
            "{name}"
        );
        assert_eq!(world.root("GET", &format!("/v1/jobs/{name}/wait"), "").1, job);
    }
    let (status, answer) = world.root("GET", "/v1/jobs/never", "");
    assert_eq!((status, &answer["code"]), (404, &json!("no_such_job")));
}

#[test]
fn events_are_lines_of_json_with_the_commands_of_others_hidden() {
    let world = World::start();
    let path = world.path.clone();
    let (ready, listening) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        as_user(NOBODY, NOBODY, move || {
            runtime().block_on(async {
                crate::tls::use_ring();
                let client = reqwest::Client::builder()
                    .unix_socket(path)
                    .no_proxy()
                    .build()
                    .unwrap();
                let mut answer = client.get("http://governor/v1/events").send().await.unwrap();
                ready.send(()).unwrap();
                let mut text = Vec::new();
                while String::from_utf8_lossy(&text).lines().count() < 2 || !text.ends_with(b"\n") {
                    text.extend_from_slice(&answer.chunk().await.unwrap().unwrap());
                }
                String::from_utf8(text).unwrap()
            })
        })
    });
    listening.recv().unwrap();
    world
        .engine
        .publish(Happened::Placed, &live_job(10, 5, 0, "of-root"));
    world
        .engine
        .publish(Happened::Placed, &live_job(11, 6, NOBODY, "of-nobody"));
    let text = reading.join().unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["what"], "placed");
    assert_eq!(events[0]["job"]["report"]["command"], Value::Null);
    assert!(events[1]["job"]["report"]["command"].is_array());
}

#[test]
fn the_socket_is_open_to_all_replaces_a_dead_one_and_goes_with_its_server() {
    let mut world = World::start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.path), 0o666);
    assert_eq!(mode(world.path.parent().unwrap()), 0o755);
    world.stop();
    assert!(!world.path.exists());
    drop(std::os::unix::net::UnixListener::bind(&world.path).unwrap());
    let runtime = runtime();
    let _context = runtime.enter();
    drop(Socket::bind(&world.path).unwrap());
    std::fs::write(&world.path, "not ours").unwrap();
    let error = Socket::bind(&world.path).unwrap_err();
    assert!(matches!(error, ControlError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&world.path).unwrap(), "not ours");
}

#[test]
fn whoever_sees_the_socket_may_connect() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("governor.sock");
    let runtime = runtime();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let modes = std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let mut modes = std::collections::BTreeSet::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                modes.extend(std::fs::metadata(&path).map(|found| found.permissions().mode() & 0o777));
            }
            modes
        });
        let _context = runtime.enter();
        for _ in 0..500 {
            drop(Socket::bind(&path).unwrap());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        seen.join().unwrap()
    });
    assert!(modes.iter().all(|mode| *mode == 0o666), "{modes:?}");
}
