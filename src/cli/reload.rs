//! `labnet reload`: a running lab reads its configuration again.

use std::{io::stdout, process::ExitCode};

use hyper::Method;

use super::{
    api::{Target, complaint},
    output,
};
use crate::telemetry::api::{Change, ReloadRefused, Reloaded};

/// Arguments of `labnet reload`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Asks for the reload and tells what came of it.
pub(super) fn run(args: Args) -> ExitCode {
    let (status, body) = match args.target.ask(Method::POST, "/-/reload") {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if args.target.json {
        output(&mut stdout(), &[&body[..], b"\n"].concat());
    } else if let Ok(reloaded) = serde_json::from_slice::<Reloaded>(&body) {
        let mut text = format!("configuration {} runs\n", reloaded.generation);
        for Change { component, action } in reloaded.changes {
            text += &format!("  {component:<7} {action}\n");
        }
        output(&mut stdout(), text.as_bytes());
    } else if let Ok(refused) = serde_json::from_slice::<ReloadRefused>(&body) {
        eprintln!("refused, configuration {} runs on:", refused.generation);
        for problem in refused.problems {
            eprintln!("  {problem}");
        }
    } else {
        eprintln!("{}", complaint(status, &body));
    }
    if status.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
