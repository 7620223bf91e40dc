//! Logs: on stderr, so that stdout is data's alone.

use std::{io, panic};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the process. `RUST_LOG` filters; without it `default_level` and above is
/// shown. `labnet::packet=trace` in it shows every packet.
pub fn init(format: Format, default_level: &str) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        .with_target(false);
    let started = match format {
        Format::Text => builder.compact().try_init(),
        Format::Json => builder.json().with_target(true).try_init(),
    };
    if let Err(error) = started {
        eprintln!("labnet: no logging: {error}");
    }
    log_panics();
}

/// A panic is one error line in the log: the supervisor deals with it.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let message = info
            .payload_as_str()
            .unwrap_or("a panic without words")
            .to_owned();
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%location, "panic: {message}");
    }));
}
