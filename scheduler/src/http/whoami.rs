//! The route that tells a caller who it is: the first thing `ffrtmp login` asks, and the last when a key seems wrong.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::Method;
use axum::routing::get;
use axum::{Extension, Json};
use ffrtmp_api::{CallerKind, WhoAmI};

use super::App;
use super::route::Route;
use crate::security::scope::{Identity, Need, Scope};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/whoami",
            "whoami",
            "Who the shown key or certificate belongs to, and what it may do",
            Need::Anybody,
            get(whoami),
        )
        .gives::<WhoAmI>(200),
    ]
}

async fn whoami(State(app): State<App>, Extension(identity): Extension<Identity>) -> Json<WhoAmI> {
    let all = || Scope::ALL.iter().copied().collect();
    let (kind, id, name, scopes) = match identity {
        Identity::Anyone => (CallerKind::Anyone, None, None, all()),
        Identity::Master => (CallerKind::Master, None, None, all()),
        Identity::Key { id, name, scopes, .. } => (CallerKind::Key, Some(id), Some(name), scopes),
        Identity::Node { node } => (CallerKind::Node, Some(node), None, BTreeSet::new()),
        Identity::Ticket { id } => (CallerKind::Token, Some(id), None, BTreeSet::new()),
    };
    let security = &app.security;
    Json(WhoAmI {
        expires_at: id.as_deref().and_then(|id| security.book.expiry(id)),
        kind,
        id,
        name,
        scopes,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        ca_fingerprint: security
            .tls()
            .map(|_| security.authority.fingerprint().to_owned()),
    })
}
