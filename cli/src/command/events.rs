//! `ffrtmp events`: what happens to jobs, a line each, as it happens. Changes nothing.

use ffrtmp_governor::control::types::{Happened, JobEvent};
use ffrtmp_governor::core::redact::harmless;
use jiff::tz::TimeZone;

use super::interrupt::Interrupts;
use crate::args::{EventsArgs, Format};
use crate::backend::Connected;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Follows the governor's events until a signal, or until the governor or the reader of our lines goes away. With
/// a count it ends after that many.
pub async fn events(
    args: &EventsArgs,
    governor: &Connected,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut events = governor.events().await?;
    output.talk("Following events; Ctrl-C ends this and nothing else");
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        let event = tokio::select! {
            event = events.next() => event,
            _signal = interrupts.next() => return Ok(ExitCode::Success),
        };
        let Some(event) = event else {
            output.talk("The governor went away; workloads run on");
            return Ok(ExitCode::Failure);
        };
        show(&event?, output)?;
        shown += 1;
        if output.closed() {
            break;
        }
    }
    Ok(ExitCode::Success)
}

fn show(event: &JobEvent, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json => output.json_line(event)?,
        Format::Csv => {
            let mut rows = Rows::new(&[]);
            rows.push(cells(event));
            output.rows(&rows)?;
        }
        // The last two are refused before any verb but a recommendation runs.
        Format::Table | Format::Wide | Format::Yaml | Format::Bash => {
            output.line(&cells(event).join("  "))?;
        }
    }
    Ok(())
}

/// Time, what, job, pid, class, and what it came to.
fn cells(event: &JobEvent) -> Vec<String> {
    let report = &event.job.report;
    let local = event.at.to_zoned(TimeZone::system());
    vec![
        local.strftime("%Y-%m-%dT%H:%M:%S%.3f").to_string(),
        format!("{:<10}", word(event.what)),
        harmless(report.job_id.as_str()),
        report.pid.to_string(),
        harmless(&report.class),
        detail(event),
    ]
}

fn detail(event: &JobEvent) -> String {
    let report = &event.job.report;
    let placed = || {
        report
            .placement
            .placed_in_us
            .map(|us| format!("{us} us after its exec"))
    };
    let detail = match event.what {
        Happened::Discovered | Happened::Moved | Happened::Released => report.rule.clone(),
        Happened::Placed => placed(),
        Happened::NotPlaced => report.placement.not_placed.clone(),
        Happened::Exited | Happened::Closed => report.exit_reason.clone(),
    };
    detail.map_or_else(|| "-".to_owned(), |text| harmless(&text))
}

fn word(what: Happened) -> &'static str {
    match what {
        Happened::Discovered => "discovered",
        Happened::Placed => "placed",
        Happened::NotPlaced => "not_placed",
        Happened::Moved => "moved",
        Happened::Exited => "exited",
        Happened::Closed => "closed",
        Happened::Released => "released",
    }
}
