//! Routes of nodes: what operators do with them, and what they say themselves. A node speaks for itself alone: the id in
//! the path must be that of its key or certificate.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use ffrtmp_api::{
    AttemptReport, CertificateIssued, CertificateRequest, ClaimRequest, ClaimResponse, ErrorCode, Heartbeat,
    HeartbeatAnswer, JoinRequest, Joined, Node, NodeId, NodeIntent, NodeList, NodeRemoved, Orders,
    ReportAnswer, ReportRequest, ResultStatus,
};
use jiff::Timestamp;

use super::App;
use super::input::{Body, Id, Query};
use super::problem::{Answer, Refused};
use super::route::Route;
use crate::metrics::Claimed;
use crate::security::book::BookError;
use crate::security::scope::{Identity, Need, Scope};
use crate::security::token;

const READ: Need = Need::Scope(Scope::Read);
const OPERATE: Need = Need::Scope(Scope::Operate);

pub(super) fn routes() -> Vec<Route> {
    let mut all = orders_of_operators();
    all.extend(calls());
    all
}

/// What operators ask and order, and how a node joins.
fn orders_of_operators() -> Vec<Route> {
    let intent = |path, name, summary, intent| {
        Route::new(Method::POST, path, name, summary, OPERATE, intending(intent)).gives::<Node>(200)
    };
    vec![
        Route::new(Method::GET, "/nodes", "listNodes", "All nodes", READ, get(list)).gives::<NodeList>(200),
        Route::new(
            Method::POST,
            "/nodes/register",
            "registerNode",
            "Join, or say anew what one is",
            Need::Join,
            post(register),
        )
        .takes::<JoinRequest>()
        .gives::<Joined>(201)
        .gives::<Joined>(200)
        .problems(&[ErrorCode::Conflict]),
        Route::new(Method::GET, "/nodes/{id}", "getNode", "One node", READ, get(one)).gives::<Node>(200),
        Route::new(
            Method::DELETE,
            "/nodes/{id}",
            "removeNode",
            "Forget a node without work, and shut it out",
            OPERATE,
            delete(remove),
        )
        .gives::<NodeRemoved>(200)
        .problems(&[ErrorCode::Conflict]),
        intent(
            "/nodes/{id}/drain",
            "drainNode",
            "No new work; it is about to leave",
            NodeIntent::Draining,
        ),
        intent(
            "/nodes/{id}/cordon",
            "cordonNode",
            "No new work until resumed",
            NodeIntent::Cordoned,
        ),
        intent(
            "/nodes/{id}/resume",
            "resumeNode",
            "Work as usual",
            NodeIntent::Active,
        ),
    ]
}

/// What nodes call themselves.
fn calls() -> Vec<Route> {
    vec![
        Route::new(
            Method::POST,
            "/nodes/{id}/heartbeat",
            "heartbeat",
            "What a node has and how busy it is",
            Need::Node,
            post(heartbeat),
        )
        .takes::<Heartbeat>()
        .gives::<HeartbeatAnswer>(200),
        Route::new(
            Method::GET,
            "/nodes/{id}/orders",
            "orders",
            "What a node is to do, as soon as somebody wants it",
            Need::Node,
            get(orders),
        )
        .gives::<Orders>(200)
        .query::<u64>("after", "Version of the orders the node has; 0 for none")
        .query::<u32>("wait_sec", "Seconds to wait for newer ones, 0 to 60"),
        Route::new(
            Method::POST,
            "/nodes/{id}/claim",
            "claim",
            "Wait for work",
            Need::Node,
            post(claim),
        )
        .takes::<ClaimRequest>()
        .gives::<ClaimResponse>(200),
        Route::new(
            Method::POST,
            "/nodes/{id}/reports",
            "report",
            "A node's word on one of its attempts",
            Need::Node,
            post(report),
        )
        .takes::<ReportRequest>()
        .gives::<ReportAnswer>(200)
        .problems(&[ErrorCode::StaleAttempt, ErrorCode::Conflict]),
        Route::new(
            Method::POST,
            "/nodes/{id}/certificate",
            "renewCertificate",
            "A new certificate for a node",
            Need::Node,
            post(certificate),
        )
        .takes::<CertificateRequest>()
        .gives::<CertificateIssued>(200),
    ]
}

fn node_id(text: &str) -> Answer<NodeId> {
    NodeId::parse(text).map_err(|error| Refused::new(ErrorCode::NotFound, error.to_string()))
}

/// The id in the path, if it is the caller's own.
fn own(identity: &Identity, text: &str) -> Answer<NodeId> {
    let id = node_id(text)?;
    match identity {
        Identity::Node { node } if node == id.as_str() => Ok(id),
        _ => Err(Refused::new(
            ErrorCode::Forbidden,
            "a node speaks for itself only; the path names another",
        )),
    }
}

async fn list(State(app): State<App>) -> Answer<Json<NodeList>> {
    let nodes = app.store.nodes().await?;
    Ok(Json(NodeList {
        count: nodes.len(),
        nodes,
    }))
}

async fn one(State(app): State<App>, Id(id): Id) -> Answer<Json<Node>> {
    Ok(Json(app.store.node(node_id(&id)?).await?))
}

async fn remove(State(app): State<App>, Id(id): Id) -> Answer<Json<NodeRemoved>> {
    let node = node_id(&id)?;
    app.store.remove_node(node.clone()).await?;
    let name = id.clone();
    booking(&app, move |app| {
        app.security.book.remove_node(&name, Timestamp::now())
    })
    .await?;
    Ok(Json(NodeRemoved {
        status: "removed".to_owned(),
        node_id: node,
    }))
}

fn intending(intent: NodeIntent) -> MethodRouter<App> {
    post(move |State(app): State<App>, Id(id): Id| async move {
        let node: Answer<Json<Node>> = Ok(Json(app.store.node_intent(node_id(&id)?, intent).await?));
        node
    })
}

/// Changes the book of credentials, which waits for the disk.
pub(super) async fn booking<T: Send + 'static>(
    app: &App,
    change: impl FnOnce(&App) -> Result<T, BookError> + Send + 'static,
) -> Answer<T> {
    let app = App::clone(app);
    let done = tokio::task::spawn_blocking(move || change(&app)).await;
    let cut = |error: tokio::task::JoinError| {
        Refused::new(ErrorCode::Internal, format!("the change was cut short: {error}"))
    };
    done.map_err(cut)?.map_err(|error| match error {
        BookError::Unknown(_) => Refused::new(ErrorCode::NotFound, error.to_string()),
        BookError::File(_)
        | BookError::Random(_)
        | BookError::Content { .. }
        | BookError::Newer { .. }
        | BookError::Form(_) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the book of credentials was not changed"
            );
            Refused::new(
                ErrorCode::Internal,
                "the book of credentials was not changed; the scheduler's log says why",
            )
        }
    })
}

/// Who a registering node is to be: its own id where it has one; else the one it asks for, if that is free or an admin asks.
fn chosen(app: &App, identity: &Identity, asked: Option<&str>) -> Answer<NodeId> {
    let parse =
        |text: &str| NodeId::parse(text).map_err(|error| Refused::field("node_id", error.to_string()));
    match (identity, asked) {
        (Identity::Node { node }, Some(asked)) if asked != node => Err(Refused::field(
            "node_id",
            format!("the key is that of {node}; leave node_id out, or join with a token"),
        )),
        (Identity::Node { node }, _) => parse(node),
        (_, None) => {
            let id = token::random::<10>()
                .map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?;
            parse(&format!("node-{id}"))
        }
        (Identity::Ticket { .. }, Some(asked)) if app.security.book.knows_node(asked) => Err(Refused::new(
            ErrorCode::Conflict,
            "a node of this name has joined already; it registers with its own key, or is removed first by `ffrtmp nodes remove`",
        )),
        (_, Some(asked)) => parse(asked),
    }
}

async fn register(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Body(request): Body<JoinRequest>,
) -> Answer<Response> {
    request.info.validate()?;
    let id = chosen(&app, &identity, request.node_id.as_deref())?;
    let now = Timestamp::now();
    let certificate = request
        .certificate_request
        .as_deref()
        .map(|asked| sign(&app, &id, asked, now))
        .transpose()?;
    if let Identity::Ticket { id: ticket } = &identity {
        let ticket = ticket.clone();
        let spent = booking(&app, move |app| app.security.book.spend(&ticket, now)).await?;
        spent.map_err(|refusal| Refused::new(ErrorCode::Unauthorized, refusal.to_string()))?;
    }
    let node_key = if matches!(identity, Identity::Node { .. }) {
        None
    } else {
        let name = id.to_string();
        let keyed = !app.security.nodes_need_certificates();
        booking(&app, move |app| app.security.book.admit_node(&name, keyed, now))
            .await?
            .map(|minted| minted.text)
    };
    let (node, new) = app.store.register(id, request.info).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((
        status,
        Json(Joined {
            node,
            node_key,
            certificate,
        }),
    )
        .into_response())
}

fn sign(app: &App, node: &NodeId, request: &str, now: Timestamp) -> Answer<String> {
    app.security
        .authority
        .issue_node(node.as_str(), request, now)
        .map_err(|error| {
            Refused::field(
                "certificate_request",
                format!("{error}; send a PEM request with an ECDSA or Ed25519 key"),
            )
        })
}

async fn certificate(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
    Body(request): Body<CertificateRequest>,
) -> Answer<Json<CertificateIssued>> {
    let id = own(&identity, &id)?;
    let certificate = sign(&app, &id, &request.certificate_request, Timestamp::now())?;
    Ok(Json(CertificateIssued { certificate }))
}

async fn heartbeat(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
    Body(beat): Body<Heartbeat>,
) -> Answer<Json<HeartbeatAnswer>> {
    Ok(Json(app.store.heartbeat(own(&identity, &id)?, beat).await?))
}

async fn orders(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
    mut query: Query,
) -> Answer<Json<Orders>> {
    let id = own(&identity, &id)?;
    let after = query.parsed(&["after"])?.unwrap_or_default();
    let wait_sec = query.parsed(&["wait_sec"])?.unwrap_or_default();
    query.end("after and wait_sec")?;
    if wait_sec > ClaimRequest::WAIT_MOST_SEC {
        return Err(Refused::field("wait_sec", "write 0 to 60"));
    }
    let orders = tokio::select! {
        orders = app.store.orders(id, after, wait_sec) => orders?,
        () = app.stop.cancelled() => return Err(Refused::new(ErrorCode::Unavailable, "the scheduler is stopping; ask again")),
    };
    Ok(Json(orders))
}

async fn claim(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
    Body(request): Body<ClaimRequest>,
) -> Answer<Json<ClaimResponse>> {
    let id = own(&identity, &id)?;
    request.validate()?;
    let answer = tokio::select! {
        answer = app.store.claim(id, request) => answer,
        // Whoever waits is sent home empty-handed when the scheduler drains.
        () = app.stop.cancelled() => Ok(ClaimResponse::default()),
    };
    app.metrics.on_claim(match &answer {
        Ok(response) if response.grants.is_empty() => Claimed::NoJobs,
        Ok(_) => Claimed::Success,
        Err(_) => Claimed::Error,
    });
    let response = answer?;
    let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
    for grant in response.grants.iter().filter(|grant| grant.key.attempt == 1) {
        app.metrics.on_first_grant(&grant.key.job_id, now_ms);
    }
    Ok(Json(response))
}

async fn report(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
    Body(request): Body<ReportRequest>,
) -> Answer<Json<ReportAnswer>> {
    let id = own(&identity, &id)?;
    let ReportRequest { key, report } = request;
    if let AttemptReport::Finished { result } = &report {
        result.validate().map_err(|error| error.within("result"))?;
    }
    let engine = match &report {
        AttemptReport::Started { engine, .. } => engine.clone(),
        _ => None,
    };
    let finished = match &report {
        AttemptReport::Finished { result } => {
            Some((result.status == ResultStatus::Completed, result.duration_sec))
        }
        _ => None,
    };
    let answer = app.store.report(id, key, report).await?;
    if let Some(engine) = engine {
        app.metrics.on_started(key, &engine);
    }
    if let Some((completed, seconds)) = finished.filter(|_| answer == ReportAnswer::Accepted) {
        app.metrics.on_finished(&key, completed, seconds);
    }
    Ok(Json(answer))
}
