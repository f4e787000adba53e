//! `cargo xtask tidy`: the laws of this repository that neither the compiler nor clippy knows.
//!
//! Each law is a pure function from text to findings; this file alone reads the tree. A finding names file, line and law.

mod edges;
mod source;
mod text;
mod wall;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::workspace;

/// One broken law.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// The verb.
pub(crate) fn run() -> Result<()> {
    let files = tracked()?;
    let mut findings = Vec::new();
    let mut rust = Vec::new();
    let banned = text::Banned::here(workspace::root());
    for path in &files {
        let full = workspace::root().join(path);
        let bytes = fs::read(&full).with_context(|| format!("reading {}", full.display()))?;
        findings.extend(banned.findings(path, &bytes));
        let Ok(content) = String::from_utf8(bytes) else {
            continue;
        };
        match path.extension().and_then(|end| end.to_str()) {
            Some("rs") => rust.push((path.clone(), content)),
            Some("md") => findings.extend(text::links(path, &content, |to| {
                workspace::root().join(to).exists()
            })),
            _ => {}
        }
    }
    findings.extend(rust_findings(&rust)?);
    findings.extend(edges::findings(workspace::metadata()?));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} broken laws", findings.len());
    }
    println!("tidy: {} files keep every law", files.len());
    Ok(())
}

/// Files that are committed or would be, relative to the root.
fn tracked() -> Result<BTreeSet<PathBuf>> {
    let shell = workspace::shell()?;
    let listed = cmd!(shell, "git ls-files -co --exclude-standard -z")
        .quiet()
        .read()
        .context("listing the tree")?;
    let all = listed
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    Ok(all
        .filter(|path| workspace::root().join(path).is_file())
        .collect())
}

fn rust_findings(files: &[(PathBuf, String)]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut parsed = Vec::new();
    for (path, content) in files {
        match source::Source::parse(path, content) {
            Ok(source) => parsed.push(source),
            Err(error) => findings.push(Finding::new(path, 1, format!("does not parse: {error}"))),
        }
    }
    let tests: BTreeSet<PathBuf> = parsed.iter().flat_map(source::Source::test_modules).collect();
    let foreign = wall::foreign_crates(workspace::metadata()?);
    for source in &parsed {
        let is_test = tests.iter().any(|test| source.is_or_is_below(test)) || source.is_suite();
        findings.extend(source.findings(is_test));
        if wall::is_core(source.path()) && !is_test {
            findings.extend(wall::findings(source, &foreign));
        }
    }
    Ok(findings)
}
