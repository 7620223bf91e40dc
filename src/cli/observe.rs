//! Who observes the packets of this process for the command line: `--events`.

use std::path::PathBuf;

use crate::watch::{json, log::Observer};

/// The options.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Observe {
    /// Write every packet, sent and received, to this file: a JSON object a line (docs/events.md)
    #[arg(long, global = true, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// The observers at work. Dropped, they write what has happened until then.
#[must_use]
pub(super) struct Observing(#[expect(dead_code, reason = "held for its end")] Vec<Observer>);

impl Observe {
    /// Begins.
    pub(super) fn start(&self) -> Result<Observing, String> {
        let mut observers = Vec::new();
        if let Some(file) = &self.events {
            let observer = json::start(file);
            let observer = observer
                .map_err(|error| format!("--events: can't write to {}: {error}", file.display()))?;
            observers.push(observer);
        }
        Ok(Observing(observers))
    }
}
