//! The wall around the cores of governor and scheduler: they decide and do nothing, so they may name only data.
//!
//! Tests inside the core are free; what is checked is the code that ships.

use std::collections::BTreeSet;
use std::path::Path;

use cargo_metadata::Metadata;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use super::Finding;
use super::source::Source;

/// Crates the core may name besides `std`.
const CRATES: &[&str] = &[
    "ffrtmp_abi",
    "ffrtmp_api",
    "humantime",
    "jiff",
    "serde",
    "schemars",
    "regex",
    "thiserror",
];

/// Modules of this crate it may name.
const MODULES: &[&str] = &["crate::core", "crate::control::types"];

/// What of `std` reaches out of the process, or asks the clock.
const STD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Clocks of crates that are otherwise data.
const CLOCKS: &[&str] = &["Timestamp::now", "Zoned::now", "Instant::now", "SystemTime::now"];

/// True for a file of the core.
pub(super) fn is_core(path: &Path) -> bool {
    path.starts_with("governor/src/core") || path.starts_with("scheduler/src/core")
}

/// Crates that governor and scheduler depend on and their cores may not name, as they are written in code.
pub(super) fn foreign_crates(metadata: &Metadata) -> BTreeSet<String> {
    let owners = metadata
        .packages
        .iter()
        .filter(|package| ["ffrtmp-governor", "ffrtmp-scheduler"].contains(&package.name.as_str()));
    let names = owners.flat_map(|package| &package.dependencies);
    names
        .map(|dependency| dependency.name.replace('-', "_"))
        .filter(|name| !CRATES.contains(&name.as_str()))
        .collect()
}

/// Every path of the file that leads out of the core.
pub(super) fn findings(source: &Source, foreign: &BTreeSet<String>) -> Vec<Finding> {
    let mut paths = Vec::new();
    for item in source.product_items() {
        if let syn::Item::Use(item) = item {
            used(&item.tree, &mut Vec::new(), &mut paths);
        } else {
            named(item.to_token_stream(), &mut paths);
        }
    }
    let broken = paths.into_iter().filter_map(|(line, path)| {
        reason(&path, foreign).map(|why| Finding::new(source.path(), line, format!("`{path}`: {why}")))
    });
    broken.collect()
}

fn reason(path: &str, foreign: &BTreeSet<String>) -> Option<&'static str> {
    let within = |prefix: &&str| path == *prefix || path.starts_with(&format!("{prefix}::"));
    let first = path.split("::").next().unwrap_or_default();
    if foreign.contains(first) || STD.iter().any(within) {
        return Some("the core does no IO and reads no clock");
    }
    if first == "crate" && !MODULES.iter().any(within) {
        return Some("the core knows only itself and the types of the control socket");
    }
    CLOCKS
        .iter()
        .any(|clock| path.ends_with(clock))
        .then_some("the core is told the time")
}

/// Paths of a `use` item.
fn used(tree: &syn::UseTree, prefix: &mut Vec<String>, found: &mut Vec<(usize, String)>) {
    let mut add = |ident: &syn::Ident, prefix: &[String]| {
        let mut path = prefix.to_vec();
        if ident != "self" {
            path.push(ident.to_string());
        }
        found.push((ident.span().start().line, path.join("::")));
    };
    match tree {
        syn::UseTree::Name(name) => add(&name.ident, prefix),
        syn::UseTree::Rename(name) => add(&name.ident, prefix),
        syn::UseTree::Glob(_) => found.push((0, prefix.join("::"))),
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            used(&path.tree, prefix, found);
            prefix.pop();
        }
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                used(tree, prefix, found);
            }
        }
    }
}

/// Paths of two or more words anywhere else, macro calls included.
fn named(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    let mut path = String::new();
    let mut line = 0;
    let mut colons = 0;
    for token in tokens {
        match &token {
            TokenTree::Ident(ident) => {
                if colons < 2 {
                    finish(&mut path, line, found);
                    line = ident.span().start().line;
                } else if !path.is_empty() {
                    path.push_str("::");
                }
                path.push_str(&ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                finish(&mut path, line, found);
                colons = 0;
            }
            TokenTree::Group(group) => {
                finish(&mut path, line, found);
                colons = 0;
                named(group.stream(), found);
            }
        }
    }
    finish(&mut path, line, found);
}

fn finish(path: &mut String, line: usize, found: &mut Vec<(usize, String)>) {
    if path.contains("::") {
        found.push((line, std::mem::take(path)));
    }
    path.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(content: &str) -> Vec<String> {
        let source = Source::parse(Path::new("governor/src/core/x.rs"), content).unwrap();
        let foreign = BTreeSet::from(["tokio".to_owned(), "nix".to_owned()]);
        findings(&source, &foreign)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn data_is_allowed() {
        let content = "//! A.\nuse std::collections::{BTreeMap, HashMap};\nuse std::time::Duration;\n\
                       use crate::core::rule::Action;\nuse crate::control::types::JobKey;\nuse super::facts;\n\
                       fn a(x: ffrtmp_api::Limits) -> u64 { u64::from(x.a) + facts::b(std::mem::size_of::<u8>()) }\n";
        assert_eq!(broken(content), Vec::<String>::new());
    }

    #[test]
    fn every_way_out_is_found() {
        for line in [
            "use std::fs;",
            "use std::{collections::BTreeMap, net::{IpAddr}};",
            "use std::fs as files;",
            "use std::process::*;",
            "use tokio::sync::mpsc;",
            "use crate::host::cgroup;",
            "use crate::control::server;",
            "fn a() { std::fs::read(x); }",
            "fn a() { vec![nix::unistd::getpid()]; }",
            "fn a(x: std::time::Instant) {}",
            "fn a() -> Timestamp { jiff::Timestamp::now() }",
            "fn a(x: Vec<crate::ledger::Row>) {}",
        ] {
            assert_eq!(broken(&format!("//! A.\n{line}\n")).len(), 1, "{line}");
        }
    }

    #[test]
    fn tests_inside_the_core_are_free() {
        assert!(broken("//! A.\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}\n").is_empty());
    }
}
