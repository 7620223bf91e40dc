//! What a walk found out, as data: lines for people, or one JSON object a line.

use std::{fmt, time::Duration};

use serde_json::json;

use super::{
    download::Downloaded,
    failure::FetchError,
    file_name::FileName,
    session::{Answered, Counts},
    summary::{Summary, json_standing, json_statistics},
    transfer::hex,
    units::{Latency, count},
    walk::Told,
};
use crate::{
    rudp::{exchange, statistics::Standing},
    telemetry::{complain, print},
    text::{LONG, printable},
};

/// A piece of data.
pub enum Report<'a> {
    /// Answers to SIGNECHO.
    Echoes(&'a [Answered]),
    /// What the proxy has counted, and what was counted on this side.
    Statistics(&'a Told),
    /// The list of files.
    Files(&'a [FileName]),
    /// A download.
    Fetched(&'a FileName, &'a Result<Downloaded, FetchError>),
    /// All downloads of one request together.
    Gathered(&'a Summary),
    /// There is nothing to tell of what was asked for, and why.
    Failed(&'a str),
}

/// Where data goes, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Lines for a person at the prompt.
    People,
    /// Bare lines, for a shell.
    Plain,
    /// JSON.
    Json,
}

impl Output {
    /// Prints a piece of data on standard output. A reader that has gone away is no failure.
    pub fn report(&self, report: &Report<'_>) {
        let text = match self {
            Self::People => people(report),
            Self::Plain => plain(report),
            Self::Json => json_lines(report),
        };
        put(&text);
    }

    /// Prints what only a person at the prompt wants to know.
    pub fn hint(&self, text: &str) {
        if *self == Self::People {
            put(&format!("{text}\n"));
        }
    }

    /// Prints what went wrong.
    pub fn complain(&self, problem: impl fmt::Display) {
        let label = console::style("labnet:").for_stderr().red();
        complain(format_args!("{label} {problem}"));
    }
}

fn put(text: &str) {
    if let Err(error) = print(text.as_bytes()) {
        tracing::error!(%error, "standard output");
    }
}

fn people(report: &Report<'_>) -> String {
    match report {
        Report::Echoes(answers) => echoes(answers),
        Report::Statistics(Told::Signals {
            id,
            statistics,
            counts,
        }) => format!(
            "{id}  the proxy received {}, missed {}, connected for {:.2} s\n     {}\n",
            count(statistics.sent, "signal"),
            statistics.lost,
            statistics.connected.as_secs_f64(),
            totals(counts)
        ),
        Report::Statistics(Told::Transport { server, client }) => transport(server, client),
        Report::Files([]) => "no files: the proxy's list is empty\n".to_owned(),
        Report::Files(files) => {
            let lines = files.iter().enumerate();
            lines
                .map(|(n, file)| format!("{:>4}  {file}\n", n + 1))
                .collect()
        }
        // It was told already.
        Report::Fetched(..) | Report::Gathered(_) | Report::Failed(_) => String::new(),
    }
}

/// The transport's statistics, one a line, as the proxy orders them.
fn transport(server: &exchange::Statistics, client: &Standing) -> String {
    let lines = server
        .iter()
        .map(|(key, value)| format!("{key:<26} {}\n", printable(value, LONG)));
    let client = &client.stats;
    let here = format!(
        "here: {} sent, {} received, {} twice, {} damaged; round trip {}\n",
        count(client.packets_sent, "packet"),
        client.packets_received,
        client.duplicates,
        client.corrupted,
        Latency(client.rtt)
    );
    lines.chain([here]).collect()
}

/// What the client has counted.
pub fn totals(counts: &Counts) -> String {
    let rtt = match (counts.rtt_min, counts.rtt_avg) {
        (Some(min), Some(avg)) => {
            format!(
                "
     round trip {} at least, {} on average",
                Latency(min),
                Latency(avg)
            )
        }
        _ => String::new(),
    };
    format!(
        "sent here {}: {} again, {} lost on purpose; {} SIGNLOST, {} SIGNFULL heard{rtt}",
        counts.sent, counts.resent, counts.dropped, counts.lost, counts.full
    )
}

fn echoes(answers: &[Answered]) -> String {
    let mut text = String::new();
    for answered in answers {
        let how = match answered.rtt {
            Some(rtt) => format!("back after {}", Latency(rtt)),
            None if answered.attempts > 1 => format!(
                "back {} after the first of {} copies",
                Latency(answered.took),
                answered.attempts
            ),
            None => format!(
                "back after {}, behind a resent signal",
                Latency(answered.took)
            ),
        };
        text += &format!("{}  {how}\n", answered.id);
    }
    let measured: Vec<Duration> = answers.iter().filter_map(|answered| answered.rtt).collect();
    if let (Some(min), Some(max), 2..) =
        (measured.iter().min(), measured.iter().max(), measured.len())
    {
        let sum: Duration = measured.iter().sum();
        let avg = sum.checked_div(u32::try_from(measured.len()).unwrap_or(1));
        text += &format!(
            "     {} min, {} avg, {} max\n",
            Latency(*min),
            Latency(avg.unwrap_or_default()),
            Latency(*max)
        );
    }
    text
}

fn plain(report: &Report<'_>) -> String {
    match report {
        Report::Echoes(_) | Report::Statistics(_) => people(report),
        Report::Files(files) => files.iter().map(|file| format!("{file}\n")).collect(),
        // As `sha256sum` prints it, so that `sha256sum --check` reads it.
        Report::Fetched(_, Ok(file)) => file.sha256.map_or_else(String::new, |digest| {
            format!("{}  {}\n", hex(&digest), file.path.display())
        }),
        Report::Fetched(_, Err(_)) | Report::Gathered(_) | Report::Failed(_) => String::new(),
    }
}

fn json_lines(report: &Report<'_>) -> String {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let lines: Vec<serde_json::Value> = match report {
        Report::Echoes(answers) => answers
            .iter()
            .map(|answered| {
                json!({
                    "type": "echo",
                    "id": answered.id,
                    "rtt_ms": answered.rtt.map(milliseconds),
                    "took_ms": milliseconds(answered.took),
                    "attempts": answered.attempts,
                })
            })
            .collect(),
        Report::Statistics(Told::Signals {
            id,
            statistics,
            counts,
        }) => vec![json!({
            "type": "stat",
            "id": id,
            "packets_sent": statistics.sent,
            "packets_lost": statistics.lost,
            "connected_seconds": statistics.connected.as_secs_f64(),
            "client": json_counts(counts),
        })],
        Report::Statistics(Told::Transport { server, client }) => {
            let mut told = json_statistics(server);
            if let Some(told) = told.as_object_mut() {
                told.insert("type".to_owned(), "stat".into());
                told.insert("client".to_owned(), json_standing(client));
            }
            vec![told]
        }
        Report::Files(files) => files
            .iter()
            .enumerate()
            .map(|(n, file)| json!({"type": "file", "number": n + 1, "name": file.name()}))
            .collect(),
        Report::Fetched(name, result) => vec![json_file(name, result)],
        Report::Gathered(summary) => vec![summary.as_json()],
        Report::Failed(why) => vec![json!({"type": "error", "error": why})],
    };
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What the client has counted, for a script.
pub fn json_counts(counts: &Counts) -> serde_json::Value {
    let milliseconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
    json!({
        "sent": counts.sent,
        "answered": counts.answered,
        "lost_on_purpose": counts.dropped,
        "resent": counts.resent,
        "signlost": counts.lost,
        "signfull": counts.full,
        "rtt_min_ms": milliseconds(counts.rtt_min),
        "rtt_avg_ms": milliseconds(counts.rtt_avg),
        "rtt_max_ms": milliseconds(counts.rtt_max),
    })
}

fn json_file(name: &FileName, result: &Result<Downloaded, FetchError>) -> serde_json::Value {
    match result {
        Ok(file) => json!({
            "type": "download",
            "name": name.name(),
            "path": file.path,
            "bytes": file.bytes,
            "sha256": file.sha256.as_ref().map(hex),
            "verified": file.verified,
            "received": file.received,
            "seconds": file.took.as_secs_f64(),
            "bytes_per_second": file.rate().bytes_per_second(),
            "retries": file.retries,
            "congestion": file.congestion,
        }),
        Err(error) => json!({
            "type": "download",
            "name": name.name(),
            "error": error.to_string(),
        }),
    }
}
