//! The `OpenAPI` 3.1 document, made from the rows of the routes and the types they name.

use std::collections::BTreeMap;

use ffrtmp_api::{ErrorCode, Problem};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::route::{Route, schema};
use crate::security::scope::{Need, Scope};

/// The document of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    }));
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let operation = operation(route, &mut generator);
        let method = route.method.as_str().to_lowercase();
        paths.entry(route.path).or_default().insert(method, operation);
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ffrtmp scheduler",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A durable queue of transcoding jobs. Execution is at least once; at most one result is accepted. \
                            Every path is served under / and under /api/v1.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1"}, {"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for (status, body) in &route.gives {
        let mut response = json!({"description": phrase(*status)});
        if let Some(body) = body {
            response["content"] = json!({"application/json": {"schema": body(generator)}});
        }
        responses.insert(status.to_string(), response);
    }
    for code in problems_of(route) {
        let status = code.status().to_string();
        let body = json!({"application/problem+json": {"schema": schema::<Problem>(generator)}});
        responses
            .entry(status)
            .or_insert_with(|| json!({"description": code.as_str(), "content": body}));
    }
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters(route, generator),
        "responses": responses,
        "security": security(route.need),
    });
    if let Some(takes) = route.takes {
        operation["requestBody"] = json!({"required": !route.may_be_empty, "content": {"application/json": {"schema": takes(generator)}}});
    }
    operation
}

/// Its own problems and those that every route of its kind has.
fn problems_of(route: &Route) -> Vec<ErrorCode> {
    let mut codes = route.problems.clone();
    if route.need != Need::Nobody {
        codes.extend([
            ErrorCode::Unauthorized,
            ErrorCode::Forbidden,
            ErrorCode::RateLimited,
        ]);
    }
    if route.takes.is_some() {
        codes.extend([ErrorCode::Invalid, ErrorCode::TooLarge]);
    }
    if !route.query.is_empty() || route.path.contains('{') {
        codes.push(ErrorCode::Invalid);
    }
    if route.path.contains('{') {
        codes.push(ErrorCode::NotFound);
    }
    codes.push(ErrorCode::Unavailable);
    codes
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    for (name, schema, meaning) in &route.query {
        all.push(json!({"name": name, "in": "query", "required": false, "description": meaning, "schema": schema(generator)}));
    }
    all
}

fn security(need: Need) -> Value {
    match need {
        Need::Nobody => json!([]),
        Need::Scope(scope) => scoped(scope),
        Need::Anybody => json!([{"bearer": []}, {"apiKey": []}, {"certificate": []}]),
        Need::Node => json!([{"certificate": []}, {"bearer": []}]),
        Need::Join => json!([{"bearer": []}, {"apiKey": []}]),
    }
}

fn scoped(scope: Scope) -> Value {
    json!([{"bearer": [scope.as_str()]}, {"apiKey": [scope.as_str()]}])
}

fn phrase(status: u16) -> &'static str {
    axum::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("answer")
}
