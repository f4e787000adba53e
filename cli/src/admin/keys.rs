//! `ffrtmp keys`: API keys.

use ffrtmp_api::{KeyCreated, KeyList, KeyRequest, RotateRequest, Scope};
use reqwest::Method;

use super::args::{KeysArgs, KeysVerb};
use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, harmless, or_dash, second};

/// Does what was typed.
pub async fn keys(args: KeysArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let client = Client::open(&args.remote)?;
    match args.verb {
        KeysVerb::Create {
            name,
            scope,
            expires,
            per_second,
        } => {
            let request = KeyRequest {
                name,
                scopes: scope.into_iter().collect(),
                expires_in_sec: expires,
                per_second,
            };
            let made: KeyCreated = client.order(Method::POST, &["keys"], Some(&request)).await?;
            show(&made, output)?;
        }
        KeysVerb::List => {
            let list: KeyList = client.get(&["keys"], &[]).await?;
            if output.format() == Format::Json {
                output.json(&list)?;
            } else {
                output.rows(&rows(&list))?;
            }
        }
        KeysVerb::Rotate { id, overlap } => {
            let path = ["keys", &id, "rotate"];
            let request = RotateRequest { overlap_sec: overlap };
            let made: KeyCreated = client.order(Method::POST, &path, Some(&request)).await?;
            show(&made, output)?;
        }
        KeysVerb::Revoke { id } => {
            client.delete(&["keys", &id]).await?;
            output.talk(&format!("Key {id} is revoked"));
        }
    }
    Ok(ExitCode::Success)
}

fn show(made: &KeyCreated, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return Ok(output.json(made)?);
    }
    // Alone on standard output, so that a script takes it as it is.
    output.line(&made.key)?;
    output.talk(&format!("Key {} is shown this once; keep it now", made.id));
    Ok(())
}

fn rows(list: &KeyList) -> Rows {
    let mut rows =
        Rows::new(&["ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "REVOKED"]).wide(&["PER SECOND"]);
    for key in &list.keys {
        let scopes: Vec<&str> = key.scopes.iter().copied().map(Scope::as_str).collect();
        rows.push(vec![
            key.id.clone(),
            harmless(&key.name),
            scopes.join(","),
            second(key.created_at),
            or_dash(key.expires_at, second),
            or_dash(key.revoked_at, second),
            or_dash(key.per_second, |rate| rate.to_string()),
        ]);
    }
    rows
}
