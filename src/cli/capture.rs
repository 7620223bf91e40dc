//! `labnet capture`: the packets of a running lab, as Wireshark reads them.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use url::form_urlencoded;

use super::api::Target;
use crate::telemetry::complain;

/// Arguments of `labnet capture`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write, pcapng; `-`: standard output, as for `| wireshark -k -i -`
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: PathBuf,
    /// Only what passes at this role's sockets: dhcp, dns, rudp, scrap, origin or http; again for
    /// more
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// Only what this client sends and gets: the name of one with a session now, its address, or
    /// ADDRESS:PORT
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// So much of each packet that carries a file's data; messages are kept to 2048 bytes at least
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    bytes: u16,
    /// The last packets, which the lab holds in memory ([capture] ring), instead of those to come
    #[arg(long, conflicts_with_all = ["role", "client", "bytes"])]
    ring: bool,
    #[command(flatten)]
    target: Target,
}

/// Captures until Ctrl-C, until the reader is gone, or the lab ends.
pub(super) fn run(args: Args) -> ExitCode {
    match capture(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(format_args!("labnet capture: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn capture(args: &Args) -> Result<(), String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if args.ring {
        query.append_pair("ring", "");
    } else {
        query.append_pair("bytes", &args.bytes.to_string());
    }
    for role in &args.role {
        query.append_pair("role", role);
    }
    if let Some(client) = &args.client {
        query.append_pair("client", client);
    }
    let path = format!("/api/v1/capture?{}", query.finish());
    let mut out: Option<Box<dyn Write>> = None;
    let file = &args.file;
    let open = || -> io::Result<Box<dyn Write>> {
        Ok(if file.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(file)?)
        })
    };
    args.target.stream(&path, |piece| {
        // Made once there is an answer: a refusal leaves no empty file.
        let out = match &mut out {
            Some(out) => out,
            None => out.insert(open().map_err(|error| format!("{}: {error}", file.display()))?),
        };
        match out.write_all(piece).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    })
}
