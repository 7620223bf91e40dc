//! Who watches connections from their beginning, in the process that holds them.

use std::{fmt, time::Instant};

use super::{event::transport::Observer, ring::About};

/// Is asked about each connection of the transport that begins.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// Who is to watch this one, if somebody is.
    fn begins(&self, about: About, now: Instant) -> Option<Box<dyn Observer>>;
}
