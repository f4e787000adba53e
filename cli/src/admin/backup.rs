//! `ffrtmp backup`: an online copy of the database, on the scheduler's own disk.

use ffrtmp_api::{BackupDone, BackupRequest};
use reqwest::Method;

use super::args::BackupArgs;
use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, bytes, harmless};

/// Makes one.
pub async fn backup(args: &BackupArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let client = Client::open(&args.remote)?;
    let request = BackupRequest {
        name: args.name.clone(),
    };
    let done: BackupDone = client.order(Method::POST, &["backup"], Some(&request)).await?;
    if output.format() == Format::Json {
        output.json(&done)?;
    } else {
        output.line(&harmless(&done.path))?;
        output.talk(&format!(
            "{} are on the scheduler's disk, at that path",
            bytes(done.bytes)
        ));
    }
    Ok(ExitCode::Success)
}
