//! Tells a walk to a person: one line for everything that happens, on standard error, and a
//! progress bar where that is a terminal; where it is none, a line now and then.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::{
    Patience,
    download::{Downloaded, Progress},
    failure::{FetchError, SILENT},
    file_name::FileName,
    lease::Leased,
    lookup::Found,
    pace::Pace,
    session::Notice,
    summary::Summary,
    transfer::hex,
    transport::Transport,
    units::{Latency, Rate, Size},
    walk::{Carriage, Observer, Waits},
};
use crate::{
    rudp::requester::{Event, Why},
    telemetry::complain,
    text::duration,
};

/// An [`Observer`] that tells everything.
pub struct Teller {
    bars: MultiProgress,
    /// By the file's name here.
    downloads: HashMap<String, Download>,
    /// Whether bars can be drawn; lines are printed else.
    draws: bool,
}

/// A download under way, as it is shown.
struct Download {
    bar: ProgressBar,
    /// None before the first byte of a try.
    pace: Arc<Mutex<Option<Pace>>>,
    /// When it was told of last.
    told_at: Instant,
}

/// So often a download is told of where no bar can be drawn.
const LINES: Duration = Duration::from_secs(2);

impl Default for Teller {
    fn default() -> Self {
        Self {
            bars: MultiProgress::new(),
            downloads: HashMap::new(),
            draws: console::user_attended_stderr(),
        }
    }
}

impl Teller {
    fn download(&mut self, file: &FileName) -> &mut Download {
        let bars = &self.bars;
        let download = self.downloads.entry(file.local().to_owned());
        download.or_insert_with(|| Download::new(file, bars))
    }
}

impl Download {
    fn new(file: &FileName, bars: &MultiProgress) -> Self {
        let pace = Arc::default();
        let bar = bars.add(ProgressBar::no_length());
        draw(&bar, WAITING, &pace);
        bar.set_message(file.to_string());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            bar,
            pace,
            told_at: Instant::now(),
        }
    }

    /// A try begins.
    fn ask(&mut self) {
        *lock(&self.pace) = None;
        draw(&self.bar, WAITING, &self.pace);
    }

    /// So much is there.
    fn go(&mut self, received: u64, length: Option<u64>, now: Instant) {
        let mut pace = lock(&self.pace);
        match &mut *pace {
            Some(pace) => pace.note(received, now),
            none => {
                *none = Some(Pace::new(received, now));
                drop(pace);
                match length {
                    Some(length) => {
                        self.bar.set_length(length);
                        draw(&self.bar, KNOWN, &self.pace);
                    }
                    None => draw(&self.bar, UNKNOWN, &self.pace),
                }
            }
        }
        self.bar.set_position(received);
    }

    /// Whether it is time for a line, which is told then.
    fn is_line_due(&mut self, now: Instant) -> bool {
        let is_due = now.saturating_duration_since(self.told_at) >= LINES;
        if is_due {
            self.told_at = now;
        }
        is_due
    }

    /// A line that says how it goes, if it is time for one.
    fn line(&mut self, received: u64, length: Option<u64>, now: Instant) -> Option<String> {
        if !self.is_line_due(now) {
            return None;
        }
        let share = length.map_or_else(String::new, |length| {
            let percent = received.saturating_mul(100) / length.max(1);
            format!(" of {}, {percent} %", Size(length))
        });
        let pace = lock(&self.pace);
        let pace = pace.as_ref().map(|pace| how_fast(pace, length, now));
        Some(format!(
            "{}{share}{}",
            Size(received),
            pace.unwrap_or_default()
        ))
    }
}

fn lock(pace: &Mutex<Option<Pace>>) -> MutexGuard<'_, Option<Pace>> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `, 6 MB/s, 2s left`, as far as it can be told.
fn how_fast(pace: &Pace, length: Option<u64>, now: Instant) -> String {
    let rate = pace.rate(now);
    let rate = rate.map_or_else(String::new, |rate| format!(", {rate}"));
    let left = length.and_then(|length| pace.left(length, now));
    let left = left.map_or_else(String::new, |left| format!(", {} left", duration(left)));
    format!("{rate}{left}")
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

    fn asks(&mut self, server: SocketAddr, patience: Patience) {
        // On the loopback interface the answer is there before this could be read.
        if !server.ip().is_loopback() {
            let most = patience.whole().as_secs();
            tell(
                "address",
                format_args!(
                    "asking the DHCP server at {server}, {most} s at most (--server ADDRESS:PORT names the \
                     proxy and goes without DHCP and DNS)"
                ),
            );
        }
    }

    fn waits(&mut self, waits: Waits) {
        match waits {
            Waits::Address(server) => warn(
                "silence",
                format_args!(
                    "from {server}: no DHCP server is there, or it has no free address and says nothing then"
                ),
            ),
            Waits::Session(server) | Waits::Transport(server) => {
                let line = format!("from {server} so far{SILENT}");
                self.bars.suspend(|| warn("silence", line));
            }
        }
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
            Progress::Asking => {
                let (draws, now) = (self.draws, Instant::now());
                let download = self.download(file);
                download.ask();
                if !draws && download.is_line_due(now) {
                    tell("asking", format_args!("{file}: no answer yet"));
                }
            }
            Progress::Going { received, length } => {
                let (draws, now) = (self.draws, Instant::now());
                let download = self.download(file);
                download.go(*received, *length, now);
                if !draws && let Some(line) = download.line(*received, *length, now) {
                    tell("going", format_args!("{file}: {line}"));
                }
            }
            Progress::Again { because, pause } => {
                let line = format!("{file}: {because}; again in {}", Latency(*pause));
                self.bars.suspend(|| warn("broken", line));
            }
        }
    }

    fn fetched(&mut self, file: &FileName, result: &Result<Downloaded, FetchError>) {
        if let Some(download) = self.downloads.remove(file.local()) {
            download.bar.finish_and_clear();
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
    let by =
        (file.congestion.as_ref()).map_or_else(String::new, |name| format!(", TCP sent by {name}"));
    format!(
        "{}{resumed} in {}, {}{by}, {check}",
        Size(file.bytes),
        Latency(file.took),
        file.rate()
    )
}

const WAITING: &str = "{msg:16!} {spinner} asking";
const KNOWN: &str = "{msg:16!} {wide_bar:.cyan/dim} {percent:>3} % of {decimal_total_bytes}{pace}";
const UNKNOWN: &str = "{msg:16!} {spinner} {decimal_bytes}{pace}";

/// Draws on standard error, and nothing at all if that is no terminal.
fn draw(bar: &ProgressBar, template: &str, pace: &Arc<Mutex<Option<Pace>>>) {
    let pace = Arc::clone(pace);
    let how_fast = move |state: &ProgressState, out: &mut dyn fmt::Write| {
        if let Some(pace) = &*lock(&pace) {
            // A line that can't be drawn is not.
            let _ = out.write_str(&how_fast(pace, state.len(), Instant::now()));
        }
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        let style = style.with_key("pace", how_fast);
        bar.set_style(style.progress_chars("━╸━"));
    }
}
