//! `labnet reload`: a running lab reads its configuration again.

use std::process::ExitCode;

use hyper::Method;

use super::{
    api::{Target, complaint},
    output,
};
use crate::role::api::{Change, KeyChange, ReloadRefused, Reloaded};
use crate::telemetry::complain;
use crate::text::{LONG, printable};

/// Arguments of `labnet reload`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only tell what would change
    #[arg(long)]
    dry_run: bool,
}

/// Asks for the reload and tells what came of it.
pub(super) fn run(args: Args) -> ExitCode {
    let path = if args.dry_run {
        "/-/reload?dry_run"
    } else {
        "/-/reload"
    };
    let (status, body) = match args.target.ask(Method::POST, path) {
        Ok(answer) => answer,
        Err(error) => {
            complain(error);
            return ExitCode::FAILURE;
        }
    };
    if args.target.json {
        output(&[&body[..], b"\n"].concat());
    } else if let Ok(reloaded) = serde_json::from_slice::<Reloaded>(&body) {
        output(describe(&reloaded).as_bytes());
    } else if let Ok(refused) = serde_json::from_slice::<ReloadRefused>(&body) {
        complain(format_args!(
            "refused, configuration {} runs on:",
            refused.generation
        ));
        for problem in refused.problems {
            complain(format_args!("  {}", printable(&problem, 4 * LONG)));
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

fn describe(reloaded: &Reloaded) -> String {
    let generation = reloaded.generation;
    let mut text = if reloaded.dry_run {
        format!("configuration {generation} runs on; a reload would do this:\n")
    } else {
        format!("configuration {generation} runs\n")
    };
    for Change {
        component,
        action,
        reason,
    } in &reloaded.changes
    {
        text += &format!("  {component:<7} {action}");
        if let Some(reason) = reason {
            text += &format!(": {}", printable(reason, 4 * LONG));
        }
        text.push('\n');
    }
    for change in &reloaded.keys {
        text += &format!("  {}\n", difference(change));
    }
    for file in &reloaded.files {
        text += &format!("  {file} has changed\n");
    }
    if reloaded.keys.is_empty() && reloaded.files.is_empty() {
        text += "  nothing has changed in the files\n";
    }
    text
}

fn difference(change: &KeyChange) -> String {
    let KeyChange {
        key,
        from,
        to,
        masked_by,
    } = change;
    let mut text = match (from, to) {
        (Some(from), Some(to)) if from == to => format!("{key} has changed"),
        (Some(from), Some(to)) => format!("{key}: {from} -> {to}"),
        (None, Some(to)) => format!("{key} = {to} is new"),
        (Some(from), None) => format!("{key} = {from} is gone"),
        (None, None) => key.clone(),
    };
    if let Some(by) = masked_by {
        let place = if by.starts_with('-') {
            "given on the command line"
        } else {
            "set in the environment"
        };
        text += &format!(" in the file, without effect: {by} is {place}");
    }
    text
}
