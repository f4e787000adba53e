//! `ffrtmp login`: trusts a scheduler's authority by its fingerprint, tries the key, and remembers both. `ffrtmp whoami`:
//! what is remembered, and whether it is taken.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use ffrtmp_api::{ErrorCode, Scope, WhoAmI};
use serde_json::json;

use super::args::Remote;
use super::book::{Book, Context};
use super::error::ClientError;
use super::target::{Target, address};
use super::{Client, is_refusal, trust};
use crate::args::Format;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, harmless, or_dash, second};

/// Flags of `login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Address of the scheduler
    #[arg(value_name = "URL")]
    pub url: String,
    /// SHA-256 of its authority's certificate, as `ffrtmp-scheduler fingerprint` prints it on its machine
    #[arg(long, value_name = "HEX", conflicts_with = "ca")]
    pub fingerprint: Option<String>,
    /// Name to remember it by [default: its host]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Read the key from this file; - is standard input
    #[arg(long, value_name = "PATH", conflicts_with = "api_key")]
    pub api_key_file: Option<PathBuf>,
    /// Remember it without a key; --api-key or `MASTER_API_KEY` gives one each time
    #[arg(long, conflicts_with_all = ["api_key", "api_key_file"])]
    pub no_key: bool,
    /// Which key, which file.
    #[command(flatten)]
    pub remote: Remote,
}

/// Remembers a scheduler.
pub async fn login(args: &LoginArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let url = address("URL", &args.url)?;
    let mut book = Book::read_or_new(args.remote.config.as_deref(), variable)?;
    let flags = Remote {
        master: Some(args.url.clone()),
        context: None,
        config: None,
        ..args.remote.clone()
    };
    let mut target = Target::resolve(&flags, variable)?;
    let file = key_from_file(args)?;
    if args.no_key {
        target.key = None;
    } else if file.is_some() {
        target.key = file;
    }
    if let Some(text) = &args.fingerprint {
        let wanted = trust::parse_fingerprint(text)?;
        target.ca = Some(trust::authority(&url, &wanted).await?);
    } else if args.remote.ca.is_none() {
        // A login says anew whom to trust; what an earlier one said does not count.
        target.ca = None;
    }
    if url.scheme() == "http" {
        output.talk("WARNING: http:// is not encrypted; the key crosses the network in the clear");
    }
    let name = args.name.clone().or_else(|| args.remote.context.clone());
    let name = name.unwrap_or_else(|| url.host_str().unwrap_or("scheduler").to_owned());
    let client = Client::of(target.clone())?;
    match client.get::<WhoAmI>(&["whoami"], &[]).await {
        Ok(_) => {}
        Err(error) if target.key.is_none() && is_refusal(&error, ErrorCode::Unauthorized) => {
            output.talk("No key is remembered; give one by --api-key or MASTER_API_KEY with each command");
        }
        Err(error) => return Err(error.into()),
    }
    let context = Context {
        url: target.shown(),
        ca: target.ca,
        api_key: target.key,
    };
    book.contexts.insert(name.clone(), context);
    book.current = Some(name.clone());
    book.write()?;
    output.talk(&format!(
        "Logged in to {}; it is the current context, `{name}`, in {}",
        client.target().shown(),
        book.path().display()
    ));
    Ok(ExitCode::Success)
}

fn key_from_file(args: &LoginArgs) -> Result<Option<String>, ClientError> {
    let Some(path) = &args.api_key_file else {
        return Ok(None);
    };
    let failed = |source| ClientError::File {
        operation: "read the key in",
        path: path.clone(),
        source,
    };
    let text = if path.as_os_str() == "-" {
        if std::io::stdin().is_terminal() {
            return Err(failed(std::io::Error::other(
                "standard input is a terminal; pipe the key into it",
            )));
        }
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        text
    } else {
        std::fs::read_to_string(path).map_err(failed)?
    };
    let key = text.trim().to_owned();
    if key.is_empty() || key.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(ClientError::Key(path.display().to_string()));
    }
    Ok(Some(key))
}

/// Says which scheduler is meant, and who we are to it.
pub async fn whoami(remote: &Remote, output: &mut Output) -> Result<ExitCode, Failure> {
    let client = Client::open(remote)?;
    let target = client.target();
    let who = match client.get::<WhoAmI>(&["whoami"], &[]).await {
        Ok(who) => Ok(who),
        // Which key was refused is what somebody asks here for.
        Err(error) if is_refusal(&error, ErrorCode::Unauthorized) => Err(error),
        Err(error) => return Err(error.into()),
    };
    let trusted = target.ca.as_deref().map(trust::fingerprint).transpose()?;
    if output.format() == Format::Json {
        output.json(&json!({
            "url": target.shown(), "url_from": target.url_from, "context": target.context,
            "key_from": target.key_from, "ca_from": target.ca_from, "ca_fingerprint": trusted,
            "caller": who.as_ref().ok(),
        }))?;
    } else {
        output.rows(&described(target, trusted, who.as_ref().ok()))?;
    }
    who.map(|_| ExitCode::Success).map_err(Failure::from)
}

fn described(target: &Target, trusted: Option<String>, who: Option<&WhoAmI>) -> Rows {
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut rows = Rows::new(&["FIELD", "VALUE"]);
    let mut put = |field: &str, value: String| rows.push(vec![field.to_owned(), value]);
    put(
        "Scheduler",
        format!("{} (from {})", target.shown(), target.url_from),
    );
    put("Context", dash(target.context.clone()));
    let system = || "those of the system".to_owned();
    put("Authority from", target.ca_from.clone().unwrap_or_else(system));
    put("Fingerprint", dash(trusted));
    put("Key from", dash(target.key_from.clone()));
    let Some(who) = who else {
        put("Key", "refused".to_owned());
        return rows;
    };
    put("Version", harmless(&who.server_version));
    put("Caller", who.kind.to_string());
    put("Key", dash(who.id.clone()));
    put("Name", or_dash(who.name.as_deref(), harmless));
    let scopes: Vec<&str> = who.scopes.iter().copied().map(Scope::as_str).collect();
    put(
        "Scopes",
        dash(Some(scopes.join(", ")).filter(|text| !text.is_empty())),
    );
    put("Expires", or_dash(who.expires_at, second));
    rows
}
