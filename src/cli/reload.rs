//! `labnet reload`: a running lab reads its configuration again.

use std::process::ExitCode;

use hyper::Method;

use super::{
    api::{Target, complaint},
    output,
};
use crate::telemetry::{
    api::{Change, ReloadRefused, Reloaded},
    complain,
};

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
            complain(error);
            return ExitCode::FAILURE;
        }
    };
    if args.target.json {
        output(&[&body[..], b"\n"].concat());
    } else if let Ok(reloaded) = serde_json::from_slice::<Reloaded>(&body) {
        let mut text = format!("configuration {} runs\n", reloaded.generation);
        for Change { component, action } in reloaded.changes {
            text += &format!("  {component:<7} {action}\n");
        }
        output(text.as_bytes());
    } else if let Ok(refused) = serde_json::from_slice::<ReloadRefused>(&body) {
        complain(format_args!(
            "refused, configuration {} runs on:",
            refused.generation
        ));
        for problem in refused.problems {
            complain(format_args!("  {problem}"));
        }
    } else {
        complain(complaint(status, &body));
    }
    if status.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
