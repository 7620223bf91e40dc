//! Tells a walk to a person: one line for everything that happens, on standard error, and a
//! progress bar where that is a terminal.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    download::{Downloaded, Progress},
    failure::FetchError,
    file_name::FileName,
    lease::Leased,
    lookup::Found,
    session::Notice,
    summary::Summary,
    transfer::hex,
    transport::Transport,
    units::{Latency, Rate, Size},
    walk::{Carriage, Observer},
};
use crate::{
    rudp::requester::{Event, Why},
    telemetry::complain,
};

/// An [`Observer`] that tells everything.
#[derive(Default)]
pub struct Teller {
    bars: MultiProgress,
    /// By the file's name here.
    bar: HashMap<String, ProgressBar>,
}

impl Teller {
    /// The file's progress bar.
    fn bar(&mut self, file: &FileName) -> &ProgressBar {
        let bars = &self.bars;
        let bar = self.bar.entry(file.local().to_owned());
        bar.or_insert_with(|| bar_of(file, bars))
    }
}

fn tell(label: &str, text: impl std::fmt::Display) {
    let label = style(format!("{label:<8}")).for_stderr().cyan();
    complain(format_args!("{label}  {text}"));
}

fn warn(label: &str, text: impl std::fmt::Display) {
    let label = style(format!("{label:<8}")).for_stderr().yellow();
    complain(format_args!("{label}  {text}"));
}

/// A signal as a student knows it.
fn signal(id: Option<u64>) -> String {
    id.map_or_else(|| "SIGNEW".to_owned(), |id| format!("signal {id}"))
}

impl Observer for Teller {
    fn leased(&mut self, leased: &Leased) {
        let Leased { lease, took } = leased;
        let server = lease.server;
        tell(
            "address",
            format_args!("{lease}, from {server} by DHCP in {}", Latency(*took)),
        );
    }

    fn found(&mut self, found: &Found) {
        let way = if found.over_tcp {
            "DNS over TCP"
        } else {
            "DNS"
        };
        let took = Latency(found.took);
        tell(
            "proxy",
            format_args!("{}, by {way} in {took}", found.resolved),
        );
    }

    fn opened(&mut self, local: SocketAddr, server: SocketAddr, rtt: Option<Duration>) {
        let rtt = rtt.map_or_else(
            || "SIGNEW had to be sent again".to_owned(),
            |rtt| format!("round trip {}", Latency(rtt)),
        );
        tell("session", format_args!("from {local} to {server}, {rtt}"));
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Dropped(id) => {
                warn("lost", format_args!("{}, on purpose", signal(*id)));
            }
            Notice::Event(Event::Lost(id)) => {
                warn("SIGNLOST", format_args!("the proxy misses signal {id}"));
            }
            Notice::Event(Event::Resent { id, why }) => {
                let why = match why {
                    Why::Timeout => "no answer in time",
                    Why::Lost => "the proxy asked for it",
                    Why::Full => "there is room for it now",
                };
                warn("resent", format_args!("{}: {why}", signal(*id)));
            }
            Notice::Event(Event::Full(id)) => {
                warn(
                    "SIGNFULL",
                    format_args!("the proxy's window is full, signal {id} waits"),
                );
            }
            Notice::Event(Event::GoingOn) => warn("going on", "the window has room again"),
            Notice::Event(Event::Connected { .. } | Event::Answered { .. } | Event::Failed(_)) => {}
        }
    }

    fn progress(&mut self, file: &FileName, progress: &Progress<'_>) {
        match progress {
            Progress::Asking => draw(self.bar(file), WAITING),
            Progress::Going { received, length } => {
                let bar = self.bar(file);
                if bar.length() != *length || bar.position() == 0 {
                    match length {
                        Some(length) => {
                            bar.set_length(*length);
                            draw(bar, KNOWN);
                        }
                        None => draw(bar, UNKNOWN),
                    }
                }
                bar.set_position(*received);
            }
            Progress::Again { because, pause } => {
                let line = format!("{file}: {because}; again in {}", Latency(*pause));
                self.bars.suspend(|| warn("broken", line));
            }
        }
    }

    fn fetched(&mut self, file: &FileName, result: &Result<Downloaded, FetchError>) {
        if let Some(bar) = self.bar.remove(file.local()) {
            bar.finish_and_clear();
        }
        self.bars.suspend(|| match result {
            Ok(downloaded) => tell("file", format_args!("{file}: {}", describe(downloaded))),
            Err(error) => {
                let label = style(format!("{:<8}", "failed")).for_stderr().red();
                complain(format_args!("{label}  {file}: {error}"));
            }
        });
    }

    fn carried(&mut self, transport: &Transport, carriage: &Carriage) {
        let (local, server) = (transport.local(), transport.server());
        let wish = carriage
            .congestion
            .map_or_else(String::new, |wish| format!(", {wish} wished"));
        let line = format!(
            "from {local} to {server}, handshake {}, {}{wish}",
            Latency(transport.handshake()),
            carriage.protection.name()
        );
        self.bars.suspend(|| tell("session", line));
    }

    fn gathered(&mut self, summary: &Summary) {
        if let Some(carried) = &summary.carried {
            let rate = Rate::new(summary.received, summary.took);
            tell("carried", format_args!("{rate}; {carried}"));
        }
    }
}

/// `52 MB in 0.41 s, 127 MB/s, SHA-256 verified`
pub fn describe(file: &Downloaded) -> String {
    let check = match &file.sha256 {
        Some(_) if file.verified => "SHA-256 verified".to_owned(),
        Some(digest) => format!(
            "length verified (no digest to compare with), SHA-256 {}",
            hex(digest)
        ),
        None => "length verified".to_owned(),
    };
    if file.received == 0 && file.bytes > 0 {
        return format!("{} there already, {check}", Size(file.bytes));
    }
    let resumed = match file.bytes.saturating_sub(file.received) {
        0 => String::new(),
        kept => format!(" ({} of it earlier)", Size(kept)),
    };
    format!(
        "{}{resumed} in {}, {}, {check}",
        Size(file.bytes),
        Latency(file.took),
        file.rate()
    )
}

const WAITING: &str = "{msg:16!} {spinner} asking";
const KNOWN: &str = "{msg:16!} {wide_bar:.cyan/dim} {percent:>3} % of {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
const UNKNOWN: &str = "{msg:16!} {spinner} {decimal_bytes}  {decimal_bytes_per_sec}";

/// Draws on standard error, and nothing at all if that is no terminal.
fn bar_of(file: &FileName, bars: &MultiProgress) -> ProgressBar {
    let bar = bars.add(ProgressBar::no_length());
    draw(&bar, WAITING);
    bar.set_message(file.to_string());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn draw(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸━"));
    }
}
