//! Probes of the largest datagram that the path carries.

use std::time::Instant;

use super::{
    Connection, Ecn, Transmit,
    path::Proof,
    transmit::{Data, Leave, PING},
};
use crate::rudp::packet::encode_data_header;

impl Connection {
    /// A packet of a size that was never tried, if one is due.
    pub(super) fn poll_mtu_probe(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        // Data goes first, for the probe after it soon tells whether it got lost.
        if self.path.proof != Proof::Given
            || self.stats.data_packets_sent == 0
            || !self.path.rtt.has_sample()
            || self.leave(now, u64::from(self.path.mtu.current())) != Leave::Any
        {
            return None;
        }
        let size = usize::from(self.path.mtu.poll_probe(now)?);
        let start = buffer.len();
        let first_frame = self.sent.frame_count();
        let number = self.sent.next();
        encode_data_header(self.peer_cid, number, buffer);
        buffer.push(PING);
        buffer.resize(start + size - self.keys.tag_len(), 0);
        self.keys.seal(buffer, start, number);
        let length = buffer.len() - start;
        self.path.mtu.on_probe_sent(number);
        let marked = self.on_built(now, length, true, first_frame, Data::default());
        Some(self.transmit(length, length, marked.then_some(Ecn::Ect0)))
    }

    /// The kernel refused a datagram of this size: the first link is narrower.
    pub fn on_too_big(&mut self, size: usize) {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        self.path.mtu.on_too_big(size);
        self.path.set_mtu(self.path.mtu.current());
    }
}
