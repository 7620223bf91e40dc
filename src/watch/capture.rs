//! Captures of the process's own traffic: into files that rotate, to whoever asks, and in a ring of
//! the last minutes that is written out when something happens.

mod configured;
mod files;
mod ring;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use self::{
    configured::{Prepared, Refused, crashed, end, prepare, ring},
    ring::Ring,
};
use super::{
    crossings::Waiting,
    dropped,
    event::{
        hub::{Batch, Subscription, Wants},
        packet::{Packet, Role},
    },
    fates::Fate,
    pcapng::Writer,
};
use crate::net;

/// What is kept of a packet that carries a file's data, if nobody says how much.
pub const DATA_BYTES: usize = 128;
/// And of one that says something: a message, a signal, the head of an answer.
const MESSAGE_BYTES: usize = 2048;
/// What waits to be written, at most.
const QUEUE: usize = 16 << 20;
/// Packets gather for so long before they are written.
const LINGER: Duration = Duration::from_millis(20);
/// So often a capture looks whether somebody still wants it.
const LOOK: Duration = Duration::from_secs(1);

/// What a capture wants of each packet.
pub fn wants(roles: BTreeSet<Role>, data_bytes: usize) -> Wants {
    Wants {
        // No other role has a link before it.
        verdicts: roles.is_empty()
            || [Role::Rudp, Role::Client]
                .iter()
                .any(|of| roles.contains(of)),
        data_bytes,
        message_bytes: MESSAGE_BYTES.max(data_bytes),
        queue_bytes: QUEUE,
        linger: LINGER,
        roles,
        ..Wants::default()
    }
}

/// Where a capture's packets go.
pub trait Output {
    /// Takes a packet, with what a link did to it, and how many packets are missing so far because the
    /// capture was too slow.
    ///
    /// # Errors
    /// Those of what is written to.
    fn packet(&mut self, packet: &Packet<'_>, link: Option<&Fate>, lost: u64) -> io::Result<()>;

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// Those of what is written to.
    fn flush(&mut self) -> io::Result<()>;

    /// Nothing more comes; so many packets are missing.
    ///
    /// # Errors
    /// Those of what is written to.
    fn end(&mut self, lost: u64) -> io::Result<()>;
}

impl<W: Write> Output for Writer<W> {
    fn packet(&mut self, packet: &Packet<'_>, link: Option<&Fate>, _lost: u64) -> io::Result<()> {
        Self::packet(self, packet, link)
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::flush(self)
    }

    fn end(&mut self, lost: u64) -> io::Result<()> {
        self.statistics(lost)
    }
}

/// A thread for a capture. Where it and what it captures both want the processor it waits, and the packets that its
/// queue has no room for are counted: a transfer is to go as fast as with nobody looking on.
///
/// # Errors
/// Those of the system that has no thread to give.
pub fn spawn(name: &str, capture: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        if let Err(error) = net::step_back() {
            tracing::debug!(%error, "a capture has the same priority as what it captures");
        }
        capture();
    })
}

/// Captures into `out` until it breaks, `wanted` says no more, or nothing more comes. To be called in
/// a thread of its own.
///
/// # Errors
/// Those of `out`.
pub fn run(
    subscription: &Subscription,
    mut out: impl Output,
    mut wanted: impl FnMut() -> bool,
) -> io::Result<()> {
    out.flush()?;
    let (mut batch, mut lost) = (Batch::default(), 0);
    let mut waiting = Waiting::default();
    while wanted() {
        let closed = subscription.is_closed();
        let more = subscription.read(&mut batch, LOOK);
        if more {
            waiting.put(std::mem::take(&mut batch), Instant::now());
        }
        lost = count_lost(subscription, lost);
        while let Some(ready) = waiting.next(closed && !more, Instant::now()) {
            for packet in ready.packets() {
                out.packet(&packet, waiting.crossings().of(&packet), lost)?;
            }
            batch = ready;
        }
        out.flush()?;
        if closed && !more {
            break;
        }
    }
    out.end(lost)
}

fn count_lost(subscription: &Subscription, known: u64) -> u64 {
    let lost = subscription.lost().packets;
    dropped::CAPTURES.add(lost.saturating_sub(known));
    lost
}
