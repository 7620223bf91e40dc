//! `labnet why`: why a sender's window is what it is, in words and numbers.

use std::{net::SocketAddr, process::ExitCode, time::Instant};

use hyper::Method;
use url::Url;

use super::api::{Target, ago, complaint, table};
use crate::{
    client::report::Output,
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
    /// Whose: a client's name, its ADDRESS:PORT, or a connection (`labnet sessions --json` shows its
    /// id)
    client: String,
    #[command(flatten)]
    target: Target,
    /// How many of the last changes of the window are told
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

/// Tells it of the connection that a download was carried over from this address, of the client's own
/// sending, too; false: the proxy, which sends the files, can't be asked.
pub(super) fn after(
    from: Option<SocketAddr>,
    fates: &Fates,
    rings: &Rings,
    output: Output,
) -> bool {
    let now = Instant::now();
    let own = rings.each(|record| Some(Why::of(record, LAST, now)));
    let own = own.into_iter().next();
    let asked = ask(from, fates, output);
    let text = match output {
        Output::Json => serde_json::json!({ "why": asked, "client": own }).to_string(),
        Output::People | Output::Plain => {
            let told = asked.as_ref().map(Why::lines).unwrap_or_default();
            // A client that only acknowledges has nothing to say.
            let own = own.filter(|own| asked.is_none() || own.lost > 0 || own.cuts > 0);
            let own = own.as_ref().map(Why::lines).unwrap_or_default();
            let own = own.iter().enumerate().map(|(line, text)| match line {
                0 => format!("what the client itself sent: {text}"),
                _ => text.clone(),
            });
            told.into_iter().chain(own).collect::<Vec<_>>().join("\n")
        }
    };
    (text.is_empty() || print(format!("{text}\n").as_bytes()).is_ok()) && asked.is_some()
}

fn ask(from: Option<SocketAddr>, fates: &Fates, output: Output) -> Option<Why> {
    let Some(from) = from else {
        output.complain("--why: nothing went over the binary transport: take `--via rudp`");
        return None;
    };
    let target = match Target::usual() {
        Ok(target) => target,
        Err(problem) => {
            output.complain(format_args!("LABNET_URL: {problem}"));
            return None;
        }
    };
    let answer = target.ask(Method::GET, &path(&from.to_string(), LAST));
    let found = match answer {
        Ok((status, body)) if status.is_success() => serde_json::from_slice::<Vec<Why>>(&body),
        Ok((status, body)) => {
            output.complain(format_args!("--why: {}", complaint(status, &body)));
            return None;
        }
        Err(error) => {
            output.complain(format_args!("--why: {error}"));
            return None;
        }
    };
    let Ok(Some(mut newest)) = found.map(|found| found.into_iter().next()) else {
        output.complain("--why: the lab answers something else than labnet would");
        return None;
    };
    newest.join(fates);
    Some(newest)
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
