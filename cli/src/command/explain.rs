//! `ffrtmp explain`: says how a process was judged, and what was done to it when.

use crate::args::{ExplainArgs, Format};
use crate::backend::Backend;
use crate::exit::ExitCode;
use crate::failure::{Failure, about};
use crate::output::{Output, Rows};

/// Explains one process.
pub async fn explain(
    args: &ExplainArgs,
    backend: &impl Backend,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let explained = backend.explain(args.pid).await.map_err(about(args.pid))?;
    if output.format() == Format::Json {
        output.json(&explained)?;
        return Ok(ExitCode::Success);
    }
    let mut steps = Rows::new(&["AFTER", "WHAT"]);
    for step in &explained.steps {
        steps.push(vec![format!("{}µs", step.at_us), step.what.clone()]);
    }
    if output.format() == Format::Csv {
        output.rows(&steps)?;
        return Ok(ExitCode::Success);
    }
    output.line(&format!("PID {}: {}", explained.pid, explained.verdict))?;
    if let Some(job) = &explained.job {
        let report = &job.report;
        output.line(&format!(
            "Job {} ({}), class {}, rule {}, tier {}",
            report.job_id,
            job.state,
            report.class,
            report.rule.as_deref().unwrap_or("-"),
            report.tier
        ))?;
        for limit in &report.limits.applied {
            output.line(&format!(
                "  in force: {} = {} ({})",
                limit.limit, limit.value, limit.target
            ))?;
        }
        for warning in &report.limits.warnings {
            output.line(&format!("  warning: {warning}"))?;
        }
    }
    output.rows(&steps)?;
    Ok(ExitCode::Success)
}
