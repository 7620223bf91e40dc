//! The command line: one verb a file. Data goes to stdout, logs and complaints to stderr; exit 0
//! is done, 1 failed, 2 wrong use.

mod api;
mod leases;
mod reload;
mod serve;
mod sessions;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A teaching network in one program: DHCP, DNS, a reliable-UDP proxy, a download page's scraper,
/// and a client that walks through all of them.
#[derive(Debug, Parser)]
#[command(
    name = "labnet",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the lab's servers until SIGINT or SIGTERM
    Serve(serve::Args),
    /// Make a running lab read its configuration again
    Reload(reload::Args),
    /// Show the components of a running lab
    Status(status::Args),
    /// Show who has which address
    Leases(leases::Args),
    /// Show the RUDP sessions
    Sessions(sessions::Args),
}

/// Runs the verb that the command line names.
pub fn run() -> ExitCode {
    match Cli::parse().verb {
        Verb::Serve(args) => serve::run(args),
        Verb::Reload(args) => reload::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Leases(args) => leases::run(args),
        Verb::Sessions(args) => sessions::run(args),
    }
}

/// Exit code for wrong use: a bad command line or configuration.
const WRONG_USE: u8 = 2;
