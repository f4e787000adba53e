//! `ffrtmp run`: starts a command under limits and follows it to its exit.
//!
//! The command's process waits before its exec until it sits under its limits, so nothing of it runs without them. It
//! leads its own process group, reads nothing unless it has the terminal, and writes directly to where we would: it
//! never notices our end. Limits are best effort; only a request that cannot be meant stops the start.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use ffrtmp_governor::control::types::{AttachRequest, ErrorCode, JobView, RequestError};
use ffrtmp_governor::core::facts::Found;
use ffrtmp_governor::core::redact::Redactor;
use ffrtmp_governor::host::spawn::{self, Ended, Held, Program, SpawnError, Stdin, Waited};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::follow;
use super::interrupt::Interrupts;
use super::terminal::Terminal;
use crate::args::RunArgs;
use crate::backend::Backend;
use crate::ending::{self, Seen};
use crate::exit;
use crate::failure::Failure;
use crate::limits;
use crate::output::Output;
use crate::plain::Plain;

/// How long the governor may take to report an end that we saw ourselves.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command.
pub async fn run(args: RunArgs, backend: &impl Backend, output: &mut Output) -> Result<u8, Failure> {
    let program = resolve(&args, follow::wants_report(&args.job, output))?;
    output.wrapper(&format!(
        "RUN mode: {} [{}]",
        program.path.display(),
        shown(&args).get(1..).unwrap_or_default().join(" ")
    ));
    follow::announce(&args.job, output);
    let held = Held::start(program).map_err(Failure::Spawn)?;
    let mut interrupts = Interrupts::listen()?;
    let request = request(&args, held.pid());
    let placed = tokio::select! {
        placed = place(backend, request) => placed,
        // Dropping the held process lets it leave without executing anything.
        signal = interrupts.next() => {
            output.wrapper(&format!("Ended by {signal} before the command was started"));
            return Ok(exit::signalled(signal as i32));
        }
    };
    let (view, governed) = match placed {
        Ok(placed) => placed,
        Err(refused) => {
            held.abandon();
            return Err(refused.into());
        }
    };
    follow::warn(&view.report, output);
    let pid = held.pid();
    let terminal = args.interactive.then(Terminal::own).flatten();
    if let Some(terminal) = terminal {
        terminal.lend(pid);
    }
    if let Err(error) = held.release() {
        if let Some(terminal) = terminal {
            terminal.take_back();
        }
        return Err(not_started(error));
    }
    output.wrapper(&format!("Started PID {pid}"));
    let ended = tokio::select! {
        ended = wait(pid, terminal) => ended?,
        signal = interrupts.next() => return follow::detach(&view, signal, &args.job, output),
    };
    if let Some(terminal) = terminal {
        terminal.take_back();
    }
    let view = report(backend, view, governed, &ended, output).await;
    follow::conclude(&view, &args.job, output)
}

/// Whether the governor follows the job, so that its report of the end is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Governed {
    Yes,
    No,
}

/// Puts the held process under its limits. A governor that fails costs limits, never the workload; one that says the
/// request itself is wrong is believed.
async fn place(backend: &impl Backend, request: AttachRequest) -> Result<(JobView, Governed), RequestError> {
    let refused = match follow::ask(backend, request.clone()).await {
        Ok(view) => return Ok((view, Governed::Yes)),
        Err(refused) => refused,
    };
    match refused.code {
        ErrorCode::Invalid | ErrorCode::JobIdInUse => Err(refused),
        ErrorCode::NoSuchProcess
        | ErrorCode::NoSuchJob
        | ErrorCode::NotAllowed
        | ErrorCode::NotGovernable
        | ErrorCode::Gone
        | ErrorCode::Failed => {
            let plain = Plain::new(&refused.message);
            let mut view = plain.attach(request).await?;
            let warnings = &mut view.report.limits.warnings;
            warnings.insert(0, format!("The governor cannot take it: {}", refused.message));
            Ok((view, Governed::No))
        }
    }
}

fn request(args: &RunArgs, pid: u32) -> AttachRequest {
    AttachRequest {
        pid,
        found: Found::Run,
        job_id: args.job.job_id.clone(),
        limits: limits::resolve(&args.limits),
        intent: args.job.intent.into(),
        sla_eligible: args.job.sla_eligible,
        timeout_ms: args
            .timeout
            .filter(|timeout| !timeout.is_zero())
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        placement: args.job.placement.map(Into::into),
        command: Some(
            args.command
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        ),
    }
}

/// The command as terminals and logs may see it: secrets replaced, control characters harmless.
fn shown(args: &RunArgs) -> Vec<String> {
    let words: Vec<String> = args
        .command
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    Redactor::default().clean(&words)
}

/// Finds the executable, as a shell in the command's directory would.
fn resolve(args: &RunArgs, talk_on_stderr: bool) -> Result<Program, Failure> {
    let workdir = args.workdir.as_ref();
    if let Some(path) = workdir {
        let entered = path.metadata().and_then(|found| {
            if !found.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).map_err(io::Error::from)
        });
        entered.map_err(|source| Failure::Workdir {
            path: path.clone(),
            source,
        })?;
    }
    let here = std::env::current_dir().map_err(|source| Failure::Machine {
        step: "find the working directory",
        source,
    })?;
    let directory = workdir.map_or_else(|| here.clone(), |path| here.join(path));
    let Some((name, rest)) = args.command.split_first() else {
        return Err(Failure::NotFound(String::new()));
    };
    Ok(Program {
        path: find(name, &directory)?,
        name: name.clone(),
        args: rest.to_vec(),
        workdir: workdir.map(|_| directory),
        stdin: if args.interactive {
            Stdin::Inherited
        } else {
            Stdin::Null
        },
        stdout: if talk_on_stderr {
            let stderr = io::stderr().as_fd().try_clone_to_owned();
            Some(stderr.map_err(|source| Failure::Machine {
                step: "copy standard error for the command's output",
                source,
            })?)
        } else {
            None
        },
    })
}

fn find(name: &OsStr, directory: &std::path::Path) -> Result<PathBuf, Failure> {
    if let Ok(path) = which::which_in(name, std::env::var_os("PATH"), directory) {
        return Ok(path);
    }
    let what = ffrtmp_governor::core::redact::harmless(&name.to_string_lossy());
    let named_by_path = name.to_string_lossy().contains('/');
    if named_by_path && directory.join(name).exists() {
        return Err(Failure::NotExecutable { what, source: None });
    }
    Err(Failure::NotFound(what))
}

fn not_started(error: SpawnError) -> Failure {
    match error {
        SpawnError::Exec { path, source } if source.kind() == io::ErrorKind::NotFound => {
            // The file was there a moment ago, so it is its interpreter that is missing.
            Failure::NotFound(format!("{} (or the interpreter it names)", path.display()))
        }
        SpawnError::Exec { path, source } => Failure::NotExecutable {
            what: path.display().to_string(),
            source: Some(source),
        },
        other => Failure::Spawn(other),
    }
}

/// Waits on a thread of its own: our end must not wait for the command's.
async fn wait(pid: u32, terminal: Option<Terminal>) -> Result<Ended, Failure> {
    let (tell, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let result = loop {
            match spawn::wait_for(pid) {
                Ok(Waited::Ended(ended)) => break Ok(ended),
                Ok(Waited::Stopped) => {
                    if let Some(terminal) = terminal {
                        terminal.stop_with(pid);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        // The receiver is gone when a signal ended the wrapper first.
        let _detached = tell.send(result);
    });
    let gone = Err(nix::errno::Errno::ECHILD);
    let result = ended.await.unwrap_or(gone);
    result.map_err(Failure::machine("wait for the command"))
}

/// The governor's report of the end, completed by what we saw ourselves. Our own view of the status always holds.
async fn report(
    backend: &impl Backend,
    started: JobView,
    governed: Governed,
    ended: &Ended,
    output: &mut Output,
) -> JobView {
    let at = Timestamp::now();
    let mut view = started;
    if governed == Governed::Yes {
        match tokio::time::timeout(REPORT_PATIENCE, backend.wait(view.key)).await {
            Ok(Ok(reported)) => view = reported,
            Ok(Err(error)) => output.wrapper(&format!(
                "WARNING: no report from the governor ({error}); figures are this wrapper's own"
            )),
            Err(_) => output.wrapper(&format!(
                "WARNING: no report from the governor within {}s; figures are this wrapper's own",
                REPORT_PATIENCE.as_secs()
            )),
        }
    }
    ending::complete(&mut view.report, &Seen::Status(ended.status), at);
    ending::add_sums(&mut view.report, ended);
    view
}
