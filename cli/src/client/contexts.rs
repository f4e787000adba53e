//! `ffrtmp context`: which schedulers are remembered, and which one is meant. Never shows a key.

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Remote;
use super::book::Book;
use super::trust;
use crate::args::Format;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, or_dash};

/// What to do with contexts.
#[derive(Debug, Args)]
pub struct ContextArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ContextVerb,
    /// Which file.
    #[command(flatten)]
    pub remote: Remote,
}

/// Verbs of `context`.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// List what is remembered
    List,
    /// Make this one the current one
    Use {
        /// The context
        name: String,
    },
    /// Forget this one, and its key
    Remove {
        /// The context
        name: String,
    },
}

/// Does what was typed.
pub fn context(args: &ContextArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let mut book = Book::read(args.remote.config.as_deref(), |name| std::env::var(name).ok())?;
    match &args.verb {
        ContextVerb::List => list(&book, output)?,
        ContextVerb::Use { name } => {
            book.context(Some(name))?;
            book.current = Some(name.clone());
            book.write()?;
            output.talk(&format!("Current context: {name}"));
        }
        ContextVerb::Remove { name } => {
            if book.contexts.remove(name).is_none() {
                return Err(book.unknown(name).into());
            }
            book.current = book.current.take().filter(|current| current != name);
            book.write()?;
            output.talk(&format!("Forgot context {name}"));
        }
    }
    Ok(ExitCode::Success)
}

fn list(book: &Book, output: &mut Output) -> Result<(), Failure> {
    let current = |name: &str| book.current.as_deref() == Some(name);
    let print = |pem: &str| trust::fingerprint(pem).ok();
    if output.format() == Format::Json {
        let all: Vec<_> = book
            .contexts
            .iter()
            .map(|(name, context)| {
                json!({
                    "name": name, "current": current(name), "url": context.url, "key": context.api_key.is_some(),
                    "ca_fingerprint": context.ca.as_deref().and_then(print),
                })
            })
            .collect();
        return Ok(output.json(&all)?);
    }
    let mut rows = Rows::new(&["CURRENT", "NAME", "URL", "KEY"]).wide(&["CA FINGERPRINT"]);
    for (name, context) in &book.contexts {
        rows.push(vec![
            if current(name) { "*" } else { "" }.to_owned(),
            name.clone(),
            context.url.clone(),
            if context.api_key.is_some() { "yes" } else { "no" }.to_owned(),
            or_dash(context.ca.as_deref().and_then(print), |text| text),
        ]);
    }
    Ok(output.rows(&rows)?)
}
