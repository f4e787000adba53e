//! `ffrtmp jobs`: submissions ([`submit`], [`request`], [`batch`]), questions ([`show`], [`list`], [`explain`]), orders
//! ([`act`]) and waiting ([`follow`]). Jobs belong to the scheduler: ending one of these commands ends no job.

pub mod args;
pub mod batch;
pub mod request;

mod act;
mod explain;
mod follow;
mod list;
mod show;
mod submit;
mod watch;

use ffrtmp_api::{JobActed, JobLogs};

use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;
use args::{JobsArgs, JobsVerb};

/// Does what was typed.
pub async fn jobs(args: JobsArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let remote = &args.remote;
    // A dry run needs no scheduler, nor a context that names one.
    if let JobsVerb::Submit(submission) = &args.verb
        && submission.dry_run
    {
        return submit::dry_run(submission, output);
    }
    let client = Client::open(remote)?;
    match args.verb {
        JobsVerb::Submit(args) => submit::submit(&args, &client, output).await,
        JobsVerb::Status(args) => match args.job {
            Some(job) if args.wait || args.follow => follow::follow(&client, job, args.follow, output).await,
            Some(job) => show::status(&client, job, output).await,
            None => list::list(&client, &args::ListArgs::newest(), output).await,
        },
        JobsVerb::List(args) => list::list(&client, &args, output).await,
        JobsVerb::Watch(args) => watch::watch(&client, &args, output).await,
        JobsVerb::Logs(args) => {
            let job = args.job.to_string();
            let logs: JobLogs = client.get(&["jobs", &job, "logs"], &[]).await?;
            show::logs(&logs, output)?;
            Ok(ExitCode::Success)
        }
        JobsVerb::Explain(args) => explain::explain(&client, args.job, output).await,
        JobsVerb::Cancel(args) => act::act(&client, "cancel", &args.jobs, output).await,
        JobsVerb::Retry(args) => act::act(&client, "retry", &args.jobs, output).await,
        JobsVerb::Pause(args) => act::act(&client, "pause", &args.jobs, output).await,
        JobsVerb::Resume(args) => act::act(&client, "resume", &args.jobs, output).await,
        JobsVerb::Hold(args) => act::act(&client, "hold", &args.jobs, output).await,
        JobsVerb::Edit(args) => act::edit(&client, &args, output).await,
    }
}

/// What an order came to, in a few words.
fn acted(done: &JobActed) -> String {
    let JobActed {
        sequence_number,
        status,
        state,
        ..
    } = done;
    if *status == state.to_string() {
        format!("Job {sequence_number} is {state}")
    } else {
        format!("Job {sequence_number} is {status}; its state is {state}")
    }
}
