//! Logs: on stderr, so that stdout is data's alone.

use std::{io, panic};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt,
};

use super::packets::TARGET;

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

/// Starts logging for people, and hands every packet event to `packets` besides, whatever the log's
/// filter.
pub fn init_with_packets<L>(default_level: &str, packets: L)
where
    L: Layer<Registry> + Send + Sync,
{
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    // Each layer has its own filter: one without would switch on every event of every library.
    let packets = packets.with_filter(filter_fn(|metadata| metadata.target() == TARGET));
    let log = tracing_subscriber::fmt::layer()
        .compact()
        .with_writer(io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        .with_target(false)
        .with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(packets).with(log);
    if let Err(error) = subscriber.try_init() {
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
