//! Where everybody is in a simulation.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The first client's address; each next flow's is one higher.
const FIRST_CLIENT: u32 = u32::from_be_bytes([10, 1, 0, 1]);
const CLIENT_PORT: u16 = 49_153;
pub(super) const SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 49_152);
pub(super) const QUIC_SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4433);

/// The address of a flow's client.
pub(super) fn client_of(flow: usize) -> SocketAddr {
    let address = FIRST_CLIENT.wrapping_add(flow as u32);
    SocketAddr::new(Ipv4Addr::from_bits(address).into(), CLIENT_PORT)
}

/// The flow whose client is at this address.
pub(super) fn flow_of(client: SocketAddr) -> Option<usize> {
    match client.ip() {
        IpAddr::V4(address) => {
            let flow = address.to_bits().checked_sub(FIRST_CLIENT)?;
            Some(flow as usize)
        }
        IpAddr::V6(_) => None,
    }
}
