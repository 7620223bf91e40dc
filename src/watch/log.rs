//! Every packet as a line of the log.

use std::{
    io,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    dropped::{self, Dropped},
    event::{
        hub::{self, Batch, Closer, Event, Lost, Other, Subscription, Wants},
        packet::Packet,
    },
    words::Words,
};

/// The `tracing` target of the lines, each of the level TRACE.
pub const TARGET: &str = "labnet::packet";

/// Waits so long for events, then looks whether it is over.
const PATIENCE: Duration = Duration::from_secs(3600);

/// An observer's thread. Dropped, it ends once it has seen all that has happened until then.
pub struct Observer {
    closer: Closer,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Has `see` called with each packet that `wants` takes, and at the end with how many were lost
    /// because it was slow, which are counted by `dropped`, too.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        name: &str,
        dropped: Option<&'static Dropped>,
        wants: Wants,
        mut see: impl FnMut(Seen<'_>) + Send + 'static,
    ) -> io::Result<Self> {
        let subscription = hub::subscribe(wants);
        let closer = subscription.closer();
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || observe(dropped, &subscription, &mut see))?;
        Ok(Self {
            closer,
            thread: Some(thread),
        })
    }
}

impl Observer {
    /// Waits until all that has happened so far has been shown, for `patience` at most.
    pub fn catch_up(&self, patience: Duration) {
        let give_up = Instant::now() + patience;
        while !self.closer.is_drained() && Instant::now() < give_up {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take() {
            // It panicked: the hook has said so.
            let _ = thread.join();
        }
    }
}

/// What an [`Observer`] is shown.
pub enum Seen<'a> {
    /// A packet.
    Packet(&'a Packet<'a>),
    /// An event of another kind, for who wants such.
    Other(&'a Other<'a>),
    /// All that has come so far has been shown; so many have been lost since the last time.
    Pause {
        /// Events that the queue had no room for.
        lost: Lost,
    },
}

fn observe(dropped: Option<&Dropped>, subscription: &Subscription, see: &mut dyn FnMut(Seen<'_>)) {
    let mut batch = Batch::default();
    let mut known = Lost::default();
    loop {
        let closed = subscription.is_closed();
        let more = subscription.read(&mut batch, PATIENCE);
        for event in batch.events() {
            match event {
                Event::Packet(packet) => see(Seen::Packet(&packet)),
                Event::Other(other) => see(Seen::Other(&other)),
            }
        }
        let lost = subscription.lost();
        let missed = lost.since(known);
        if let Some(dropped) = dropped {
            dropped.add(missed.sum());
        }
        see(Seen::Pause { lost: missed });
        known = lost;
        if closed && !more {
            return;
        }
    }
}

/// Logs every packet from now on.
///
/// # Errors
/// The system has no thread to give.
pub fn start() -> io::Result<Observer> {
    let mut words = Words::default();
    let dropped = Some(&dropped::LOG);
    Observer::start("log", dropped, Wants::default(), move |seen| match seen {
        Seen::Packet(packet) => log(packet, &mut words),
        Seen::Other(_) => {}
        Seen::Pause { lost } if lost.sum() == 0 => {}
        Seen::Pause { lost } => {
            tracing::warn!(
                lost = lost.packets,
                "packets that are not in the log: it was too slow"
            );
        }
    })
}

fn log(packet: &Packet<'_>, words: &mut Words) {
    let reading = words.read(packet);
    let ids: Vec<String> = reading
        .fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let place = &packet.place;
    tracing::trace!(
        target: TARGET,
        role = place.label.role.name(),
        protocol = place.label.protocol.name(),
        carrier = place.carrier.name(),
        source = %packet.source(),
        destination = %packet.destination(),
        bytes = packet.length,
        fate = packet.fate.name(),
        reason = packet.fate.reason(),
        message = reading.name(),
        ids = ids.join(" "),
        meaning = %reading.meaning,
    );
}
