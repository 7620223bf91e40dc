//! The model of a bad link: packets go in, and come out late, twice, damaged, out of order or not
//! at all.
//!
//! ```text
//!            +---------+   +-------+   +------+   +------------------------------------+
//! packet --->| policer |-->| queue |-->| rate |-->| wire: loss, black-out, corruption, |---> packet
//!            +---------+   +-------+   +------+   | duplication, delay and jitter,     |
//!            (drops what  (drops what             | reordering                         |
//!             has no       doesn't fit;           +------------------------------------+
//!             tokens)      CoDel, RED)
//! ```
//!
//! The model does no IO and reads no clock: [`Link::handle_input`] takes a packet, [`Link::poll_output`]
//! gives the packets that have arrived by now, [`Link::poll_timeout`] tells when the next one
//! will. After every input and at every timeout, drain the output. A socket, a device or a
//! simulator in virtual time does the rest.
//!
//! **Verdicts.** [`Link::watch`] has an observer hear what becomes of each packet and why; several
//! may. With nobody listening it costs one look at whether somebody does.
//!
//! **One seed, one fate.** What chance decides about the Nth packet of a direction (lost, damaged
//! and where, duplicated, held back, how much jitter) follows from the seed, the options and N
//! alone, never from when it is sent. Only the policer, the queue with its management and black-outs
//! depend on time: the dice that RED throws for the Nth packet are the same, too, but how probable it
//! makes a drop is not.
//!
//! **Marks.** Where [`LinkOptions::ecn`] is set, the queue's management marks a packet whose sender
//! understands that (ECT) as "congestion experienced", and does not drop it (RFC 3168).
//!
//! [`SignalLoss`](super::SignalLoss) is something else: it spoils the client's own signals, by the
//! signal's number instead of by counting packets, so that a resend on a busy machine does not shift the
//! losses that a lesson shows. Here a resend is one more packet, as on a real link.

mod bottleneck;
mod codel;
mod counters;
mod direction;
mod fate;
mod policer;
mod red;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::LinkOptions;
use crate::watch::event::link::Observer;
pub use crate::watch::event::link::{Verdict, Way};
pub use counters::{Counters, Losses};
pub use direction::Direction;
pub use fate::Damage;

/// What travels over a link.
pub trait Packet: Clone {
    /// The bytes that it takes on the link, headers included: what rate and queue count.
    fn size(&self) -> usize;

    /// What it carries, as [`Verdict::payload`] has it.
    fn payload(&self) -> &[u8];

    /// Who it goes to or comes from, as [`Verdict::peer`] has it.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether its sender understands marks: it is ECT, or marked already (RFC 3168 section 5).
    fn is_ect(&self) -> bool {
        false
    }

    /// Marks it as "congestion experienced"; not to be asked of one that is not ECT.
    fn set_ce(&mut self) {}

    /// Takes one damage; tells which byte of the payload has changed, if it has any.
    fn take(&mut self, damage: Damage) -> Option<usize>;
}

impl Packet for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn payload(&self) -> &[u8] {
        self
    }

    fn take(&mut self, damage: Damage) -> Option<usize> {
        damage.strike(self).map(|(place, _)| place)
    }
}

/// Tells the dice of the two directions apart.
const DOWN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A link with its two directions, each with its own options, queue and dice.
#[derive(Debug)]
pub struct Link<P> {
    up: Direction<P>,
    down: Direction<P>,
}

impl<P: Packet> Link<P> {
    /// A link that black-outs count from `now`.
    pub fn new(up: LinkOptions, down: LinkOptions, seed: u64, now: Instant) -> Self {
        Self {
            up: Direction::new(up, seed, now),
            down: Direction::new(down, seed ^ DOWN, now),
        }
    }

    /// One of its directions.
    pub fn direction(&self, way: Way) -> &Direction<P> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    fn direction_mut(&mut self, way: Way) -> &mut Direction<P> {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Takes a packet that goes `way`.
    pub fn handle_input(&mut self, way: Way, packet: P, now: Instant) {
        self.direction_mut(way).handle_input(packet, now);
    }

    /// The next packet that has arrived by `now`; in each direction in the order of arrival.
    pub fn poll_output(&mut self, now: Instant) -> Option<(Way, P)> {
        Way::BOTH.into_iter().find_map(|way| {
            let packet = self.direction_mut(way).poll_output(now)?;
            Some((way, packet))
        })
    }

    /// When to poll for output again; `None`: not before the next input.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Way::BOTH
            .into_iter()
            .filter_map(|way| self.direction(way).poll_timeout())
            .min()
    }

    /// Replaces the options of one direction while packets are under way: see
    /// [`Direction::set_options`].
    pub fn set_options(&mut self, way: Way, options: LinkOptions, now: Instant) {
        self.direction_mut(way).set_options(options, now);
    }

    /// Has `observer` hear every verdict from now on, besides who hears them already.
    pub fn watch(&mut self, observer: Arc<dyn Observer>) {
        for way in Way::BOTH {
            self.direction_mut(way).watch(way, Arc::clone(&observer));
        }
    }

    /// Has `observer` hear no more.
    pub fn unwatch(&mut self, observer: &Arc<dyn Observer>) {
        for way in Way::BOTH {
            self.direction_mut(way).unwatch(observer);
        }
    }

    /// Has the dice of both directions begin anew: the next packet of each has the fate of `seed`'s
    /// first.
    pub fn reseed(&mut self, seed: u64) {
        self.up.reseed(seed);
        self.down.reseed(seed ^ DOWN);
    }
}

#[cfg(test)]
mod tests;
