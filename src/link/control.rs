use std::sync::Arc;

use serde::Serialize;

use super::{Counters, LinkOptions, Way};
use crate::watch::event::link::Observer;

/// What can be seen and changed of a link while it runs, and seen after it.
#[derive(Clone)]
pub struct LinkControl(Arc<dyn Controlled>);

/// A link that runs.
pub(super) trait Controlled: Send + Sync {
    fn watch(&self, observer: Arc<dyn Observer>);
    fn unwatch(&self, observer: &Arc<dyn Observer>);
    fn counters(&self) -> LinkCounters;
    fn options(&self, way: Way) -> LinkOptions;
    fn set_options(&self, up: LinkOptions, down: LinkOptions);
}

/// What a link has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LinkCounters {
    /// The clients of a relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientCounters>,
    /// Packets that came through the link, but not to their receiver: its client is forgotten, or
    /// the kernel takes none.
    pub undelivered: u64,
    /// The way to the server, or from left to right.
    pub up: Counters,
    /// The way back.
    pub down: Counters,
}

/// What a relay has done about its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ClientCounters {
    /// Clients now.
    pub now: usize,
    /// Clients since the start; one that was forgotten and came back counts twice.
    pub seen: u64,
    /// Clients forgotten because they were idle.
    pub expired: u64,
    /// Datagrams dropped because there were too many clients, or no socket for one more.
    pub refused: u64,
    /// Datagrams dropped because they did not come from the server.
    pub strangers: u64,
}

impl LinkControl {
    pub(super) fn new(link: Arc<dyn Controlled>) -> Self {
        Self(link)
    }

    /// Has `observer` hear every verdict from now on, besides who hears them already.
    pub fn watch(&self, observer: Arc<dyn Observer>) {
        self.0.watch(observer);
    }

    /// Has `observer` hear no more.
    pub fn unwatch(&self, observer: &Arc<dyn Observer>) {
        self.0.unwatch(observer);
    }

    /// What the link has done so far.
    pub fn counters(&self) -> LinkCounters {
        self.0.counters()
    }

    /// Bytes that wait for the rate now.
    pub fn queued_bytes(&self, way: Way) -> u64 {
        let counters = self.0.counters();
        match way {
            Way::Up => counters.up.queued_bytes,
            Way::Down => counters.down.queued_bytes,
        }
    }

    /// What it does to packets that go `way`.
    pub fn options(&self, way: Way) -> LinkOptions {
        self.0.options(way)
    }

    /// Changes both directions' options at once, from now on.
    pub fn set_options(&self, up: LinkOptions, down: LinkOptions) {
        self.0.set_options(up, down);
    }
}
