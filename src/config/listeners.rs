//! What a configuration listens on: no two may want one port of one address.

use std::net::{Ipv4Addr, SocketAddr};

/// Whose port it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

/// What the configuration listens on, by key.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<(String, Protocol, SocketAddr)>);

impl Listeners {
    /// Adds what the key at `at` listens on.
    pub(super) fn add(&mut self, at: &str, protocol: Protocol, address: SocketAddr) {
        self.0.push((at.to_owned(), protocol, address));
    }

    /// Each key that wants what another one before it has, and what is wrong. An unspecified address is all of its
    /// family (IPv6 sockets are IPv6 only here); port 0 is another port each time.
    pub(super) fn conflicts(&self) -> Vec<(String, String)> {
        let mut conflicts: Vec<(String, String)> = Vec::new();
        for (index, (at, protocol, address)) in self.0.iter().enumerate() {
            let taken = self.0[..index].iter().find(|(_, other, earlier)| {
                other == protocol
                    && earlier.port() == address.port()
                    && earlier.is_ipv4() == address.is_ipv4()
                    && (earlier.ip() == address.ip()
                        || earlier.ip().is_unspecified()
                        || address.ip().is_unspecified())
            });
            if let Some((other, _, earlier)) = taken
                && address.port() != 0
                && !conflicts.iter().any(|(told, _)| told == at)
            {
                let protocol = match protocol {
                    Protocol::Udp => "UDP",
                    Protocol::Tcp => "TCP",
                };
                let message = format!(
                    "`{address}` is taken by `{other}` ({protocol} `{earlier}`); each needs an \
                     address or a port of its own"
                );
                conflicts.push((at.clone(), message));
            }
        }
        conflicts
    }
}

/// Adds `0.0.0.0` behind each `[::]`: every address of the machine, as people mean it. The sockets
/// themselves are of one family each, so that an IPv4 peer has an IPv4 address everywhere. Who names
/// IPv4 addresses with the same port knows which ones they want; and an open port would become two
/// different ones.
pub(super) fn both_families(addresses: Vec<(String, SocketAddr)>) -> Vec<(String, SocketAddr)> {
    let named: Vec<u16> = addresses
        .iter()
        .filter(|(_, address)| address.is_ipv4())
        .map(|(_, address)| address.port())
        .collect();
    let mut both = Vec::with_capacity(addresses.len());
    for (at, address) in addresses {
        let port = address.port();
        let everywhere = address.is_ipv6() && address.ip().is_unspecified();
        both.push((at.clone(), address));
        if everywhere && port != 0 && !named.contains(&port) {
            both.push((at, (Ipv4Addr::UNSPECIFIED, port).into()));
        }
    }
    both
}
