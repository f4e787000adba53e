//! One file a verb. Each takes what was typed, a governor and an output, and returns the status for the shell.

pub mod attach;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod ps;
pub mod release;
pub mod rules;
pub mod run;
pub mod watch;

mod follow;
mod interrupt;
mod terminal;

use crate::args::{Cli, RulesVerb, Verb};
use crate::backend::{Connected, Need};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

/// Does what was typed.
pub async fn dispatch(cli: Cli, output: &mut Output) -> Result<u8, Failure> {
    let open = async |need: &Need| Connected::open(&cli.global, need).await;
    let done = match cli.verb {
        Verb::Run(args) => return run::run(args, &open(&Need::Job).await?, output).await,
        Verb::Attach(args) => return attach::attach(args, &open(&Need::Job).await?, output).await,
        Verb::Watch(args) => {
            let need = Need::Watch(args.enable_state.then(|| args.state_path.clone()));
            watch::watch(args, &open(&need).await?, output).await?
        }
        Verb::Ps(args) => ps::ps(&args, &open(&Need::Daemon).await?, output).await?,
        Verb::Explain(args) => explain::explain(&args, &open(&Need::Daemon).await?, output).await?,
        Verb::Release(args) => release::release(args, &open(&Need::Daemon).await?, output).await?,
        Verb::Rules(args) => match args.verb {
            RulesVerb::Test { file, all } => rules::test(&file, all, output)?,
        },
        Verb::Doctor => doctor::doctor(&cli.global, &open(&Need::Probe).await?, output).await?,
        Verb::Completions(args) => completions::completions(args.shell, output)?,
        Verb::Man(args) => completions::man(&args.dir, output)?,
    };
    Ok(done.into())
}

/// The status with which this verb reports its own failures.
pub fn own_failure(verb: &Verb) -> ExitCode {
    match verb {
        Verb::Run(_) | Verb::Attach(_) => ExitCode::Own,
        Verb::Watch(_)
        | Verb::Ps(_)
        | Verb::Explain(_)
        | Verb::Release(_)
        | Verb::Rules(_)
        | Verb::Doctor
        | Verb::Completions(_)
        | Verb::Man(_) => ExitCode::Failure,
    }
}
