//! `ffrtmp jobs cancel | retry | pause | resume | hold | edit`.

use ffrtmp_api::{Job, JobActed, JobEdit, JobRef};
use reqwest::Method;

use super::args::EditArgs;
use super::{acted, show};
use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Orders the same of each job. One that refuses keeps nothing from the others; the first refusal is the status.
pub(super) async fn act(
    client: &Client,
    action: &str,
    jobs: &[JobRef],
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let mut refused = None;
    let mut done: Vec<JobActed> = Vec::new();
    for job in jobs {
        let path = ["jobs", &job.to_string(), action];
        match client.order(Method::POST, &path, None::<&()>).await {
            Ok(answer) => done.push(answer),
            Err(error) => {
                let failure = Failure::from(error);
                if jobs.len() > 1 {
                    output.talk(&format!("Job {job}: {}", failure.chain()));
                }
                refused = refused.or(Some(failure));
            }
        }
    }
    match output.format() {
        Format::Json if jobs.len() == 1 => {
            if let [one] = done.as_slice() {
                output.json(one)?;
            }
        }
        Format::Json => output.json(&done)?,
        Format::Csv => {
            let mut rows = Rows::new(&["JOB #", "ID", "STATUS", "STATE", "RETRIES"]);
            for one in &done {
                rows.push(vec![
                    one.sequence_number.to_string(),
                    one.job_id.to_string(),
                    one.status.clone(),
                    one.state.to_string(),
                    one.retry_count.to_string(),
                ]);
            }
            output.rows(&rows)?;
        }
        _ => {
            for one in &done {
                output.line(&acted(one))?;
            }
        }
    }
    match refused {
        None => Ok(ExitCode::Success),
        Some(failure) if jobs.len() == 1 => Err(failure),
        // Each was told already.
        Some(failure) => Ok(failure.exit(ExitCode::Failure)),
    }
}

/// Changes a job that waits.
pub(super) async fn edit(client: &Client, args: &EditArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let edit = JobEdit {
        priority: args.priority,
        queue: args.queue,
        max_retries: args.max_retries,
    };
    let path = ["jobs", &args.job.to_string()];
    let job: Job = client.order(Method::PATCH, &path, Some(&edit)).await?;
    show::one(&job, output)?;
    Ok(ExitCode::Success)
}
