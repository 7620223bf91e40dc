//! Who attends to connections from their beginning, in the process that holds them.

use std::{fmt, sync::Arc, time::Instant};

use super::{
    event::{congestion::Controllers, transport::Observer},
    ring::About,
};

/// Is asked about each connection of the transport that begins.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// What is to control the sending of this one, instead of what its client asked for and the
    /// configuration says. Nothing of it has been sent yet.
    fn controls(&self, _about: &About) -> Option<Arc<dyn Controllers>> {
        None
    }

    /// Who is to watch this one, if somebody is.
    fn begins(&self, about: About, now: Instant) -> Option<Box<dyn Observer>>;
}
