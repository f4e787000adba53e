//! `ffrtmp tokens`: the tokens nodes join with.

use ffrtmp_api::{TokenCreated, TokenList, TokenRequest};
use reqwest::Method;

use super::args::{TokensArgs, TokensVerb};
use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, or_dash, second};

/// Does what was typed.
pub async fn tokens(args: TokensArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let client = Client::open(&args.remote)?;
    match args.verb {
        TokensVerb::Create { uses, expires } => {
            let request = TokenRequest {
                uses,
                expires_in_sec: expires,
            };
            let made: TokenCreated = client.order(Method::POST, &["tokens"], Some(&request)).await?;
            if output.format() == Format::Json {
                output.json(&made)?;
            } else {
                // Alone on standard output, so that a script takes it as it is.
                output.line(&made.token)?;
                output.talk(&format!(
                    "Token {} is shown this once. It carries the fingerprint of the authority, {}; valid until {}",
                    made.id,
                    made.ca_fingerprint,
                    second(made.expires_at)
                ));
            }
        }
        TokensVerb::List => {
            let list: TokenList = client.get(&["tokens"], &[]).await?;
            if output.format() == Format::Json {
                output.json(&list)?;
            } else {
                let mut rows = Rows::new(&["ID", "USES LEFT", "CREATED", "EXPIRES", "REVOKED"]);
                for token in &list.tokens {
                    rows.push(vec![
                        token.id.clone(),
                        token.uses_left.to_string(),
                        second(token.created_at),
                        second(token.expires_at),
                        or_dash(token.revoked_at, second),
                    ]);
                }
                output.rows(&rows)?;
            }
        }
        TokensVerb::Revoke { id } => {
            client.delete(&["tokens", &id]).await?;
            output.talk(&format!("Token {id} is revoked"));
        }
    }
    Ok(ExitCode::Success)
}
