//! `ffrtmp completions` and the hidden `ffrtmp man`: both are made from the clap definitions.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

/// Prints the completion script of a shell.
pub fn completions(shell: Shell, output: &mut Output) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ffrtmp", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::Success)
}

/// Writes a manual page for each command.
pub fn man(dir: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
    let failed = |operation| {
        move |source| Failure::File {
            operation,
            path: dir.to_owned(),
            source,
        }
    };
    std::fs::create_dir_all(dir).map_err(failed("make the directory"))?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed("write manual pages into"))?;
    output.talk(&format!("Manual pages are in {}", dir.display()));
    Ok(ExitCode::Success)
}
