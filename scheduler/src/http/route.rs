//! One row a route: method, path, who may, what comes in and goes out. The router and the `OpenAPI` document are both made
//! from these rows, so that neither can know a route the other does not.

use axum::http::Method;
use axum::routing::MethodRouter;
use ffrtmp_api::ErrorCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::App;
use crate::security::scope::Need;

/// Makes a schema inside a document.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of a query string: its name, the names of values it takes (or a word for them), and its meaning.
pub(super) type Parameter = (&'static str, SchemaOf, &'static str);

/// One route.
pub(super) struct Route {
    /// Method.
    pub(super) method: Method,
    /// Path below each prefix, with `{name}` for a part that varies.
    pub(super) path: &'static str,
    /// Name of the operation, unique.
    pub(super) name: &'static str,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    /// Who may.
    pub(super) need: Need,
    /// Whether a call that changes something goes into the audit log; the routine calls of nodes do not.
    pub(super) audited: bool,
    /// Body that is taken.
    pub(super) takes: Option<SchemaOf>,
    /// Whether it may be left out.
    pub(super) may_be_empty: bool,
    /// Statuses of success with their bodies; `None` for one that is no JSON.
    pub(super) gives: Vec<(u16, Option<SchemaOf>)>,
    /// Parameters of the query string.
    pub(super) query: Vec<Parameter>,
    /// Problems of its own, besides those that every route has.
    pub(super) problems: Vec<ErrorCode>,
    /// What serves it.
    pub(super) serve: MethodRouter<App>,
}

/// Schema of a type.
pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Route {
    /// A row with the least in it.
    pub(super) fn new(
        method: Method,
        path: &'static str,
        name: &'static str,
        summary: &'static str,
        need: Need,
        serve: MethodRouter<App>,
    ) -> Self {
        let audited = method != Method::GET && need != Need::Node;
        Self {
            method,
            path,
            name,
            summary,
            need,
            audited,
            takes: None,
            may_be_empty: false,
            gives: Vec::new(),
            query: Vec::new(),
            problems: Vec::new(),
            serve,
        }
    }

    /// Takes a body.
    pub(super) fn takes<T: JsonSchema>(mut self) -> Self {
        self.takes = Some(schema::<T>);
        self
    }

    /// Takes a body that may be left out.
    pub(super) fn may_take<T: JsonSchema>(mut self) -> Self {
        self.may_be_empty = true;
        self.takes::<T>()
    }

    /// Answers with JSON.
    pub(super) fn gives<T: JsonSchema>(mut self, status: u16) -> Self {
        self.gives.push((status, Some(schema::<T>)));
        self
    }

    /// Answers with something else.
    pub(super) fn gives_other(mut self, status: u16) -> Self {
        self.gives.push((status, None));
        self
    }

    /// Takes a parameter in the query string.
    pub(super) fn query<T: JsonSchema>(mut self, name: &'static str, meaning: &'static str) -> Self {
        self.query.push((name, schema::<T>, meaning));
        self
    }

    /// Has these problems.
    pub(super) fn problems(mut self, codes: &[ErrorCode]) -> Self {
        self.problems.extend_from_slice(codes);
        self
    }
}
