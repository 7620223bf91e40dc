//! `labnet completions`: what a shell needs to complete labnet's command line.

use std::process::ExitCode;

use clap_complete::Shell;

use super::output;

/// Arguments of `labnet completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell that will read it
    shell: Shell,
}

/// Prints the script that completes `command`.
pub(super) fn run(args: Args, mut command: clap::Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output(&script)
}
