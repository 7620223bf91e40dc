//! `labnet why`: why a sender's window is what it is, in words and numbers.

use std::{process::ExitCode, time::Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use url::Url;

use super::api::{Target, Unreachable, ago, complaint, table};
use crate::{
    client::report::Output,
    rudp::packet::Cid,
    telemetry::print,
    text::{LONG, printable},
    watch::{
        fates::Fates,
        ring::Rings,
        why::{LAST, Why},
    },
};

/// Arguments of `labnet why`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose: a client's name, its ADDRESS:PORT now or before it moved, or a connection's id (`labnet
    /// sessions` shows it, with --ended of those that are over)
    client: String,
    #[command(flatten)]
    target: Target,
    /// How many of the last changes of the window are told, 1000 at most
    #[arg(long, value_name = "N", default_value_t = LAST)]
    changes: usize,
    /// Where several fit, take the newest
    #[arg(long)]
    last: bool,
}

/// Prints what is known of one connection, or lists those that fit.
pub(super) fn run(args: Args) -> ExitCode {
    let path = path(&args.client, args.changes);
    let last = args.last;
    args.target.show(&path, |found| describe(found, last))
}

/// Where the API tells of it.
pub(super) fn path(client: &str, changes: usize) -> String {
    // The host is left off again: it is there to have the name's characters escaped.
    let url = Url::parse("http://lab/").map(|mut url| {
        if let Ok(mut segments) = url.path_segments_mut() {
            let named = ["api", "v1", "sessions", client, "why"];
            segments.clear().extend(named);
        }
        url
    });
    let path = url.as_ref().map_or("/", Url::path);
    format!("{path}?changes={changes}")
}

/// Of so many connections of one transfer at most it is told, the last ones.
const TOLD: usize = 8;

/// Tells it of the connections that a client's transfers were carried by, in their order, of the client's own
/// sending, too; false: the proxy, which sends the files, can't be asked of all.
pub(super) fn after(carried_by: &[Cid], fates: &Fates, rings: &Rings, output: Output) -> bool {
    let now = Instant::now();
    let own = rings.each(|record| Some(Why::of(record, LAST, now)));
    let own = own.into_iter().next();
    let (untold, wanted) = carried_by.split_at(carried_by.len().saturating_sub(TOLD));
    let asked = ask(wanted, fates, output);
    let text = match output {
        Output::Json => {
            let (last, earlier) = match asked.split_last() {
                Some((last, earlier)) => (Some(last), earlier),
                None => (None, &[][..]),
            };
            serde_json::json!({ "why": last, "earlier": earlier, "client": own }).to_string()
        }
        Output::People | Output::Plain => {
            let mut texts: Vec<_> = asked.iter().map(|why| why.lines().join("\n")).collect();
            if carried_by.len() > 1 && !texts.is_empty() {
                let untold = match untold.len() {
                    0 => String::new(),
                    untold => format!(", of which the first {untold} are left out"),
                };
                let count = carried_by.len();
                let head = format!("it took {count} connections{untold}, the first one first:");
                texts.insert(0, head);
            }
            // A client that only acknowledges has nothing to say.
            let own = own.filter(|own| asked.is_empty() || own.lost > 0 || own.cuts > 0);
            if let Some(own) = own {
                texts.push(format!(
                    "what the client itself sent: {}",
                    own.lines().join("\n")
                ));
            }
            let between = if carried_by.len() > 1 { "\n\n" } else { "\n" };
            texts.join(between)
        }
    };
    let printed = text.is_empty() || print(format!("{text}\n").as_bytes()).is_ok();
    printed && !asked.is_empty() && asked.len() == wanted.len()
}

/// What the lab knows of these connections.
fn ask(wanted: &[Cid], fates: &Fates, output: Output) -> Vec<Why> {
    if wanted.is_empty() {
        output.complain("--why: nothing went over the binary transport: take `--via rudp`");
        return Vec::new();
    }
    let target = match Target::usual() {
        Ok(target) => target,
        Err(problem) => {
            output.complain(format_args!("LABNET_URL: {problem}"));
            return Vec::new();
        }
    };
    let mut told = Vec::new();
    for id in wanted {
        let answer = target.ask(Method::GET, &path(&format!("{:016x}", id.0), LAST));
        match found(answer) {
            Ok(mut why) => {
                why.join(fates);
                told.push(why);
            }
            // One that is forgotten does not hide the others.
            Err(problem) => output.complain(format_args!("--why: {problem}")),
        }
    }
    told
}

/// What the lab answers of one connection.
fn found(answer: Result<(StatusCode, Bytes), Unreachable>) -> Result<Why, String> {
    let (status, body) = answer.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(complaint(status, &body));
    }
    let found = serde_json::from_slice::<Vec<Why>>(&body).ok();
    let one = found.and_then(|found| found.into_iter().next());
    one.ok_or_else(|| "the lab answers something else than labnet would".to_owned())
}

fn describe(found: Vec<Why>, last: bool) -> String {
    if let [only, rest @ ..] = &found[..]
        && (rest.is_empty() || last)
    {
        let lines = only.lines();
        return lines.join("\n");
    }
    let rows = found.into_iter().map(|why| {
        [
            why.connection_id,
            why.client.to_string(),
            printable(&why.name, LONG),
            ago(why.seconds),
            why.congestion,
            why.cuts.to_string(),
            why.lost.to_string(),
            if why.ended { "over" } else { "open" }.to_owned(),
        ]
    });
    let table = table(
        [
            "CONNECTION",
            "CLIENT",
            "NAME",
            "AGE",
            "CONGESTION",
            "CUTS",
            "LOST",
            "",
        ],
        rows,
    );
    format!("several fit, the newest first; name one by its connection, or take --last:\n\n{table}")
}
