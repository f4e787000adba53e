//! Clients and nodes that go on through every restart, and a ledger of what they were promised.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::server::{MASTER, Server};

/// What was acknowledged, kept where no scheduler can reach it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Idempotency keys with the jobs they were answered with.
    pub(crate) submitted: Mutex<HashMap<String, String>>,
    /// Jobs whose cancel was acknowledged.
    pub(crate) canceled: Mutex<Vec<String>>,
    /// Jobs whose result was accepted, with the fence of the attempt.
    pub(crate) completed: Mutex<Vec<(String, i64)>>,
    /// Answers that no scheduler in its right mind gives.
    pub(crate) wrong: Mutex<Vec<String>>,
    /// Requests sent again because no answer came.
    pub(crate) repeated: AtomicU64,
}

impl Ledger {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// Where the scheduler is now; `None` while it is down.
type Place = Option<(String, Client)>;

/// The world around a scheduler.
pub(crate) struct Farm {
    pub(crate) ledger: Arc<Ledger>,
    place: watch::Sender<Place>,
    stop: Arc<AtomicBool>,
    bad_disk: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// One of its inhabitants.
#[derive(Clone)]
struct Someone {
    ledger: Arc<Ledger>,
    place: watch::Receiver<Place>,
    stop: Arc<AtomicBool>,
    bad_disk: Arc<AtomicBool>,
}

/// The id as the database has it.
pub(crate) fn hex(id: &Value) -> String {
    id.as_str().unwrap_or_default().replace('-', "").to_lowercase()
}

impl Farm {
    /// Clients, nodes (registered with this server) and somebody who cancels.
    pub(crate) async fn start(server: &Server, clients: usize, nodes: usize) -> Self {
        let (place, receiver) = watch::channel(None);
        let mut farm = Self {
            ledger: Arc::default(),
            place,
            stop: Arc::default(),
            bad_disk: Arc::default(),
            tasks: JoinSet::new(),
        };
        let someone = Someone {
            ledger: Arc::clone(&farm.ledger),
            place: receiver,
            stop: Arc::clone(&farm.stop),
            bad_disk: Arc::clone(&farm.bad_disk),
        };
        for number in 0..clients {
            farm.tasks.spawn(someone.clone().submit(number));
        }
        for number in 0..nodes {
            let name = format!("n{number}");
            let body = json!({"address": name, "node_id": name, "slots": 64});
            let (status, joined) = server.post("/nodes/register", &body).await;
            assert_eq!(status, 201, "{joined}");
            let key = joined["node_key"].as_str().unwrap().to_owned();
            farm.tasks.spawn(someone.clone().work(name, key));
        }
        farm.tasks.spawn(someone.cancel());
        farm.moved(Some(server));
        farm
    }

    /// The disk will fail under the scheduler, which then answers 5xx: no acknowledgement, and no fault of its own.
    pub(crate) fn on_a_bad_disk(self) -> Self {
        self.bad_disk.store(true, Ordering::SeqCst);
        self
    }

    /// Tells everybody where the scheduler is.
    pub(crate) fn moved(&self, server: Option<&Server>) {
        self.place
            .send_replace(server.map(|server| (server.url.clone(), server.client.clone())));
    }

    /// Lets everybody finish what they began.
    pub(crate) async fn end(mut self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.ledger
    }
}

impl Someone {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether this status is no answer.
    fn again(&self, status: u16) -> bool {
        status == 503 || (status >= 500 && self.bad_disk.load(Ordering::SeqCst))
    }

    /// Sends until there is an answer, through every death of the scheduler.
    async fn insist(
        &mut self,
        path: &str,
        key: &str,
        idempotency: Option<&str>,
        body: &Value,
    ) -> (u16, Value) {
        let mut again = false;
        loop {
            let place = self.place.wait_for(Option::is_some).await;
            let Some((url, client)) = place.ok().and_then(|place| place.clone()) else {
                return (0, Value::Null);
            };
            let mut request = client.post(format!("{url}{path}")).bearer_auth(key).json(body);
            if let Some(key) = idempotency {
                request = request.header("Idempotency-Key", key);
            }
            if std::mem::replace(&mut again, true) {
                self.ledger.repeated.fetch_add(1, Ordering::Relaxed);
            }
            let Ok(answer) = request.send().await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let status = answer.status().as_u16();
            // A head without a body is no acknowledgement.
            match answer.json().await {
                Ok(value) if !self.again(status) => return (status, value),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Submits one job, or a batch, again and again.
    async fn submit(mut self, client: usize) {
        for round in 0.. {
            if self.stopped() {
                return;
            }
            let key = format!("c{client}-{round}");
            let job = json!({"scenario": "1080p-h264"});
            if round % 4 != 0 {
                let (status, answer) = self.insist("/jobs", MASTER, Some(&key), &job).await;
                self.took(key, status, &answer["id"]);
                continue;
            }
            let batch = json!({"jobs": vec![job; 5]});
            let (status, answer) = self.insist("/jobs/batch", MASTER, Some(&key), &batch).await;
            for index in 0..5 {
                self.took(format!("{key}#{index}"), status, &answer["items"][index]["id"]);
            }
        }
    }

    fn took(&self, key: String, status: u16, id: &Value) {
        if !matches!(status, 200 | 201) || !id.is_string() {
            self.ledger.wrong(format!("submission {key}: {status} {id}"));
            return;
        }
        self.ledger.submitted.lock().unwrap().insert(key, hex(id));
    }

    /// Cancels a job now and then.
    async fn cancel(mut self) {
        while !self.stopped() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let job = {
                let submitted = self.ledger.submitted.lock().unwrap();
                let at = rand::rng().random_range(0..submitted.len().max(1));
                submitted.values().nth(at).cloned()
            };
            let Some(job) = job else { continue };
            let id: uuid::Uuid = job.parse().unwrap();
            let path = format!("/jobs/{id}/cancel");
            let (status, answer) = self.insist(&path, MASTER, None, &json!({})).await;
            match status {
                200 => self.ledger.canceled.lock().unwrap().push(job),
                // Over already; perhaps by our own cancel whose answer was lost.
                409 => {}
                _ => self.ledger.wrong(format!("cancel {job}: {status} {answer}")),
            }
        }
    }

    /// A node: takes work, starts it, finishes it, insisting on each word.
    async fn work(mut self, name: String, key: String) {
        let held: Arc<Mutex<Vec<Value>>> = Arc::default();
        for round in 0.. {
            if self.stopped() {
                return;
            }
            let body = json!({"held": held.lock().unwrap().clone()});
            let path = format!("/nodes/{name}/heartbeat");
            let (status, answer) = self.insist(&path, &key, None, &body).await;
            if status != 200 {
                self.ledger.wrong(format!("heartbeat: {status} {answer}"));
            }
            let claim = json!({"claim_id": format!("{round}"), "max": 16, "wait_sec": 1});
            let path = format!("/nodes/{name}/claim");
            let (status, answer) = self.insist(&path, &key, None, &claim).await;
            if status != 200 {
                self.ledger.wrong(format!("claim: {status} {answer}"));
            }
            let grants = answer["grants"].as_array().cloned().unwrap_or_default();
            *held.lock().unwrap() = grants.iter().map(key_of).collect();
            for grant in grants {
                self.run(&name, &key, &key_of(&grant)).await;
            }
            held.lock().unwrap().clear();
        }
    }

    async fn run(&mut self, name: &str, key: &str, attempt: &Value) {
        let path = format!("/nodes/{name}/reports");
        let report = |more: Value| {
            let mut body = attempt.clone();
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            body
        };
        let started = report(json!({"event": "started", "pid": 7, "engine": "ffmpeg"}));
        let (status, _) = self.insist(&path, key, None, &started).await;
        // Cancelled meanwhile, or given back because the answer to the claim was lost.
        if status == 409 {
            return;
        }
        let finished =
            report(json!({"event": "finished", "result": {"status": "completed", "duration_sec": 4.5}}));
        let (status, answer) = self.insist(&path, key, None, &finished).await;
        let epoch = attempt["epoch"].as_i64().unwrap();
        match (status, answer["verdict"].as_str()) {
            (200, Some("accepted" | "already_accepted")) => {
                let done = (hex(&attempt["job_id"]), epoch);
                self.ledger.completed.lock().unwrap().push(done);
            }
            (200, Some("noted")) | (409, _) => {}
            _ => self.ledger.wrong(format!("result: {status} {answer}")),
        }
    }
}

fn key_of(grant: &Value) -> Value {
    json!({"job_id": grant["job_id"], "attempt": grant["attempt"], "epoch": grant["epoch"]})
}
