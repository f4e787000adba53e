//! Connections to a scheduler with as little work on this side as can be: one request at a time each, HTTP/1.1.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest wait for an answer; long polls take up to a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where a scheduler is and whom it must be.
#[derive(Clone)]
pub(crate) struct Peer {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// One connection.
pub(crate) struct Line {
    sender: SendRequest<Full<Bytes>>,
}

impl Peer {
    /// At this URL, with this CA where it speaks TLS.
    pub(crate) fn new(url: &str, ca: &Path) -> Self {
        let (scheme, address) = url.split_once("://").unwrap();
        let tls = (scheme == "https").then(|| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            TlsConnector::from(Arc::new(config))
        });
        Self {
            address: address.parse().unwrap(),
            tls,
        }
    }

    /// Opens a connection; `None` when nobody listens, or no longer.
    pub(crate) async fn connect(&self) -> Option<Line> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let sender = match &self.tls {
            None => spawned(handshake(TokioIo::new(stream)).await.ok()?),
            Some(tls) => {
                let name = ServerName::from(self.address.ip());
                let stream = tls.connect(name, stream).await.ok()?;
                spawned(handshake(TokioIo::new(stream)).await.ok()?)
            }
        };
        Some(Line { sender })
    }
}

fn spawned<C>((sender, connection): (SendRequest<Full<Bytes>>, C)) -> SendRequest<Full<Bytes>>
where
    C: Future<Output = hyper::Result<()>> + Send + 'static,
{
    tokio::spawn(connection);
    sender
}

impl Line {
    /// Sends a request; status and body, or `None` when the connection broke.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        key: &str,
        body: Bytes,
    ) -> Option<(u16, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bench")
            .header("authorization", format!("Bearer {key}"))
            .header("prefer", "return=minimal")
            .body(Full::new(body))
            .ok()?;
        let answer = async {
            self.sender.ready().await.ok()?;
            let answer = self.sender.send_request(request).await.ok()?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.ok()?.to_bytes();
            Some((status, body))
        };
        tokio::time::timeout(PATIENCE, answer).await.ok()?
    }

    /// Posts JSON and reads JSON.
    pub(crate) async fn post(&mut self, path: &str, key: &str, body: &Value) -> Option<(u16, Value)> {
        let (status, body) = self
            .send(Method::POST, path, key, body.to_string().into())
            .await?;
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}
