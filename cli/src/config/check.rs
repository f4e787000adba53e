//! `ffrtmp config check`: whether a file can be meant, judged by the program that reads it. The scheduler judges its own file,
//! for this command does not know its keys.

use std::path::{Path, PathBuf};
use std::process::Command;

use ffrtmp_api::Health;

use super::{CheckArgs, Kind};
use crate::client::args::Remote;
use crate::client::book::Book;
use crate::client::target::address;
use crate::client::{Client, trust};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

/// Keys at the top of a file of contexts.
const CONTEXT_KEYS: [&str; 4] = ["current:", "contexts:", "master_url:", "master:"];

/// Checks a file.
pub async fn check(args: &CheckArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let Some(file) = &args.file else {
        contexts(args.remote.config.as_deref(), output)?;
        return reach(&args.remote, output).await;
    };
    let kind = match args.kind {
        Some(kind) => kind,
        None => guess(file)?,
    };
    match kind {
        Kind::Contexts => contexts(Some(file), output)?,
        Kind::Governor => {
            ffrtmp_governor::config::load(file)
                .map_err(|error| Failure::Typed(ffrtmp_governor::host::file::chain(&error)))?;
            output.line(&format!("{}: the governor can use it", file.display()))?;
        }
        Kind::Scheduler => scheduler(file, output)?,
    }
    Ok(ExitCode::Success)
}

fn guess(file: &Path) -> Result<Kind, Failure> {
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.contains("scheduler") {
        return Ok(Kind::Scheduler);
    }
    let text = std::fs::read_to_string(file).map_err(|source| Failure::File {
        operation: "read",
        path: file.to_owned(),
        source,
    })?;
    let ours = text
        .lines()
        .any(|line| CONTEXT_KEYS.iter().any(|key| line.starts_with(key)));
    Ok(if ours { Kind::Contexts } else { Kind::Governor })
}

/// Every context can be used, and nobody else reads the keys.
fn contexts(named: Option<&Path>, output: &mut Output) -> Result<(), Failure> {
    let book = Book::read(named, |name| std::env::var(name).ok())?;
    book.context(None)?;
    for (name, context) in &book.contexts {
        let of = format!("{}: context {name}", book.path().display());
        address(&format!("{of}, url"), &context.url)?;
        if let Some(pem) = &context.ca {
            trust::fingerprint(pem).map_err(|error| Failure::Typed(format!("{of}, ca: {error}")))?;
        }
        output.line(&format!("{of}: {}", context.url))?;
    }
    if book.contexts.is_empty() {
        output.talk(&format!(
            "{}: no contexts; `ffrtmp login URL` makes one",
            book.path().display()
        ));
    }
    if let Some(mode) = book.open_to_others() {
        return Err(Failure::Typed(format!(
            "{}: others may read the keys in it (mode {mode:o}); `chmod 600` closes it",
            book.path().display()
        )));
    }
    Ok(())
}

async fn reach(remote: &Remote, output: &mut Output) -> Result<ExitCode, Failure> {
    let client = Client::open(remote)?;
    let health: Health = client.get(&["healthz"], &[]).await?;
    output.line(&format!(
        "{} (from {}): {}",
        client.target().shown(),
        client.target().url_from,
        health.status
    ))?;
    Ok(ExitCode::Success)
}

fn scheduler(file: &Path, output: &mut Output) -> Result<(), Failure> {
    let program = beside().unwrap_or_else(|| PathBuf::from("ffrtmp-scheduler"));
    let said = Command::new(&program)
        .arg("--check")
        .arg("--config")
        .arg(file)
        .output()
        .map_err(|source| Failure::File {
            operation: "ask the scheduler's own program",
            path: program,
            source,
        })?;
    if said.status.success() {
        output.line(String::from_utf8_lossy(&said.stdout).trim_end())?;
        return Ok(());
    }
    let why = String::from_utf8_lossy(&said.stderr);
    Err(Failure::Typed(
        why.trim_start_matches("ffrtmp-scheduler: ").trim_end().to_owned(),
    ))
}

/// The scheduler's program where this one is; PATH is searched when it is not there.
fn beside() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("ffrtmp-scheduler");
    path.exists().then_some(path)
}
