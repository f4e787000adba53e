//! The listening side: TLS or plain, who the peer's certificate names, a cap on connections, and a way to drain.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum_server::Handle;
use axum_server::accept::{Accept, DefaultAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

use crate::security::ca::CertFacts;

/// Longest time for a handshake, and for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(15);

/// Common name of the certificate the peer showed, verified against our CAs; `None` without one.
#[derive(Debug, Clone)]
pub(super) struct PeerCertificate(pub(super) Option<String>);

/// Lets in as many connections as there are permits.
#[derive(Debug, Clone)]
struct Gate<A> {
    inner: A,
    permits: Arc<Semaphore>,
}

/// A service that knows its connection's peer, and holds its permit.
#[derive(Debug, Clone)]
struct Known<S> {
    inner: S,
    peer: PeerCertificate,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Known<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.inner.call(request)
    }
}

type Accepted<T, S> = Pin<Box<dyn Future<Output = io::Result<(T, Known<S>)>> + Send>>;

impl<A> Gate<A> {
    fn permit(&self) -> io::Result<Arc<OwnedSemaphorePermit>> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map(Arc::new).map_err(|_| {
            tracing::debug!("a connection was turned away: too many are open");
            io::Error::other("too many connections")
        })
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Gate<DefaultAcceptor> {
    type Stream = TcpStream;
    type Service = Known<S>;
    type Future = Accepted<TcpStream, S>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let permit = self.permit();
        Box::pin(async move {
            stream.set_nodelay(true)?;
            let peer = PeerCertificate(None);
            Ok((
                stream,
                Known {
                    inner: service,
                    peer,
                    _permit: permit?,
                },
            ))
        })
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Gate<RustlsAcceptor> {
    type Stream = <RustlsAcceptor as Accept<TcpStream, S>>::Stream;
    type Service = Known<S>;
    type Future = Accepted<Self::Stream, S>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let permit = self.permit();
        let accepting = stream
            .set_nodelay(true)
            .map(|()| self.inner.accept(stream, service));
        Box::pin(async move {
            let permit = permit?;
            let (stream, inner) = accepting?.await?;
            let first = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let name = first
                .and_then(|der| CertFacts::of_der(der))
                .and_then(|facts| facts.common_name);
            let peer = PeerCertificate(name);
            Ok((
                stream,
                Known {
                    inner,
                    peer,
                    _permit: permit,
                },
            ))
        })
    }
}

/// Serves on a socket until the handle says otherwise.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<RustlsConfig>,
    connections: usize,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let permits = Arc::new(Semaphore::new(connections));
    let app = router.into_make_service_with_connect_info::<SocketAddr>();
    let mut server = axum_server::from_tcp(listener)?.handle(handle);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME);
    server
        .http_builder()
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(HEAD_TIME));
    if let Some(config) = tls {
        let inner = RustlsAcceptor::new(config).handshake_timeout(HEAD_TIME);
        return server.acceptor(Gate { inner, permits }).serve(app).await;
    }
    let inner = DefaultAcceptor::new();
    server.acceptor(Gate { inner, permits }).serve(app).await
}
