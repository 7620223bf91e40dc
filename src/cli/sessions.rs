//! `labnet sessions`: the RUDP sessions, their windows and losses.

use std::process::ExitCode;

use super::api::{Target, ago, table};
use crate::telemetry::api::Session;

/// Arguments of `labnet sessions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints the sessions.
pub(super) fn run(args: Args) -> ExitCode {
    args.target.show("/api/v1/sessions", describe)
}

fn describe(sessions: Vec<Session>) -> String {
    if sessions.is_empty() {
        return "no sessions".to_owned();
    }
    let rows = sessions.into_iter().map(|session| {
        [
            session.client.to_string(),
            session.name,
            ago(session.connected_seconds),
            ago(session.idle_seconds),
            format!("{}/{}", session.window, session.max_window),
            session.received.to_string(),
            session.lost.to_string(),
            session.repeated.to_string(),
            session.expected_id.to_string(),
        ]
    });
    table(
        [
            "CLIENT", "NAME", "AGE", "IDLE", "WINDOW", "SIGNALS", "LOST", "REPEATED", "NEXT ID",
        ],
        rows,
    )
}
