//! What the questions over datagrams have in common.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};

use crate::watch::event::packet::Fate;

/// A packet that a core wants sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether it is a repetition, and why.
    pub fate: Fate,
}

/// How long the client waits for an answer, and how often it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first wait; each next one is twice as long, plus or minus a quarter of the first.
    pub first: Duration,
    /// How often one message is sent before it is given up.
    pub tries: u32,
}

impl Patience {
    /// RFC 2131 section 4.1's shape for an Ethernet, begun at two seconds instead of four and ended after
    /// 14: a person waits.
    pub const LAN: Self = Self {
        first: Duration::from_secs(2),
        tries: 3,
    };
    /// The same shape where a round trip takes microseconds.
    pub const LOOPBACK: Self = Self {
        first: Duration::from_millis(500),
        tries: 4,
    };

    /// What a server at this address deserves.
    pub fn with(server: SocketAddr) -> Self {
        if server.ip().is_loopback() {
            Self::LOOPBACK
        } else {
            Self::LAN
        }
    }

    /// How long all tries of one message take together.
    pub fn whole(&self) -> Duration {
        (0..self.tries)
            .map(|before| self.first * 2_u32.saturating_pow(before.min(4)))
            .sum()
    }

    /// The wait after a message that was sent `before` times already.
    pub fn wait(&self, before: u32, rng: &mut impl Rng) -> Duration {
        let quarter = self.first / 4;
        let jitter = rng.random_range(Duration::ZERO..=quarter * 2);
        self.first * 2_u32.saturating_pow(before.min(4)) - quarter + jitter
    }
}

/// A question over datagrams that is repeated until it is answered or given up.
///
/// Drive it so: send all that `poll_transmit` gives; look at `outcome` and stop when it is there;
/// wait for a datagram or for `deadline`, whichever comes first, and hand it in.
pub trait Exchange {
    /// What a good answer gives.
    type Answer;
    /// Why there is none.
    type Error;

    /// The next packet to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;
    /// A datagram from the server. What does not belong to the exchange changes nothing.
    fn handle_datagram(&mut self, payload: &[u8], now: Instant);
    /// The kernel reports that nothing listens at the server's address. Nothing will for a client that
    /// has only just begun: the exchange is over.
    fn handle_refused(&mut self);
    /// How often the present message was sent: the first time says nothing, the second that the first
    /// found no answer.
    fn tries(&self) -> u32;
    /// When [`Exchange::handle_timeout`] wants to be called.
    fn deadline(&self) -> Option<Instant>;
    /// The deadline has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The end of the exchange, once it is there.
    fn outcome(&mut self) -> Option<Result<Self::Answer, Self::Error>>;
}
