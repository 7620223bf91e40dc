use std::time::Instant;

use crate::telemetry::packets::Fate;

/// A packet that a core wants sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether it is a repetition.
    pub fate: Fate,
    /// What it means, for a student.
    pub meaning: String,
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
    /// The kernel reports that nothing listens at the server's address.
    fn handle_refused(&mut self) {}
    /// When [`Exchange::handle_timeout`] wants to be called.
    fn deadline(&self) -> Option<Instant>;
    /// The deadline has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The end of the exchange, once it is there.
    fn outcome(&mut self) -> Option<Result<Self::Answer, Self::Error>>;
}
