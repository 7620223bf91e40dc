//! Logs: on standard error, so that stdout is data's alone.
//!
//! Whoever logs never waits: a thread of its own writes the lines, and what that can't write, as
//! on a full disk or to a pipe that nobody reads, is lost and counted.

mod writer;

use std::{
    env, panic,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Compact, Format, Json, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use self::writer::LogWriter;
use super::{complain, metrics::LOG_LINES_DROPPED};
use crate::{
    config::{Log, LogFormat},
    watch::{
        capture,
        log::{self, Observer, TARGET},
    },
};

/// The variable that goes over every other filter.
const VARIABLE: &str = "RUST_LOG";
/// What is logged just before the end comes out within this time, or not at all.
const FLUSH: Duration = Duration::from_secs(1);
/// The same for a panic: it may be one that the process does not survive.
const PANIC_FLUSH: Duration = Duration::from_millis(100);

/// The log of this process, once it has begun.
static LOG: OnceLock<Process> = OnceLock::new();
/// Whether lines are JSON. Beside [`LOG`], for the lines of its very beginning.
static JSON: AtomicBool = AtomicBool::new(false);

/// Who logs the packets, if the filter wants them.
static PACKETS: Mutex<Option<Observer>> = Mutex::new(None);

struct Process {
    writer: Option<LogWriter>,
    set: Box<dyn Fn(&Targets) + Send + Sync>,
    /// `RUST_LOG` decides what is shown.
    is_level_fixed: bool,
    /// What `RUST_LOG` says of some targets, if it says nothing of all others.
    besides: Targets,
    /// The command line decides how it looks.
    is_format_fixed: bool,
}

/// Starts logging for the process. `RUST_LOG` filters; of what it does not speak of, `default_level`
/// and above is shown, until [`set_level`] says otherwise. `labnet::packet=trace` in it shows every
/// packet: the readers of their words are to be registered before. `format` holds for good, if there is one.
pub fn init(format: Option<LogFormat>, default_level: LevelFilter) {
    start(format, default_level, |log| {
        tracing_subscriber::registry().with(log).try_init()
    });
}

/// Logs every packet as long as the log's filter wants that.
fn follow_packets() {
    let wanted = tracing::enabled!(target: TARGET, tracing::Level::TRACE);
    let observer = &mut *PACKETS.lock().unwrap_or_else(PoisonError::into_inner);
    match (wanted, observer.is_some()) {
        (true, false) => match log::start() {
            Ok(started) => *observer = Some(started),
            Err(error) => tracing::error!("no packets in the log: {error}"),
        },
        (false, true) => *observer = None,
        _ => {}
    }
}

/// Takes `[log]` live: at the start, and with every reload; but for what [`masked`] tells.
pub fn set_level(log: &Log) {
    let Some(process) = LOG.get() else {
        return;
    };
    if !process.is_format_fixed {
        JSON.store(log.format == LogFormat::Json, Ordering::Relaxed);
    }
    if !process.is_level_fixed {
        let mut targets = log.level.clone();
        targets.extend(process.besides.clone());
        (process.set)(&targets);
        follow_packets();
    }
}

/// The keys of `[log]` that are without effect, with what masks them: `RUST_LOG` goes over the level,
/// `--log-format` over the format.
pub fn masked() -> Vec<(&'static str, &'static str)> {
    let Some(process) = LOG.get() else {
        return Vec::new();
    };
    let format = process
        .is_format_fixed
        .then_some(("log.format", "--log-format"));
    let level = process.is_level_fixed.then_some(("log.level", VARIABLE));
    format.into_iter().chain(level).collect()
}

/// Says something that is no event, as what keeps the lab from starting, where the log goes and
/// after what was logged before.
pub fn say(text: &str) {
    match LOG.get().and_then(|log| log.writer.as_ref()) {
        Some(writer) => writer.take(format!("{text}\n").as_bytes()),
        None => complain(text),
    }
}

/// Dropped last of all, this lets the last lines come out, if somebody takes them within a second.
#[derive(Debug)]
pub struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        // The packets that nobody has read yet come before.
        *PACKETS.lock().unwrap_or_else(PoisonError::into_inner) = None;
        flush(FLUSH);
    }
}

fn flush(limit: Duration) {
    if let Some(writer) = LOG.get().and_then(|log| log.writer.as_ref()) {
        writer.flush(limit);
    }
}

type LogLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn start<E: std::fmt::Display>(
    format: Option<LogFormat>,
    default_level: LevelFilter,
    begin: impl FnOnce(LogLayer) -> Result<(), E>,
) {
    let writer = LogWriter::to_stderr(LOG_LINES_DROPPED.clone());
    let (writer, problem) = match writer {
        Ok(writer) => (Some(writer), None),
        Err(error) => (None, Some(error)),
    };
    let (variable, misread) = match variable() {
        Ok(variable) => (variable, None),
        Err(problem) => (None, Some(problem)),
    };
    let fixed = variable.as_ref().and_then(Targets::default_level);
    let besides = variable.unwrap_or_default();
    let mut targets = Targets::new().with_default(fixed.unwrap_or(default_level));
    targets.extend(besides.clone());
    JSON.store(format == Some(LogFormat::Json), Ordering::Relaxed);
    let (filter, handle) = reload::Layer::new(targets);
    let lines = writer.clone();
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Line::default())
        .with_writer(move || Lines(lines.clone()))
        .with_ansi(console::colors_enabled_stderr())
        .with_filter(filter);
    let begun = begin(layer.boxed());
    let process = Process {
        writer,
        set: Box::new(move |targets| {
            // An error would mean that the subscriber is gone: it lives as long as the process.
            let _ = handle.reload(targets.clone());
        }),
        is_level_fixed: fixed.is_some(),
        besides,
        is_format_fixed: format.is_some(),
    };
    if let Err(error) = begun {
        complain(format_args!("labnet: no logging: {error}"));
    } else if LOG.set(process).is_ok() {
        log_panics();
    }
    if let Some(error) = problem {
        complain(format_args!(
            "labnet: no log, every line of it is lost: {error}"
        ));
    }
    if let Some(problem) = misread {
        tracing::warn!("{problem}");
    }
    follow_packets();
}

/// What `RUST_LOG` says; an empty one says nothing.
fn variable() -> Result<Option<Targets>, String> {
    let Some(text) = env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    text.parse().map(Some).map_err(|error| {
        format!(
            "{VARIABLE} goes without effect: `{text}` is no filter: {error}; write it as `info` or \
             `info,labnet::packet=trace`"
        )
    })
}

/// What the formatting layer writes its lines to; without a writer they are lost.
struct Lines(Option<LogWriter>);

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        match &self.0 {
            Some(writer) => writer.take(line),
            None => LOG_LINES_DROPPED.inc(),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A line of the format that is wanted now.
struct Line {
    text: Format<Compact>,
    json: Format<Json>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            text: tracing_subscriber::fmt::format()
                .compact()
                .with_target(false),
            // Nothing of labnet opens a span.
            json: tracing_subscriber::fmt::format()
                .json()
                .with_current_span(false)
                .with_span_list(false),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        if JSON.load(Ordering::Relaxed) {
            self.json.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
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
        capture::crashed();
        flush(PANIC_FLUSH);
    }));
}
