//! One job as the outside sees it: `ps`, the API, the ledger and `--json` all show what is built here.
//!
//! It owns the conversion of the core's clock to the wall's and of states to words; it changes nothing.

use ffrtmp_api::{LimitsReport, PlacementReport, Report};
use jiff::Timestamp;

use super::CoreSettings;
use super::exit::{self, Service};
use super::facts::Found;
use super::job::State;
use super::record::Job;
use super::rule::PlacementMode;
use super::usage::{self, Source};
use crate::control::types::{JobKey, JobView};

/// The view of a job.
pub(super) fn view(job: &Job, settings: &CoreSettings) -> JobView {
    JobView {
        key: JobKey(job.key),
        found: job.found,
        uid: job.uid,
        state: job.state.word().to_owned(),
        live: job.live,
        on_foreign_move: job.on_foreign_move,
        origin: job.placement.origin.as_deref().filter(|_| !job.released).cloned(),
        report: report(job, settings),
    }
}

fn report(job: &Job, settings: &CoreSettings) -> Report {
    let reason = job.reason();
    let verdict = reason.as_ref().and_then(|reason| {
        exit::verdict(
            reason,
            Service {
                found: job.found,
                intent: job.intent,
                sla_eligible: job.sla_eligible,
                limits_missing: job.limits_missing(),
            },
        )
    });
    let ended_ns = job.exit.as_ref().map(|exit| exit.at_ns);
    Report {
        job_id: job.id.clone(),
        pid: job.key.pid,
        mode: report_mode(job.found).to_owned(),
        intent: job.intent,
        sla_eligible: job.sla_eligible,
        command: job.command.clone(),
        start_time: wall(settings.boot, job.started_ns),
        end_time: ended_ns.map(|at_ns| wall(settings.boot, at_ns)),
        duration_sec: ended_ns.map(|at_ns| usage::seconds(at_ns.saturating_sub(job.started_ns))),
        exit_code: job.exit.as_ref().and_then(exit::exit_code),
        exit_reason: reason.as_ref().map(|reason| reason.word().to_owned()),
        signal: job.exit.as_ref().and_then(exit::signal),
        killed_by: reason.as_ref().and_then(|reason| reason.sender().cloned()),
        exit: reason,
        platform_sla_compliant: verdict.as_ref().map(|verdict| verdict.compliant),
        platform_sla_reason: verdict.map(|verdict| verdict.reason),
        limits: LimitsReport {
            asked: job.limits.clone(),
            applied: job.in_force().cloned().collect(),
            warnings: job
                .warnings
                .render(|left_out| format!("{left_out} more warnings were not kept")),
            breached: job.breached.clone(),
        },
        usage: usage::usage(&Source {
            kernel: &job.usage,
            group: job.group.as_ref(),
            had_group: job.has_group(),
            finished: matches!(job.state, State::Closed | State::Gone),
            tier: &settings.tier,
        }),
        energy: None,
        tier: settings.tier.clone(),
        placement: placement(job),
        rule: job.rule.clone(),
        class: job.class.clone(),
    }
}

fn placement(job: &Job) -> PlacementReport {
    let mode = if job.not_placed.is_some() {
        "none"
    } else if job.released {
        mode_word(PlacementMode::Observe)
    } else {
        mode_word(job.mode)
    };
    PlacementReport {
        mode: mode.to_owned(),
        groups: job.placement.groups.clone(),
        placed_in_us: job.placed_in_us(),
        not_placed: job.not_placed.as_ref().map(|(_, why)| why.clone()),
    }
}

/// A time of the boot clock as wall time. Both clocks run on through suspend, so one offset serves a whole boot; a
/// wall clock that is set later moves no record that was written before.
fn wall(boot: Timestamp, at_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(boot.as_nanosecond() + i128::from(at_ns)).unwrap_or(Timestamp::MAX)
}

/// The reverse of [`wall`]: a wall time of this boot on the boot clock, ns.
pub(super) fn boot_ns(boot: Timestamp, at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond() - boot.as_nanosecond()).unwrap_or(0)
}

/// The word for how a job came to us.
fn report_mode(found: Found) -> &'static str {
    match found {
        Found::Run => "run",
        Found::Attach => "attach",
        Found::Exec | Found::Adopted => "watch",
    }
}

/// The word for a placement mode, as configuration and reports write it.
pub(super) fn mode_word(mode: PlacementMode) -> &'static str {
    match mode {
        PlacementMode::Place => "place",
        PlacementMode::Scope => "scope",
        PlacementMode::InPlace => "in-place",
        PlacementMode::Observe => "observe",
    }
}
