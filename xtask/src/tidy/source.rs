//! Laws of one Rust file: it says what it owns, keeps its budgets, and holds nothing unfinished or unsafe where that has
//! no place.
//!
//! `.unwrap()`, `panic!` and printing are clippy's; see the lint table of the workspace.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::Finding;

/// Lines a file may have besides its tests.
const FILE_LINES: usize = 400;

/// Lines a function may have, from its name to its closing brace.
const FUNCTION_LINES: usize = 60;

/// Where `unsafe` may stand: the machine's rim and what crosses it byte for byte.
const UNSAFE_PLACES: &[&str] = &[
    "ebpf/",
    "governor/src/host/",
    "governor/src/engine/kernel",
    // `pre_exec` between fork and exec has no safe form.
    "cli/src/command/run",
    // Test programs make system calls that no crate wraps.
    "tests/",
];

/// One parsed file.
pub(super) struct Source {
    path: PathBuf,
    content: String,
    file: syn::File,
}

impl Source {
    /// Parses a file; `path` is relative to the root.
    pub(super) fn parse(path: &Path, content: &str) -> syn::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            content: content.to_owned(),
            file: syn::parse_file(content)?,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its items without those that only tests see.
    pub(super) fn product_items(&self) -> impl Iterator<Item = &syn::Item> {
        self.file.items.iter().filter(|item| !is_test_item(item))
    }

    /// True for files of an integration suite, a bench or an example.
    pub(super) fn is_suite(&self) -> bool {
        let first = self
            .path
            .components()
            .next()
            .is_some_and(|part| part.as_os_str() == "tests");
        first
            || self
                .path
                .components()
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches")
    }

    /// True for this module file and the files of modules inside it.
    pub(super) fn is_or_is_below(&self, module: &Path) -> bool {
        self.path.with_extension("") == module || self.path.starts_with(module)
    }

    /// Modules in files of their own that only tests see, as paths without an extension.
    pub(super) fn test_modules(&self) -> Vec<PathBuf> {
        let parent = self.path.parent().unwrap_or(Path::new(""));
        let stem = self
            .path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let directory = if ["mod", "lib", "main"].contains(&stem) {
            parent.to_owned()
        } else {
            parent.join(stem)
        };
        let modules = self.file.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) if module.content.is_none() && is_test_item(item) => Some(module),
            _ => None,
        });
        modules
            .map(|module| match module_path(module) {
                Some(path) => parent.join(path).with_extension(""),
                None => directory.join(module.ident.to_string()),
            })
            .collect()
    }

    /// Every broken law of this file. Budgets do not count for a file of tests.
    pub(super) fn findings(&self, is_test: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.content.starts_with("//!") {
            findings.push(self.finding(
                1,
                "does not start with `//!`: what it owns and what it refuses to do",
            ));
        }
        if !is_test {
            findings.extend(self.budgets());
        }
        if let Ok(tokens) = self.content.parse::<TokenStream>() {
            self.tokens(tokens, &mut findings);
        }
        findings
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding::new(&self.path, line, what)
    }

    fn budgets(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let tests: usize = self
            .file
            .items
            .iter()
            .filter(|item| is_test_item(item))
            .map(lines)
            .sum();
        let product = self.content.lines().count().saturating_sub(tests);
        if product > FILE_LINES {
            findings.push(self.finding(
                1,
                format!("has {product} lines besides its tests; at most {FILE_LINES}"),
            ));
        }
        let mut functions = Functions(Vec::new());
        for item in self.product_items() {
            functions.visit_item(item);
        }
        for (name, line, lines) in functions.0 {
            if lines > FUNCTION_LINES {
                findings.push(self.finding(
                    line,
                    format!("`{name}` has {lines} lines; at most {FUNCTION_LINES}"),
                ));
            }
        }
        findings
    }

    /// Looks at every token, those inside macro calls included.
    fn tokens(&self, tokens: TokenStream, findings: &mut Vec<Finding>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            let line = token.span().start().line;
            match token {
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    let called = matches!(tokens.get(at + 1), Some(TokenTree::Punct(mark))
                        if mark.as_char() == '!' && mark.spacing() == Spacing::Alone);
                    if called && ["todo", "dbg", "unimplemented"].contains(&word.as_str()) {
                        findings.push(self.finding(line, format!("`{word}!`: unfinished")));
                    }
                    // `#[unsafe(no_mangle)]` is an attribute, not a block.
                    let attribute = matches!(tokens.get(at + 1), Some(TokenTree::Group(group))
                        if group.delimiter() == Delimiter::Parenthesis);
                    if word == "unsafe" && !attribute && !self.may_be_unsafe() {
                        findings.push(self.finding(line, "`unsafe` has no place here"));
                    }
                }
                TokenTree::Group(group) => {
                    if group.delimiter() == Delimiter::Bracket
                        && is_mark(at.checked_sub(1).map(|at| &tokens[at]))
                    {
                        findings.extend(self.attribute(line, group.stream()));
                    }
                    self.tokens(group.stream(), findings);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn attribute(&self, line: usize, inside: TokenStream) -> Option<Finding> {
        match inside.into_iter().next() {
            Some(TokenTree::Ident(name)) if name == "ignore" => {
                Some(self.finding(line, "`#[ignore]`: a test that does not run shows nothing"))
            }
            Some(TokenTree::Ident(name)) if name == "allow" => {
                Some(self.finding(line, "`allow` outlives its cause; write `expect` with a reason"))
            }
            _ => None,
        }
    }

    fn may_be_unsafe(&self) -> bool {
        UNSAFE_PLACES
            .iter()
            .any(|place| self.path.to_string_lossy().starts_with(place))
    }
}

/// The `#` of an attribute, or the `!` of an inner one.
fn is_mark(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == '#' || mark.as_char() == '!')
}

fn lines(item: &syn::Item) -> usize {
    let span = item.span();
    span.end().line - span.start().line + 1
}

fn module_path(module: &syn::ItemMod) -> Option<PathBuf> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) => Some(PathBuf::from(text.value())),
            _ => None,
        },
        _ => None,
    })
}

/// True for an item under `#[cfg(test)]` or `#[test]`.
fn is_test_item(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::NameValue(_) => false,
    })
}

/// Name, first line and number of lines of each function.
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        self.0
            .push((signature.ident.to_string(), first, last - first + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laws(path: &str, content: &str) -> Vec<String> {
        let source = Source::parse(Path::new(path), content).unwrap();
        source
            .findings(false)
            .into_iter()
            .map(|finding| finding.to_string())
            .collect()
    }

    #[test]
    fn a_clean_file_has_no_findings() {
        assert!(laws("a.rs", "//! Owns a.\nfn a() {}\n").is_empty());
    }

    #[test]
    fn each_law_is_found_at_its_line() {
        // Split so that this very file does not break the laws it tests: they are looked for in tokens, and a string
        // is one token.
        for (content, expected) in [
            ("fn a() {}\n", "a.rs:1: does not start"),
            ("//! A.\nfn a() { todo!() }\n", "a.rs:2: `todo!`"),
            ("//! A.\nfn a() { assert!(dbg!(true)) }\n", "a.rs:2: `dbg!`"),
            (
                "//! A.\n#[test]\n#[ignore = \"slow\"]\nfn a() {}\n",
                "a.rs:3: `#[ignore]`",
            ),
            ("//! A.\n#[allow(dead_code)]\nfn a() {}\n", "a.rs:2: `allow`"),
            ("//! A.\n#![allow(dead_code)]\nfn a() {}\n", "a.rs:2: `allow`"),
            ("//! A.\nfn a() { unsafe { b() } }\n", "a.rs:2: `unsafe`"),
        ] {
            let found = laws("a.rs", content);
            assert_eq!(found.len(), 1, "{content}: {found:?}");
            assert!(found[0].starts_with(expected), "{found:?}");
        }
        assert!(laws("ebpf/abi/src/a.rs", "//! A.\nfn a() { unsafe { b() } }\n").is_empty());
        assert!(
            laws(
                "a.rs",
                "//! A.\n#[unsafe(no_mangle)]\nfn a() { if todo != b {} }\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn budgets_leave_tests_out() {
        let body = "    let _a = 1;\n";
        let long = format!("//! A.\nfn a() {{\n{}}}\n", body.repeat(59));
        assert_eq!(laws("a.rs", &long).len(), 1);
        let fits = format!("//! A.\nfn a() {{\n{}}}\n", body.repeat(58));
        assert!(laws("a.rs", &fits).is_empty());
        let tested = format!(
            "//! A.\n#[cfg(test)]\nmod tests {{\nfn a() {{\n{}}}\n}}\n",
            body.repeat(500)
        );
        assert!(laws("a.rs", &tested).is_empty());
        let many = format!("//! A.\n{}", "fn a() {}\n".repeat(400));
        assert!(laws("a.rs", &many)[0].contains("401 lines"));
    }

    #[test]
    fn a_module_file_that_only_tests_see_is_known() {
        let source = Source::parse(
            Path::new("x/src/core/mod.rs"),
            "//! A.\n#[cfg(test)]\nmod fixture;\n",
        )
        .unwrap();
        assert_eq!(source.test_modules(), [PathBuf::from("x/src/core/fixture")]);
        let source = Source::parse(Path::new("x/src/a.rs"), "//! A.\n#[cfg(test)]\nmod b;\n").unwrap();
        assert_eq!(source.test_modules(), [PathBuf::from("x/src/a/b")]);
        let below = Source::parse(Path::new("x/src/a/b/c.rs"), "//! C.\n").unwrap();
        assert!(below.is_or_is_below(Path::new("x/src/a/b")));
        assert!(!below.is_or_is_below(Path::new("x/src/a/c")));
    }
}
