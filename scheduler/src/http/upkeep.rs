//! Routes of tenants and backups.

use std::path::Path;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use ffrtmp_api::{BackupDone, BackupRequest, ErrorCode, Tenant, TenantEdit, TenantList};
use jiff::Timestamp;

use super::App;
use super::input::{Body, Id, OptionalBody};
use super::problem::{Answer, Refused};
use super::route::Route;
use crate::security::scope::{Need, Scope};

const READ: Need = Need::Scope(Scope::Read);
const ADMIN: Need = Need::Scope(Scope::Admin);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/tenants",
            "listTenants",
            "All tenants with their caps",
            READ,
            get(tenants),
        )
        .gives::<TenantList>(200),
        Route::new(
            Method::PUT,
            "/tenants/{id}",
            "setTenant",
            "How many jobs a tenant may run at once",
            ADMIN,
            put(set_tenant),
        )
        .takes::<TenantEdit>()
        .gives::<Tenant>(200),
        Route::new(
            Method::POST,
            "/backup",
            "backup",
            "Copy the database to the scheduler's own disk",
            ADMIN,
            post(backup),
        )
        .may_take::<BackupRequest>()
        .gives::<BackupDone>(201)
        .problems(&[ErrorCode::Conflict, ErrorCode::StorageFull]),
    ]
}

async fn tenants(State(app): State<App>) -> Answer<Json<TenantList>> {
    let tenants = app.store.tenants().await?;
    Ok(Json(TenantList { tenants }))
}

async fn set_tenant(
    State(app): State<App>,
    Id(name): Id,
    Body(edit): Body<TenantEdit>,
) -> Answer<Json<Tenant>> {
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return Err(Refused::field(
            "id",
            "write 1 to 256 bytes without control characters",
        ));
    }
    if edit.max_running.is_some_and(|cap| cap > 1_000_000) {
        return Err(Refused::field(
            "max_running",
            "write 0 to 1000000, or null for no cap",
        ));
    }
    Ok(Json(app.store.set_tenant(name, edit.max_running).await?))
}

/// A key, even an admin's, chooses a file's name and never its directory.
async fn backup(
    State(app): State<App>,
    OptionalBody(request): OptionalBody<BackupRequest>,
) -> Answer<Response> {
    let name = request
        .name
        .unwrap_or_else(|| format!("{}.db", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(Refused::field(
            "name",
            "write 1 to 128 letters, digits and . - _, not starting with a dot",
        ));
    }
    let directory = app.security.backups();
    let path = directory.join(name);
    let target = path.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&directory, &target)).await;
    let cut = |error: tokio::task::JoinError| {
        Refused::new(ErrorCode::Internal, format!("the backup was cut short: {error}"))
    };
    prepared.map_err(cut)??;
    let bytes = app.store.backup(path.clone()).await?;
    let done = BackupDone {
        path: path.display().to_string(),
        bytes,
    };
    Ok((StatusCode::CREATED, Json(done)).into_response())
}

fn prepare(directory: &Path, path: &Path) -> Answer<()> {
    if path.exists() {
        return Err(Refused::new(
            ErrorCode::Conflict,
            format!("{} exists; choose another name", path.display()),
        ));
    }
    crate::security::private_dir(directory).map_err(|error| {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "no directory for backups"
        );
        Refused::new(
            ErrorCode::Internal,
            "the directory for backups could not be made; the scheduler's log says why",
        )
    })
}
