//! `labnet sessions`: the RUDP sessions, their windows and losses; and those that are over.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::api::{Target, ago, table};
use crate::{
    client::units::{Latency, Size},
    origin::TRANSFER,
    role::api::{Ended, EndedSession, EndedTransfer, SessionEntry},
    rudp::statistics,
    statistic::{Column, Unit, columns},
    text::{LONG, printable},
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

/// A table of RUDP's sessions, and one of files over HTTP.
fn of_ended(all: Vec<Ended>) -> String {
    if all.is_empty() {
        return "no session has ended yet".to_owned();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs_f64();
    let (mut sessions, mut transfers) = (Vec::new(), Vec::new());
    for ended in all {
        let since = ago((now - ended.unix()).max(0.0));
        match ended {
            Ended::Session(session) => sessions.push(session_row(since, session)),
            Ended::Transfer(transfer) => transfers.push(transfer_row(since, transfer)),
        }
    }
    let mut tables = Vec::new();
    if !sessions.is_empty() {
        let headings = [
            "AGO",
            "CLIENT",
            "NAME",
            "KIND",
            "CONNECTION",
            "AGE",
            "RECEIVED",
            "SENT",
            "LOST",
            "AGAIN",
            "END",
            "CAUSE",
        ];
        tables.push(table(headings, sessions));
    }
    if !transfers.is_empty() {
        let headings = [
            "AGO",
            "CLIENT",
            "NAME",
            "FILE",
            "AGE",
            "SENT",
            "OF",
            "CONGESTION",
            "RTT",
            "SEGMENTS",
            "RESENT",
            "END",
        ];
        tables.push(table(headings, transfers));
    }
    tables.join("\n\n")
}

fn session_row(since: String, session: EndedSession) -> Vec<String> {
    vec![
        since,
        session.client.to_string(),
        session.name,
        session.kind,
        session.connection_id.unwrap_or_default(),
        ago(session.connected_seconds),
        Size(session.bytes_received).to_string(),
        Size(session.bytes_sent).to_string(),
        session.lost.to_string(),
        session.sent_again.to_string(),
        session.how,
        session.cause.unwrap_or_default(),
    ]
}

fn transfer_row(since: String, transfer: EndedTransfer) -> Vec<String> {
    let count = |segments: Option<u64>| segments.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let rtt = transfer.rtt_seconds.map(Value::from).unwrap_or_default();
    vec![
        since,
        transfer.client.to_string(),
        transfer.name,
        printable(&transfer.file, LONG),
        ago(transfer.connected_seconds),
        Size(transfer.bytes_sent).to_string(),
        Size(transfer.length_bytes).to_string(),
        transfer.congestion,
        cell(&rtt, Unit::Latency),
        count(transfer.segments_sent),
        count(transfer.segments_retransmitted),
        transfer.how.replace('_', " "),
    ]
}

/// A table for each kind of session that there is.
fn describe(sessions: Vec<SessionEntry>) -> String {
    let kinds = [
        ("signals", columns(statistics::SIGNALS)),
        ("transport", columns(statistics::TRANSPORT)),
        ("http", columns(TRANSFER)),
    ];
    let tables = kinds.into_iter().filter_map(|(kind, columns)| {
        let of_kind = sessions.iter().filter(|session| session.kind == kind);
        let rows: Vec<Vec<String>> = of_kind.map(|session| row(session, &columns)).collect();
        // Whoever asks over HTTP gives no name.
        let mut headings = match kind {
            "http" => vec!["CLIENT"],
            _ => vec!["CLIENT", "NAME"],
        };
        if sessions
            .iter()
            .any(|session| session.kind == kind && session.connection_id.is_some())
        {
            headings.push("CONNECTION");
        }
        headings.extend(columns.iter().map(|column| column.heading));
        (!rows.is_empty()).then(|| table(headings, rows))
    });
    let tables: Vec<String> = tables.collect();
    if tables.is_empty() {
        return "no sessions".to_owned();
    }
    tables.join("\n\n")
}

fn row(session: &SessionEntry, columns: &[Column]) -> Vec<String> {
    let name = (session.kind != "http").then(|| session.name.clone());
    let told = columns.iter().map(|column| {
        let value = session.statistics.get(column.key);
        value.map_or_else(String::new, |value| cell(value, column.unit))
    });
    let connection = session.connection_id.clone();
    let whose = [session.client.to_string()].into_iter().chain(name);
    whose.chain(connection).chain(told).collect()
}

/// A value as people read it.
fn cell(value: &Value, unit: Unit) -> String {
    let number = value.as_f64();
    match (unit, number) {
        (_, None) => value.as_str().unwrap_or("-").to_owned(),
        (Unit::Word | Unit::Count, _) => value.to_string(),
        (Unit::Bytes, Some(bytes)) => Size(bytes as u64).to_string(),
        (Unit::BytesPerSecond, Some(rate)) => format!("{}/s", Size(rate as u64)),
        (Unit::Latency, Some(seconds)) => {
            // An unlimited or negative one is none that this program tells of.
            let latency = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            Latency(latency).to_string()
        }
        (Unit::Age, Some(seconds)) => ago(seconds),
    }
}
