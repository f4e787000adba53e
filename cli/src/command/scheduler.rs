//! The verbs that talk to a scheduler, each to its module. None of them needs a governor.

use crate::args::Verb;
use crate::client::args::SchedulerVerb;
use crate::client::{contexts, login};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;
use crate::{admin, config, jobs, nodes};

/// Refuses a form of output that the verb does not write.
pub(super) fn fits(verb: &Verb, output: &Output) -> Result<(), Failure> {
    let recommends = matches!(verb, Verb::Scheduler(SchedulerVerb::Config(args)) if args.recommends());
    match output.format().recommendation() {
        Some(form) if !recommends => Err(Failure::Typed(format!(
            "--output {form}: only `ffrtmp config recommend` writes that; write table, wide, json or csv"
        ))),
        _ => Ok(()),
    }
}

/// Does what was typed.
pub async fn dispatch(verb: SchedulerVerb, output: &mut Output) -> Result<ExitCode, Failure> {
    match verb {
        SchedulerVerb::Jobs(args) => jobs::jobs(args, output).await,
        SchedulerVerb::Nodes(args) => nodes::nodes(args, output).await,
        SchedulerVerb::Queues(args) => admin::queues::queues(&args.remote, output).await,
        SchedulerVerb::Tokens(args) => admin::tokens::tokens(args, output).await,
        SchedulerVerb::Keys(args) => admin::keys::keys(args, output).await,
        SchedulerVerb::Tenants(args) => admin::tenants::tenants(args, output).await,
        SchedulerVerb::Backup(args) => admin::backup::backup(&args, output).await,
        SchedulerVerb::Config(args) => config::config(args, output).await,
        SchedulerVerb::Login(args) => login::login(&args, output).await,
        SchedulerVerb::Context(args) => contexts::context(&args, output),
        SchedulerVerb::Whoami(args) => login::whoami(&args.remote, output).await,
    }
}
