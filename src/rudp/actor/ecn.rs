//! Congestion marks as the core spells them and as sockets do: neither knows the other.

use crate::{net, rudp::connection::Ecn};

/// A received datagram's.
pub fn of_net(ecn: net::Ecn) -> Ecn {
    match ecn {
        net::Ecn::Ect0 => Ecn::Ect0,
        net::Ecn::Ect1 => Ecn::Ect1,
        net::Ecn::Ce => Ecn::Ce,
    }
}

/// That of a datagram to be sent.
pub fn to_net(ecn: Ecn) -> net::Ecn {
    match ecn {
        Ecn::Ect0 => net::Ecn::Ect0,
        Ecn::Ect1 => net::Ecn::Ect1,
        Ecn::Ce => net::Ecn::Ce,
    }
}
