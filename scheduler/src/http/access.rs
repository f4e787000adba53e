//! Routes of keys and join tokens, for admins.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use ffrtmp_api::{
    CaView, KeyCreated, KeyList, KeyRequest, KeyView, RotateRequest, TokenCreated, TokenList, TokenRequest,
    TokenView,
};
use jiff::Timestamp;

use super::App;
use super::input::{Body, Id, OptionalBody};
use super::nodes::booking;
use super::problem::Answer;
use super::route::Route;
use crate::security::scope::{Need, Scope};

const ADMIN: Need = Need::Scope(Scope::Admin);

pub(super) fn routes() -> Vec<Route> {
    let mut all = key_routes();
    all.extend(token_routes());
    all
}

fn key_routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/ca",
            "getCa",
            "The authority behind the server's certificate",
            Need::Nobody,
            get(ca),
        )
        .gives::<CaView>(200),
        Route::new(
            Method::GET,
            "/keys",
            "listKeys",
            "All keys, without their secrets",
            ADMIN,
            get(keys),
        )
        .gives::<KeyList>(200),
        Route::new(
            Method::POST,
            "/keys",
            "createKey",
            "A new key",
            ADMIN,
            post(create_key),
        )
        .takes::<KeyRequest>()
        .gives::<KeyCreated>(201),
        Route::new(
            Method::POST,
            "/keys/{id}/rotate",
            "rotateKey",
            "A new key like this one, which ends",
            ADMIN,
            post(rotate_key),
        )
        .may_take::<RotateRequest>()
        .gives::<KeyCreated>(201),
        Route::new(
            Method::DELETE,
            "/keys/{id}",
            "revokeKey",
            "End a key at once",
            ADMIN,
            delete(revoke),
        )
        .gives_other(204),
    ]
}

fn token_routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/tokens",
            "listTokens",
            "All join tokens, without their secrets",
            ADMIN,
            get(tokens),
        )
        .gives::<TokenList>(200),
        Route::new(
            Method::POST,
            "/tokens",
            "createToken",
            "A token for nodes to join with",
            ADMIN,
            post(create_token),
        )
        .may_take::<TokenRequest>()
        .gives::<TokenCreated>(201),
        Route::new(
            Method::DELETE,
            "/tokens/{id}",
            "revokeToken",
            "End a join token at once",
            ADMIN,
            delete(revoke),
        )
        .gives_other(204),
    ]
}

async fn ca(State(app): State<App>) -> Json<CaView> {
    let authority = &app.security.authority;
    Json(CaView {
        certificate: authority.pem().to_owned(),
        fingerprint: authority.fingerprint().to_owned(),
    })
}

async fn keys(State(app): State<App>) -> Json<KeyList> {
    let view = |(id, key): (String, crate::security::book::ApiKey)| KeyView {
        id,
        name: key.name,
        scopes: key.scopes,
        per_second: key.per_second,
        created_at: key.created,
        expires_at: key.expires,
        revoked_at: key.revoked,
    };
    Json(KeyList {
        keys: app.security.book.keys().into_iter().map(view).collect(),
    })
}

fn later(now: Timestamp, seconds: u64) -> Timestamp {
    now.saturating_add(Duration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

async fn create_key(State(app): State<App>, Body(request): Body<KeyRequest>) -> Answer<Response> {
    request.validate()?;
    let minted = booking(&app, move |app| {
        let now = Timestamp::now();
        let expires = request.expires_in_sec.map(|seconds| later(now, seconds));
        app.security.book.create_key(
            request.name.trim(),
            request.scopes,
            request.per_second,
            expires,
            now,
        )
    });
    let minted = minted.await?;
    Ok((
        StatusCode::CREATED,
        Json(KeyCreated {
            id: minted.id,
            key: minted.text,
        }),
    )
        .into_response())
}

async fn rotate_key(
    State(app): State<App>,
    Id(id): Id,
    OptionalBody(request): OptionalBody<RotateRequest>,
) -> Answer<Response> {
    request.validate()?;
    let overlap = Duration::from_secs(request.overlap_sec);
    let minted = booking(&app, move |app| {
        app.security.book.rotate_key(&id, overlap, Timestamp::now())
    })
    .await?;
    Ok((
        StatusCode::CREATED,
        Json(KeyCreated {
            id: minted.id,
            key: minted.text,
        }),
    )
        .into_response())
}

async fn revoke(State(app): State<App>, Id(id): Id) -> Answer<StatusCode> {
    booking(&app, move |app| app.security.book.revoke(&id, Timestamp::now())).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn tokens(State(app): State<App>) -> Json<TokenList> {
    let view = |(id, ticket): (String, crate::security::book::Ticket)| TokenView {
        id,
        uses_left: ticket.uses_left,
        created_at: ticket.created,
        expires_at: ticket.expires,
        revoked_at: ticket.revoked,
    };
    Json(TokenList {
        tokens: app.security.book.tickets().into_iter().map(view).collect(),
    })
}

async fn create_token(
    State(app): State<App>,
    OptionalBody(request): OptionalBody<TokenRequest>,
) -> Answer<Response> {
    request.validate()?;
    let now = Timestamp::now();
    let expires_at = later(now, request.expires_in_sec);
    let minted = booking(&app, move |app| {
        app.security.book.create_ticket(
            app.security.authority.fingerprint(),
            request.uses,
            expires_at,
            now,
        )
    });
    let minted = minted.await?;
    let created = TokenCreated {
        id: minted.id,
        token: minted.text,
        ca_fingerprint: app.security.authority.fingerprint().to_owned(),
        expires_at,
    };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}
