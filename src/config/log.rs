//! `[log]`: what the log says, and how.

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::table::Table;

/// What the log says, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The least level that is shown: of all, and of parts of the program by themselves. Default
    /// `info`.
    pub level: Targets,
    /// Default `text`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Targets::new().with_default(LevelFilter::INFO),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Log {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        Self {
            level: table.text("level", level, default.level),
            format: table.text("format", format, default.format),
        }
    }
}

/// A level of all, and of parts of the program by themselves, as `TARGET=LEVEL`.
fn level(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for part in text.split(',').map(str::trim) {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target.trim()), level.trim()),
            None => (None, part),
        };
        // Numbers are levels for the library, and nobody knows which is which.
        let level = level
            .parse::<LevelFilter>()
            .ok()
            .filter(|_| level.bytes().all(|byte| byte.is_ascii_alphabetic()) && !level.is_empty())
            .ok_or_else(|| {
                format!(
                    "`{level}` is no level; there are `off`, `error`, `warn`, `info`, `debug` and \
                     `trace`, and for a part of the program `info,labnet::packet=trace`"
                )
            })?;
        targets = match target {
            Some("") => return Err(format!("`{part}` names no part of the program")),
            Some(target) => targets.with_target(target, level),
            None => targets.with_default(level),
        };
    }
    Ok(targets)
}

fn format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is no format; `text` and `json` are")),
    }
}
