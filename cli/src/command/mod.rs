//! One file a verb. Each takes what was typed, a governor and an output, and returns the status for the shell.

pub mod attach;
pub mod completions;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod ps;
pub mod release;
pub mod rules;
pub mod run;
pub mod scheduler;
pub mod watch;

mod follow;
mod interrupt;
mod terminal;

use crate::args::{Cli, EventsArgs, Global, RulesVerb, Verb};
use crate::backend::{Connected, Need};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

/// Does what was typed.
pub async fn dispatch(cli: Cli, output: &mut Output) -> Result<u8, Failure> {
    let global = &cli.global;
    scheduler::fits(&cli.verb, output)?;
    let done = match cli.verb {
        Verb::Run(args) => {
            return with(global, Need::Job, async |governor| {
                run::run(args, governor, output).await
            })
            .await;
        }
        Verb::Attach(args) => {
            return with(global, Need::Job, async |governor| {
                attach::attach(args, governor, output).await
            })
            .await;
        }
        Verb::Watch(args) => {
            let need = Need::Watch {
                ledger: args.enable_state.then(|| args.state_path.clone()),
                placement_retries: args.max_retry_attempts,
            };
            with(global, need, async |governor| {
                watch::watch(args, governor, output).await
            })
            .await?
        }
        Verb::Ps(args) => {
            with(global, Need::Daemon, async |governor| {
                ps::ps(&args, governor, output).await
            })
            .await?
        }
        Verb::Events(args) => follow_events(global, &args, output).await?,
        Verb::Explain(args) => {
            with(global, Need::Daemon, async |governor| {
                explain::explain(&args, governor, output).await
            })
            .await?
        }
        Verb::Release(args) => {
            with(global, Need::Daemon, async |governor| {
                release::release(args, governor, output).await
            })
            .await?
        }
        Verb::Rules(args) => match args.verb {
            RulesVerb::Test { file, all } => rules::test(&file, all, output)?,
        },
        Verb::Doctor => {
            with(global, Need::Probe, async |governor| {
                doctor::doctor(global, governor, output).await
            })
            .await?
        }
        Verb::Scheduler(verb) => scheduler::dispatch(verb, output).await?,
        Verb::Completions(args) => completions::completions(args.shell, output)?,
        Verb::Man(args) => completions::man(&args.dir, output)?,
    };
    Ok(done.into())
}

async fn follow_events(global: &Global, args: &EventsArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    with(global, Need::Daemon, async |governor| {
        events::events(args, governor, output).await
    })
    .await
}

/// Finds who governs, does the verb, and leaves nothing of ours behind: an engine in this process ends with it.
async fn with<T>(
    global: &Global,
    need: Need,
    verb: impl AsyncFnOnce(&Connected) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let governor = Connected::open(global, &need).await?;
    let done = verb(&governor).await;
    governor.close().await;
    done
}

/// The status with which this verb reports its own failures.
pub fn own_failure(verb: &Verb) -> ExitCode {
    match verb {
        Verb::Run(_) | Verb::Attach(_) => ExitCode::Own,
        Verb::Watch(_)
        | Verb::Ps(_)
        | Verb::Events(_)
        | Verb::Explain(_)
        | Verb::Release(_)
        | Verb::Rules(_)
        | Verb::Doctor
        | Verb::Scheduler(_)
        | Verb::Completions(_)
        | Verb::Man(_) => ExitCode::Failure,
    }
}
