//! A packet as the other end of a NAT saw it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
};

use super::home::crosses;
use crate::watch::event::packet::{self, Fate, Protocol, Role};

/// A packet as its receiver saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Who saw it.
    pub(super) role: Role,
    /// Address and port, in the header that came.
    pub(super) source: SocketAddr,
    /// Address and port, too.
    pub(super) destination: SocketAddr,
    /// What it is known by at both ends.
    pub(super) print: Print,
    /// Whether it is one of the binary transport's.
    pub(super) is_transport: bool,
}

/// What a packet is known by at both ends: the protocol and the first bytes. A NAT leaves them alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Print(pub(super) u64);

/// No two packets that are under way at once begin with the same so many, but those that are the same once more:
/// these come in their order.
const PRINTED: usize = 64;

impl Print {
    /// Of a packet.
    pub(super) fn of(packet: &packet::Packet<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        let start = &packet.payload[..packet.payload.len().min(PRINTED)];
        (packet.place.label.protocol, start).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Seen {
    /// Of a packet that has come through the NAT.
    pub(super) fn through_nat(packet: &packet::Packet<'_>) -> Option<Self> {
        let (source, destination) = (packet.source(), packet.destination());
        let came = packet.fate == Fate::Received && crosses(source, destination);
        came.then(|| Self {
            role: packet.place.label.role,
            source,
            destination,
            print: Print::of(packet),
            is_transport: packet.place.label.protocol == Protocol::Rudp
                && packet
                    .payload
                    .first()
                    .is_some_and(|first| first & 0x80 != 0),
        })
    }
}
