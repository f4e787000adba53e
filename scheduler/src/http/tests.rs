//! The `OpenAPI` document: whole, and true to the router.

use super::*;
use std::collections::BTreeSet;

#[test]
fn the_document_lists_every_route_once_and_every_reference_in_it_leads_somewhere() {
    let document = openapi();
    let text = document.to_string();
    let mut names = BTreeSet::new();
    for route in routes() {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        assert_eq!(
            operation["operationId"], route.name,
            "{} {}",
            route.method, route.path
        );
        assert!(names.insert(route.name), "{} is used twice", route.name);
    }
    for reference in text.split("\"$ref\":\"").skip(1) {
        let path = reference.split('"').next().unwrap();
        let pointer = path.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{path} leads nowhere");
    }
    assert!(document["components"]["schemas"]["JobRequest"]["properties"]["scenario"].is_object());
}

#[test]
fn every_route_but_the_named_ones_asks_for_a_key() {
    let open: BTreeSet<&str> = routes()
        .iter()
        .filter(|route| route.need == Need::Nobody)
        .map(|route| route.path)
        .collect();
    let expected = [
        "/ca",
        "/health",
        "/healthz",
        "/jobs/next",
        "/openapi.json",
        "/ready",
        "/readyz",
        "/results",
    ];
    assert_eq!(open, BTreeSet::from(expected));
}
