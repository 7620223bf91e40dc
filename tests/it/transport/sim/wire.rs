//! The link, and what the tests do before and behind it.

use std::{collections::HashSet, time::Instant};

use labnet::{
    link::{Link, Packet, Way},
    rudp::{connection::Ecn, packet::read_number},
    simulation::{Datagram, Path},
};

/// Sees each datagram that leaves, before the network gets it; false: it goes no further.
pub(crate) type Tap = Box<dyn FnMut(Way, &mut Datagram, Instant) -> bool>;

pub(crate) struct Wire {
    pub(crate) link: Link<Datagram>,
    pub(crate) tap: Option<Tap>,
    /// While more bytes wait for the rate, packets that understand it are marked.
    pub(crate) mark_above: Option<u64>,
    /// Packets put on the link, and their bytes with headers.
    pub(crate) packets: [u64; 2],
    pub(crate) bytes: [u64; 2],
    /// Connection id and lower half of the number of what comes to clients, if it is to be kept.
    pub(crate) arrived: Option<HashSet<(u64, u32)>>,
}

impl Wire {
    pub(super) fn new(link: Link<Datagram>) -> Self {
        Self {
            link,
            tap: None,
            mark_above: None,
            packets: [0; 2],
            bytes: [0; 2],
            arrived: None,
        }
    }
}

impl Path for Wire {
    fn handle_input(&mut self, mut datagram: Datagram, now: Instant) {
        let way = datagram.way;
        if let Some(tap) = &mut self.tap
            && !tap(way, &mut datagram, now)
        {
            return;
        }
        self.packets[way as usize] += 1;
        self.bytes[way as usize] += datagram.size() as u64;
        let queued = self.link.direction(way).counters().queued_bytes;
        if datagram.ecn.is_some() && self.mark_above.is_some_and(|most| queued > most) {
            datagram.ecn = Some(Ecn::Ce);
        }
        self.link.handle_input(way, datagram, now);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Datagram> {
        let (way, datagram) = self.link.poll_output(now)?;
        if way == Way::Down
            && let Some(arrived) = &mut self.arrived
        {
            arrived.extend(read_number(&datagram.bytes));
        }
        Some(datagram)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }
}
