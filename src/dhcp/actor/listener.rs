use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::Arc,
};

use dhcproto::v4::SERVER_PORT;

use crate::{
    config::DhcpListen,
    dhcp::server::{Attachment, Replies},
    net::{
        interface::{self, Absence},
        is_on_interface,
    },
    role::{PrepareError, Resources},
};

/// Where the server hears clients, and the addresses that it goes by there.
#[derive(Clone)]
pub(super) struct Listener {
    place: Place,
    /// `None` while its interface is missing.
    pub(super) socket: Option<Arc<UdpSocket>>,
    pub(super) link: Attachment,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    /// As it is configured; port 0 gets another when it is bound.
    Address(SocketAddrV4),
    Interface(String),
}

impl Listener {
    /// One for each place, in order. What `previous` has in the same place is taken over if it is
    /// still good: a socket can't be bound twice, and holds what clients have sent meanwhile.
    pub(super) fn prepare(
        listen: &DhcpListen,
        previous: &[Self],
        resources: &Resources,
    ) -> Result<Vec<Self>, PrepareError> {
        match listen {
            DhcpListen::Addresses(addresses) => addresses
                .iter()
                .map(|address| Self::at_address(*address, previous, resources))
                .collect(),
            DhcpListen::Interfaces(names) => names
                .iter()
                .map(|name| Self::on_interface(name, previous, resources))
                .collect(),
        }
    }

    fn at_address(
        address: SocketAddrV4,
        previous: &[Self],
        resources: &Resources,
    ) -> Result<Self, PrepareError> {
        let place = Place::Address(address);
        let socket = match taken_over(&place, previous) {
            Some(socket) => socket,
            None => resources
                .sockets
                .udp(address.into())
                .map_err(|error| PrepareError::new("dhcp.listen", format!("{address}: {error}")))?,
        };
        let ip = *address.ip();
        let link = Attachment {
            addresses: if ip.is_unspecified() {
                vec![]
            } else {
                vec![ip]
            },
            replies: Replies::ToSender,
        };
        Ok(Self {
            place,
            socket: Some(socket),
            link,
        })
    }

    fn on_interface(
        name: &str,
        previous: &[Self],
        resources: &Resources,
    ) -> Result<Self, PrepareError> {
        let place = Place::Interface(name.to_owned());
        let socket = taken_over(&place, previous).filter(|socket| is_on_interface(socket, name));
        let socket = match socket {
            Some(socket) => Some(socket),
            None => resources
                .sockets
                .udp_on_interface(name, SERVER_PORT)
                .map_err(|error| {
                    let problem = match error.kind() {
                        io::ErrorKind::PermissionDenied => {
                            "port 67 needs root, or CAP_NET_RAW and CAP_NET_BIND_SERVICE".to_owned()
                        }
                        _ => error.to_string(),
                    };
                    PrepareError::new("dhcp.interfaces", format!("{name}: {problem}"))
                })?,
        };
        Ok(Self {
            place,
            socket,
            link: Attachment {
                addresses: addresses(name),
                replies: Replies::Standard,
            },
        })
    }

    /// Why nobody is heard here, for now.
    pub(super) fn absence(&self) -> Option<Absence> {
        match &self.place {
            Place::Address(address) => interface::address_absence((*address).into()),
            Place::Interface(name) => interface::absence(name),
        }
    }

    /// Whether [`prepare`](Self::prepare) would make the same: the interface is still the one that
    /// the socket is on, and has the same addresses.
    pub(super) fn fits_host(&self) -> bool {
        let Place::Interface(name) = &self.place else {
            return true;
        };
        let same_interface = match &self.socket {
            Some(socket) => is_on_interface(socket, name),
            None => matches!(self.absence(), Some(Absence::Interface(_))),
        };
        same_interface && self.link.addresses == addresses(name)
    }

    /// The address that the socket is bound to.
    pub(super) fn local(&self) -> Option<SocketAddrV4> {
        match self.socket.as_ref()?.local_addr() {
            Ok(SocketAddr::V4(local)) => Some(local),
            _ => None,
        }
    }

    /// As the status shows it: on an interface with the address that clients know the server by.
    pub(super) fn name(&self) -> String {
        match (&self.place, self.local()) {
            (Place::Interface(name), _) => match self.link.addresses.first() {
                Some(own) => format!("udp {name}:{SERVER_PORT} as {own}"),
                None => format!("udp {name}:{SERVER_PORT}"),
            },
            (Place::Address(_), Some(local)) => format!("udp {local}"),
            (Place::Address(address), None) => format!("udp {address}"),
        }
    }
}

fn taken_over(place: &Place, previous: &[Listener]) -> Option<Arc<UdpSocket>> {
    let same = previous.iter().find(|listener| listener.place == *place)?;
    same.socket.clone()
}

/// None of an interface that is missing.
fn addresses(interface: &str) -> Vec<Ipv4Addr> {
    interface::ipv4_addresses(interface).unwrap_or_default()
}
