//! Who observes the packets of this process for the command line: `--events`.

use std::path::PathBuf;

use crate::{
    rudp::packet::read_number,
    watch::{json, log::Observer},
};

/// The options.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Observe {
    /// Write what happens to this file, a JSON object a line (docs/events.md): every packet, what
    /// a bad network did to it, each step of the transport's connections
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
            let observer = json::start(file, read_number);
            let observer = observer
                .map_err(|error| format!("--events: can't write to {}: {error}", file.display()))?;
            observers.push(observer);
        }
        Ok(Observing(observers))
    }
}
