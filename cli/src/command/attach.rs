//! `ffrtmp attach`: puts a running process under limits and follows it to its exit. Never sends it a signal.

use ffrtmp_governor::control::types::AttachRequest;
use ffrtmp_governor::core::facts::Found;

use super::follow;
use super::interrupt::Interrupts;
use crate::args::AttachArgs;
use crate::backend::Backend;
use crate::exit;
use crate::failure::{Failure, about};
use crate::limits;
use crate::output::Output;

/// Attaches to the process.
pub async fn attach(args: AttachArgs, backend: &impl Backend, output: &mut Output) -> Result<u8, Failure> {
    if args.pid == std::process::id() {
        // A daemon could not know: to it we are any process.
        return Err(Failure::Ourselves(args.pid));
    }
    let mut interrupts = Interrupts::listen()?;
    let request = AttachRequest {
        pid: args.pid,
        found: Found::Attach,
        job_id: args.job.job_id.clone(),
        limits: limits::resolve(&args.limits),
        intent: args.job.intent.into(),
        sla_eligible: args.job.sla_eligible,
        timeout_ms: None,
        placement: args.job.placement.map(Into::into),
        command: None,
    };
    let view = tokio::select! {
        view = follow::ask(backend, request) => view.map_err(about(args.pid))?,
        signal = interrupts.next() => return Ok(exit::signalled(signal as i32)),
    };
    let command = view.report.command.clone().unwrap_or_default();
    output.wrapper(&format!("ATTACH mode: PID {} [{}]", args.pid, command.join(" ")));
    follow::announce(&args.job, output);
    follow::warn(&view.report, output);
    output.wrapper(&format!("Attached to PID {}", args.pid));
    let ended = tokio::select! {
        ended = backend.wait(view.key) => ended.map_err(about(args.pid))?,
        signal = interrupts.next() => return follow::detach(&view, signal, &args.job, output),
    };
    follow::conclude(&ended, &args.job, output)
}
