use std::net::SocketAddr;

use crate::{
    link::{Damage, Packet, Way},
    watch::event::Ecn,
};

/// What an IPv4 header and a UDP header take.
const HEADERS: usize = 28;

/// What a network carries: a UDP datagram in an IPv4 packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Up to the server, or down to a client.
    pub way: Way,
    /// Who sent it.
    pub from: SocketAddr,
    /// Who is to have it.
    pub to: SocketAddr,
    /// Its ECN mark.
    pub ecn: Option<Ecn>,
    /// The UDP payload.
    pub bytes: Vec<u8>,
}

impl Packet for Datagram {
    fn size(&self) -> usize {
        self.bytes.len() + HEADERS
    }

    fn payload(&self) -> &[u8] {
        &self.bytes
    }

    /// The client, whichever way it goes.
    fn peer(&self) -> Option<SocketAddr> {
        Some(match self.way {
            Way::Up => self.from,
            Way::Down => self.to,
        })
    }

    fn is_ect(&self) -> bool {
        self.ecn.is_some()
    }

    fn set_ce(&mut self) {
        self.ecn = Some(Ecn::Ce);
    }

    fn take(&mut self, damage: Damage) -> Option<usize> {
        damage.strike(&mut self.bytes).map(|(place, _)| place)
    }
}
