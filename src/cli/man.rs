//! `labnet man`: the manual pages, made from the command line's own help.

use std::{path::PathBuf, process::ExitCode};

use super::output;
use crate::telemetry::complain;

/// Arguments of `labnet man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write every verb's page into this folder, instead of the main page to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the page of `command`, or writes its and its verbs' pages.
pub(super) fn run(args: Args, command: clap::Command) -> ExitCode {
    let Some(folder) = args.out else {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(command).render(&mut page) {
            Ok(()) => output(&page),
            Err(error) => {
                complain(format_args!("no manual page: {error}"));
                ExitCode::FAILURE
            }
        };
    };
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(command, &folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{}: {error}", folder.display()));
            ExitCode::FAILURE
        }
    }
}
