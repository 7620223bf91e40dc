//! A connection's steps, raised for who observes the process.

use std::{sync::Arc, time::Instant};

use super::{
    super::transport::{Life, Observer, Step, Traced},
    STEPS, are_watched,
    batch::Kept,
    tell,
};

/// The trace of one connection: an [`Observer`] of it. Clones share it.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Told>);

#[derive(Debug)]
struct Told(Arc<Traced>);

/// Begins to raise a connection's steps; `None` if nobody wants to know.
pub fn trace(of: impl FnOnce() -> Traced, began: Instant) -> Option<Trace> {
    if !are_watched(STEPS) {
        return None;
    }
    let told = Told(Arc::new(of()));
    told.tell(Life::Opened, began);
    Some(Trace(Arc::new(told)))
}

impl Trace {
    /// The handshake is done.
    pub fn connected(&self, destination: u64, now: Instant) {
        // A handshake is done once: a later call changes nothing.
        let _ = self.0.0.destination.set(destination);
        self.0.tell(Life::Connected, now);
    }
}

impl Told {
    fn tell(&self, life: Life, at: Instant) {
        tell(STEPS, || {
            Kept::Life(Box::new((Arc::clone(&self.0), at, life)))
        });
    }
}

impl Observer for Trace {
    fn on_step(&mut self, now: Instant, step: &Step) {
        if are_watched(STEPS) {
            let of = &self.0.0;
            tell(STEPS, || Kept::Step(Box::new((Arc::clone(of), now, *step))));
        }
    }

    fn wants_packets(&self) -> bool {
        true
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Life::Ended, Instant::now());
    }
}
