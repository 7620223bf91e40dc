//! `labnet reload`: a running lab reads its configuration again.

use std::process::ExitCode;

use hyper::Method;

use super::api::{Target, complaint};
use crate::telemetry::api::{ReloadRefused, Reloaded};

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
        println!("{}", String::from_utf8_lossy(&body));
    } else if let Ok(reloaded) = serde_json::from_slice::<Reloaded>(&body) {
        println!("configuration {} runs", reloaded.generation);
        for change in reloaded.changes {
            println!("  {:<7} {}", change.component, change.action);
        }
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
