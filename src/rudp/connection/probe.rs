//! Probes of the largest datagram that the path carries.

use std::time::Instant;

use super::{
    Connection, Ecn, Transmit,
    path::{BASE, Proof},
    send_buffer::Why,
    sent::SentFrame,
    transmit::{Data, Leave, PING},
};
use crate::{rudp::packet::encode_data_header, watch::event::transport::Step};

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
        let first_frame = self.recovery.sent.frame_count();
        let number = self.recovery.sent.next();
        encode_data_header(self.peer_cid, number, buffer);
        buffer.push(PING);
        buffer.resize(start + size - self.keys.tag_len(), 0);
        self.keys.seal(buffer, start, number);
        let length = buffer.len() - start;
        self.path.mtu.on_probe_sent(number);
        let marked = self.on_built(now, length, true, first_frame, Data::default());
        Some(self.transmit(number, length, length, marked.then_some(Ecn::Ect0)))
    }

    /// The kernel refused these datagrams: the first link is narrower, and carries no more than
    /// `fits` bytes of UDP payload if that is known. They never left: what was in them goes into
    /// smaller ones at once. Nothing of that is congestion.
    ///
    /// Says whether it does so. What is refused although every path should carry it is lost.
    pub fn on_too_big(&mut self, transmit: &Transmit, fits: Option<u16>, now: Instant) -> bool {
        let size = u16::try_from(transmit.segment).unwrap_or(u16::MAX);
        if size <= BASE {
            return false;
        }
        if transmit.remote == self.path.remote {
            let before = self.path.mtu.current();
            self.path
                .mtu
                .on_too_big(size, fits, self.recovery.sent.next());
            if self.path.mtu.current() != before {
                self.path.set_mtu(self.path.mtu.current());
            }
        }
        let [first, end] = transmit.numbers;
        (first..end).for_each(|number| self.take_back(number, now));
        true
    }

    /// A packet has not left.
    fn take_back(&mut self, number: u64, now: Instant) {
        // Declared lost meanwhile, if it waited: then it goes again anyhow.
        let Some(packet) = self.recovery.take_back(number) else {
            return;
        };
        let size = u64::from(packet.size);
        let mut probe = false;
        if packet.in_flight
            && let Some(path) = self.path_of(packet.path)
        {
            path.in_flight -= size;
            path.pacer.on_taken_back(size);
            probe = path.mtu.take_probe(number);
        }
        self.stats.packets_sent -= 1;
        self.stats.bytes_sent -= size;
        self.stats.packets_unsent += 1;
        let (mut empty, mut data, mut why) = (true, false, None);
        for frame in self.recovery.sent.frames(&packet) {
            empty = false;
            match frame {
                SentFrame::Ack { .. } => self.acks.repeat(),
                SentFrame::Stream { again, .. } => (data, why) = (true, Why::or(why, again)),
                _ => {}
            }
        }
        self.stats.data_packets_sent -= u64::from(data);
        if let Some(count) = self.stats.again(why) {
            *count -= 1;
            self.stats.packets_retransmitted -= 1;
        }
        self.trace.tell_packet(now, || Step::Unsent {
            number,
            size: packet.size,
            data,
            again: why.is_some(),
        });
        self.carry_instead(&packet);
        self.ping_due |= empty && packet.ack_eliciting && !probe;
    }
}
