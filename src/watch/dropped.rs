//! What observers have not told of, counted by each for the process; `telemetry` exports it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What observers of one kind have not told of since the process began.
#[derive(Debug)]
pub struct Dropped {
    observer: &'static str,
    count: AtomicU64,
}

/// `--events FILE`: events.
pub static EVENTS: Dropped = Dropped::new("events");
/// The log's packets.
pub static LOG: Dropped = Dropped::new("log");
/// `--qlog FOLDER`: steps of connections.
pub static QLOG: Dropped = Dropped::new("qlog");
/// Those that count events.
pub static OF_EVENTS: [&Dropped; 3] = [&EVENTS, &LOG, &QLOG];
/// Captures: packets.
pub static CAPTURES: Dropped = Dropped::new("capture");

impl Dropped {
    const fn new(observer: &'static str) -> Self {
        Self {
            observer,
            count: AtomicU64::new(0),
        }
    }

    /// Who observes, as a metric's label has it.
    pub fn observer(&self) -> &'static str {
        self.observer
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: u64) {
        self.count.fetch_add(more, Ordering::Relaxed);
    }
}
