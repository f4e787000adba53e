//! The whole daemon over real sockets with real TLS, before a queue of a few lines.

mod access;
mod nodes;
mod requests;

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use super::*;
use crate::config::Secret;
use crate::testing::FakeStore;

const MASTER: &str = "a-master-key-of-the-operator";

struct World {
    place: tempfile::TempDir,
    store: Arc<FakeStore>,
    running: Option<Running>,
    client: Client,
}

fn client(running: &Running, identity: Option<&str>) -> Client {
    let ca = reqwest::Certificate::from_pem(running.security.authority.pem().as_bytes()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder().no_proxy().tls_certs_only([ca]);
    if let Some(pem) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

impl World {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut config = config(place.path());
        change(&mut config);
        let store = Arc::new(FakeStore::default());
        let queue = Queue::new(Arc::clone(&store));
        let running = start(&config, queue).await.unwrap();
        Self {
            client: client(&running, None),
            running: Some(running),
            store,
            place,
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.running().api)
    }

    fn ask(&self, method: Method, path: &str, key: Option<&str>) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        told(self.ask(Method::GET, path, Some(MASTER))).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        told(self.ask(Method::POST, path, Some(MASTER)).json(body)).await
    }

    async fn probe(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.running().metrics.unwrap());
        let answer = self.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn end(self) -> tempfile::TempDir {
        let Self {
            place,
            running,
            store,
            ..
        } = self;
        drop(store);
        running.unwrap().stop().await;
        place
    }
}

fn config(place: &Path) -> Config {
    let mut config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics: Some("127.0.0.1:0".parse().unwrap()),
        database: place.join("master.db"),
        drain: Duration::from_secs(5),
        ..Config::default()
    };
    config.access.api_key = Secret::new(MASTER);
    config.access.per_address = 0;
    config.limits.disk_reserve_bytes = 0;
    config
}

async fn told(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
