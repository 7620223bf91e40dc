//! The command line: one verb a file. Data goes to stdout, logs and complaints to stderr; exit 0
//! is done, 1 failed, 2 wrong use.

mod api;
mod capture;
mod carriage;
mod check;
mod client;
mod compare;
mod completions;
mod configuration;
mod demo;
mod doctor;
mod explain;
mod init;
mod leases;
mod link;
mod man;
mod observe;
mod qlog;
mod reload;
mod serve;
mod sessions;
mod status;
mod top;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    dhcp, dns, http, net, rudp, scrap,
    telemetry::{complain, logging, print},
    watch::{event::packet::Protocol, words},
};

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
    /// Tell the whole story on this machine, packet by packet
    Demo(demo::Args),
    /// Walk through the lab as a student's program would; without a command, at a prompt
    Client(Box<client::Args>),
    /// Write a configuration with comments, and its zones, to start from
    Init(init::Args),
    /// Be a bad network: relay UDP, and lose, delay, reorder, duplicate and damage it
    Link(Box<link::Args>),
    /// Compare senders over the same bad link, in virtual time or for real
    Compare(Box<compare::Args>),
    /// Check a configuration: what it would run, or all that is wrong with it
    Check(check::Args),
    /// See whether this machine can run the lab, and what to do about what it lacks
    Doctor(doctor::Args),
    /// Make a running lab read its configuration again
    Reload(reload::Args),
    /// Show the components of a running lab
    Status(status::Args),
    /// Show who has which address
    Leases(leases::Args),
    /// Show the RUDP sessions
    Sessions(sessions::Args),
    /// Watch the sessions live: goodput, windows, round trips, losses
    Top(top::Args),
    /// Tell why a client's congestion window is what it is: its cuts, and what limits it
    Why(why::Args),
    /// Write the packets of a running lab to a file that Wireshark reads
    Capture(capture::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
}

/// Runs the verb that the command line names.
pub fn run() -> ExitCode {
    net::keep_freed_memory();
    let _ending = logging::Ending;
    words::register(vec![
        (Protocol::Dhcp, dhcp::reader),
        (Protocol::Dns, dns::reader),
        (Protocol::Rudp, rudp::reader),
        (Protocol::List, scrap::reader),
        (Protocol::Http, http::reader),
    ]);
    match Cli::parse().verb {
        Verb::Serve(args) => serve::run(args),
        Verb::Demo(args) => demo::run(args),
        Verb::Client(args) => client::run(*args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Init(args) => init::run(args),
        Verb::Link(args) => link::run(*args),
        Verb::Compare(args) => compare::run(*args),
        Verb::Check(args) => check::run(args),
        Verb::Reload(args) => reload::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Leases(args) => leases::run(args),
        Verb::Sessions(args) => sessions::run(args),
        Verb::Top(args) => top::run(args),
        Verb::Why(args) => why::run(args),
        Verb::Capture(args) => capture::run(args),
        Verb::Completions(args) => completions::run(args, Cli::command()),
        Verb::Man(args) => man::run(args, Cli::command()),
    }
}

/// Exit code for wrong use: a bad command line or configuration.
const WRONG_USE: u8 = 2;

/// Prints data; fails if it can't be printed.
fn output(data: &[u8]) -> ExitCode {
    match print(data) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("cannot write: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn variables_of_the_command_line_are_no_keys_of_the_configuration() {
        for verb in Cli::command().get_subcommands() {
            for variable in verb.get_arguments().filter_map(clap::Arg::get_env) {
                let variable = variable.to_str().expect("plain").to_owned();
                let parsed = config::parse(
                    "[http]\n",
                    Path::new("labnet.toml"),
                    [(variable.clone(), "http://127.0.0.1:9/".to_owned())],
                );
                assert!(parsed.is_ok(), "{variable}: {parsed:?}");
            }
        }
    }
}
