//! `labnet sessions`: the RUDP sessions, their windows and losses; and those that are over.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::api::{Target, ago, table};
use crate::{
    client::units::{Latency, Size},
    role::api::{Connection, EndedSession, Session, Signals},
};

/// Arguments of `labnet sessions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Show those that are over, and how they ended
    #[arg(long)]
    ended: bool,
}

/// Prints the sessions.
pub(super) fn run(args: Args) -> ExitCode {
    if args.ended {
        return args.target.show("/api/v1/sessions?ended", of_ended);
    }
    args.target.show("/api/v1/sessions", describe)
}

fn of_ended(sessions: Vec<EndedSession>) -> String {
    if sessions.is_empty() {
        return "no session has ended yet".to_owned();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs_f64();
    let rows = sessions.into_iter().map(|session| {
        [
            ago((now - session.ended_unix).max(0.0)),
            session.client.to_string(),
            session.name,
            session.kind,
            ago(session.connected_seconds),
            Size(session.bytes_received).to_string(),
            Size(session.bytes_sent).to_string(),
            session.lost.to_string(),
            session.sent_again.to_string(),
            session.how,
            session.cause.unwrap_or_default(),
        ]
    });
    table(
        [
            "AGO", "CLIENT", "NAME", "KIND", "AGE", "RECEIVED", "SENT", "LOST", "AGAIN", "END",
            "CAUSE",
        ],
        rows,
    )
}

fn describe(sessions: Vec<Session>) -> String {
    let (mut signals, mut connections) = (Vec::new(), Vec::new());
    for session in sessions {
        match session {
            Session::Signals(session) => signals.push(session),
            Session::Transport(connection) => connections.push(connection),
        }
    }
    let tables = [
        (!signals.is_empty()).then(|| of_signals(signals)),
        (!connections.is_empty()).then(|| of_connections(connections)),
    ];
    let tables: Vec<String> = tables.into_iter().flatten().collect();
    if tables.is_empty() {
        return "no sessions".to_owned();
    }
    tables.join("\n\n")
}

fn of_signals(sessions: Vec<Signals>) -> String {
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

fn of_connections(connections: Vec<Connection>) -> String {
    let rows = connections.into_iter().map(|connection| {
        [
            connection.client.to_string(),
            connection.name,
            ago(connection.connected_seconds),
            ago(connection.idle_seconds),
            connection.congestion,
            connection.phase,
            Size(connection.window_bytes).to_string(),
            Size(connection.in_flight_bytes).to_string(),
            Latency(Duration::from_secs_f64(connection.rtt_seconds.max(0.0))).to_string(),
            connection.packets_sent.to_string(),
            connection.packets_lost.to_string(),
            connection.packets_retransmitted.to_string(),
        ]
    });
    table(
        [
            "CLIENT",
            "NAME",
            "AGE",
            "IDLE",
            "CONGESTION",
            "PHASE",
            "WINDOW",
            "IN FLIGHT",
            "RTT",
            "PACKETS",
            "LOST",
            "RESENT",
        ],
        rows,
    )
}
