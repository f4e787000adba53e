//! The door of every route: a number for the request, who is asking, whether that is allowed and not too often, and the
//! figures and audit line of what came of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ffrtmp_api::ErrorCode;
use http_body::Body as _;
use jiff::Timestamp;
use tokio_stream::StreamExt as _;
use tracing::Instrument as _;

use super::App;
use super::problem::{Answer, Refused};
use super::server::PeerCertificate;
use crate::metrics::Traffic;
use crate::security::audit::AuditLine;
use crate::security::book::Refusal;
use crate::security::rate::{Budget, TooMany};
use crate::security::scope::{Identity, Need};

/// Name of the header with the request's number.
const REQUEST_ID: &str = "x-request-id";
/// How much of a refused request's body is taken in, bytes: more than a job or a report weighs.
const DRAINED_BYTES: usize = 2 << 20;
/// How long.
const DRAINED_FOR: Duration = Duration::from_secs(2);
/// Numbers of requests since the start.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// What a door knows of its route.
#[derive(Debug, Clone)]
pub(super) struct Door {
    /// The rest of the scheduler.
    pub(super) app: App,
    /// Who may pass.
    pub(super) need: Need,
    /// Whether passing is written down.
    pub(super) audited: bool,
    /// Path as the route has it, for figures: one series a route, not one a job.
    pub(super) endpoint: &'static str,
}

/// Lets a request through, or not.
pub(super) async fn guard(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:x}-{number:x}", door.app.start_ms);
    let address = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0.ip());
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(256).collect();
    let received = request.body().size_hint().lower();
    let admitted = admit(&door, &request, address);
    let actor = admitted.as_ref().map_or_else(|_| "-".to_owned(), Identity::actor);
    let span = tracing::info_span!("request", otel.kind = "server", http.method = %method, http.route = door.endpoint, actor, request = id);
    let reason = admitted.as_ref().err().map(|refused| refused.0.detail.clone());
    let mut answer = match admitted {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).instrument(span).await
        }
        Err(refused) => {
            drain(request.into_body()).await;
            refused.into_response()
        }
    };
    let status = answer.status().as_u16();
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
    door.app.metrics.on_request(&Traffic {
        method: method.as_str(),
        endpoint: door.endpoint,
        status,
        received,
        sent: answer.body().size_hint().exact().unwrap_or_default(),
        took: started.elapsed(),
    });
    tracing::debug!(%method, path, status, actor, request = id, "served");
    if (door.audited && status != 429) || matches!(status, 401 | 403) {
        door.app.security.audit.write(AuditLine {
            time: Timestamp::now(),
            actor,
            address,
            action: format!("{method} {path}"),
            status,
            reason,
            request: id,
        });
    }
    answer
}

/// Takes in, and throws away, the body of a request that is refused: a connection that is closed while its client still
/// writes shows the client an error of the network instead of the answer. Whoever sends more, or is slow, sees just that.
async fn drain(body: Body) {
    let mut left = DRAINED_BYTES;
    let mut pieces = body.into_data_stream();
    let all = async {
        while let Some(Ok(piece)) = pieces.next().await {
            match left.checked_sub(piece.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _slow = tokio::time::timeout(DRAINED_FOR, all).await;
}

/// Who is asking, charged and allowed.
fn admit(door: &Door, request: &Request, address: Option<IpAddr>) -> Answer<Identity> {
    let security = &door.app.security;
    let charge = || address.map_or(Ok(()), |address| security.rates.charge_address(address));
    if door.need == Need::Nobody {
        return charge()
            .map(|()| Identity::Anyone)
            .map_err(|error| too_many(door, error));
    }
    let token = bearer(request.headers())?;
    let certificate = request.extensions().get::<PeerCertificate>();
    let name = certificate.and_then(|certificate| certificate.0.as_deref());
    let identity = security
        .identify(token, name, Timestamp::now())
        .map_err(|refusal| {
            if let Err(error) = charge() {
                return too_many(door, error);
            }
            door.app.metrics.on_refused_key(refusal);
            unauthorized(refusal)
        })?;
    if !matches!(identity, Identity::Node { .. }) {
        charge().map_err(|error| too_many(door, error))?;
    }
    security
        .rates
        .charge_caller(&identity)
        .map_err(|error| too_many(door, error))?;
    if door.need == Need::Node && security.nodes_need_certificates() && name.is_none() {
        return Err(Refused::new(
            ErrorCode::Forbidden,
            "nodes show a certificate here (--mtls); send a certificate request when you join",
        ));
    }
    if identity.may(door.need) {
        Ok(identity)
    } else {
        Err(forbidden(door.need))
    }
}

/// The key of a request: `Authorization: Bearer KEY` or `X-API-Key: KEY`.
fn bearer(headers: &HeaderMap) -> Answer<Option<&str>> {
    let unreadable = || {
        Refused::new(
            ErrorCode::Unauthorized,
            "the key holds characters that no key has",
        )
    };
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| unreadable())?;
        let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") || key.trim().is_empty() {
            return Err(Refused::new(
                ErrorCode::Unauthorized,
                "write Authorization: Bearer KEY",
            ));
        }
        return Ok(Some(key.trim()));
    }
    let key = headers
        .get("x-api-key")
        .map(|value| value.to_str().map_err(|_| unreadable()))
        .transpose()?;
    Ok(key.map(str::trim).filter(|key| !key.is_empty()))
}

fn unauthorized(refusal: Refusal) -> Refused {
    Refused::new(ErrorCode::Unauthorized, refusal.to_string())
}

fn too_many(door: &Door, error: TooMany) -> Refused {
    door.app.metrics.on_rate_limited(error.budget);
    let whose = match error.budget {
        Budget::Address => "this address",
        Budget::Caller => "this key",
    };
    let mut refused = Refused::new(
        ErrorCode::RateLimited,
        format!("too many requests from {whose}; send batches, or wait"),
    );
    refused.0.retry_after_sec = Some(
        u32::try_from(error.retry_after.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1),
    );
    refused
}

fn forbidden(need: Need) -> Refused {
    let text = match need {
        Need::Nobody | Need::Anybody => "this is not allowed".to_owned(),
        Need::Scope(scope) => format!("this key lacks the scope {scope}"),
        Need::Node => "only a node may do this, with its own key or certificate".to_owned(),
        Need::Join => "joining takes a join token, or a key with the scope admin".to_owned(),
    };
    Refused::new(ErrorCode::Forbidden, text)
}
