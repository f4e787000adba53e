//! `ffrtmp release`: undoes what was done to jobs; they run on.

use ffrtmp_governor::control::types::ReleaseRequest;

use crate::args::{Format, ReleaseArgs};
use crate::backend::Backend;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Releases one job, or all.
pub async fn release(
    args: ReleaseArgs,
    backend: &impl Backend,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let request = match args.job {
        Some(job) => ReleaseRequest::One(job),
        None => ReleaseRequest::All,
    };
    let released = backend.release(request).await?;
    let failed = released.iter().any(|job| !job.warnings.is_empty());
    if output.format() == Format::Json {
        output.json(&released)?;
    } else {
        let mut rows = Rows::new(&["JOB", "PID", "UNDONE", "NOT UNDONE"]);
        for job in &released {
            rows.push(vec![
                job.job_id.to_string(),
                job.pid.to_string(),
                job.undone.join("\n"),
                job.warnings.join("\n"),
            ]);
        }
        output.rows(&rows)?;
    }
    Ok(if failed {
        ExitCode::Failure
    } else {
        ExitCode::Success
    })
}
