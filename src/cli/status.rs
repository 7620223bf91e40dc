//! `labnet status`: the components of a running lab.

use std::process::ExitCode;

use super::api::{Target, ago, table};
use crate::telemetry::api::Status;

/// Arguments of `labnet status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints the components.
pub(super) fn run(args: Args) -> ExitCode {
    args.target.show("/api/v1/status", describe)
}

fn describe(status: Status) -> String {
    let rows = status.components.into_iter().map(|component| {
        [
            component.name,
            component.state,
            ago(component.state_seconds),
            component.restarts.to_string(),
            component.listens.join(" "),
            component.last_failure.unwrap_or_default(),
        ]
    });
    let file = status
        .config_file
        .unwrap_or_else(|| "(built in)".to_owned());
    format!(
        "labnet {}, up {}, configuration {} of {file}\n\n{}",
        status.version,
        ago(status.uptime_seconds),
        status.generation,
        table(
            [
                "COMPONENT",
                "STATE",
                "FOR",
                "RESTARTS",
                "LISTENS",
                "LAST FAILURE"
            ],
            rows
        )
    )
}
