//! The `ffrtmp` binary: parses, picks a governor, runs one verb, returns its status.

use std::process::ExitCode as Status;

use clap::Parser;
use ffrtmp_cli::args::Cli;
use ffrtmp_cli::command;
use ffrtmp_cli::exit::ExitCode;
use ffrtmp_cli::failure::Failure;
use ffrtmp_cli::output::Output;

fn main() -> Status {
    // Before any HTTP client is made, that of the governor's socket too: without a choice each of them panics. Tests hide
    // that, for their own dependencies choose.
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for and succeed; whether somebody reads the text changes nothing.
            let _reader_gone = error.print();
            let code = if error.use_stderr() {
                usage_status()
            } else {
                ExitCode::Success
            };
            return Status::from(u8::from(code));
        }
    };
    let mut output = Output::standard(cli.global.output);
    let own = command::own_failure(&cli.verb);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(command::dispatch(cli, &mut output));
            // Threads that still wait for a process must not keep us here.
            runtime.shutdown_background();
            result
        }
        Err(source) => Err(Failure::Machine {
            step: "start the event loop",
            source,
        }),
    };
    match result {
        Ok(status) => Status::from(status),
        Err(failure) => {
            output.talk(&format!("Error: {}", failure.chain()));
            if let Some(hint) = failure.hint() {
                output.talk(&format!("\n  {hint}"));
            }
            Status::from(u8::from(failure.exit(own)))
        }
    }
}

/// A wrong command line is 2, except where 2 could be a workload's own status.
fn usage_status() -> ExitCode {
    let mut words = std::env::args_os().skip(1).take_while(|word| word != "--");
    if words.any(|word| word == "run" || word == "attach") {
        ExitCode::Own
    } else {
        ExitCode::Usage
    }
}
