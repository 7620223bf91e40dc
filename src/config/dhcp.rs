//! `[dhcp]`: where DHCP is spoken, and in which subnets.

use std::net::{SocketAddr, SocketAddrV4};

use super::{
    Subnet,
    address::v4,
    listeners::Protocol,
    table::{ADDRESSES, Table, values},
    value,
};

/// The DHCP server.
#[derive(Debug, Clone, PartialEq)]
pub struct Dhcp {
    /// Where it is heard.
    pub listen: DhcpListen,
    /// The subnets it serves; no two overlap.
    pub subnets: Vec<Subnet>,
}

/// How the DHCP server hears its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpListen {
    /// `listen = [...]`: plain UDP sockets; replies go to the sender's address and port.
    Addresses(Vec<SocketAddrV4>),
    /// `interfaces = [...]`: port 67 of these interfaces; replies go where RFC 2131 section 4.1
    /// says.
    Interfaces(Vec<String>),
}

const LISTEN: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 6767);
/// RFC 2131 section 4.1: a DHCP server's port.
const PORT: u16 = 67;

impl Dhcp {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            listen: DhcpListen::read(table),
            subnets: subnets(table),
        }
    }
}

impl DhcpListen {
    fn read(table: &mut Table<'_>) -> Self {
        let addresses = table.one_or_many("listen", ADDRESSES, ipv4_socket);
        let right = "a list of interfaces in brackets, as `[\"eth0\"]`";
        let interfaces = table.list("interfaces", right, value::interface);
        if table.has("listen") && table.has("interfaces") {
            table.problem(
                "interfaces",
                "`listen` is there too; addresses or interfaces, one of the two",
            );
        }
        if let Some(names) = interfaces {
            table.no_repeats(&names, "interface");
            table.at_least_one("interfaces", &names, "interface");
            let everywhere = v4([0, 0, 0, 0], PORT);
            table.claim(&table.name("interfaces"), Protocol::Udp, everywhere);
            return Self::Interfaces(values(names));
        }
        let addresses = match addresses {
            Some(addresses) => addresses,
            None if table.is_clean("listen") && table.is_clean("interfaces") => {
                vec![(table.name("listen"), LISTEN)]
            }
            None => Vec::new(),
        };
        for (at, address) in &addresses {
            table.claim(at, Protocol::Udp, (*address).into());
        }
        if !table.has("interfaces") {
            table.at_least_one("listen", &addresses, "address");
        }
        Self::Addresses(values(addresses))
    }
}

fn ipv4_socket(text: &str) -> Result<SocketAddrV4, String> {
    match value::socket_address(text)? {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(format!(
            "`{text}` is an IPv6 address; DHCP is spoken over IPv4, as `127.0.0.1:6767`"
        )),
    }
}

fn subnets(table: &mut Table<'_>) -> Vec<Subnet> {
    let found = table.tables("subnet", |table| {
        (table.name("subnet"), Subnet::read(table))
    });
    table.at_least_one("subnet", &found, "[[dhcp.subnet]]");
    let mut subnets: Vec<Subnet> = Vec::new();
    for (at, subnet) in found {
        let Some(subnet) = subnet else { continue };
        let overlap = subnets.iter().find(|other| {
            other.network.contains(subnet.network.address)
                || subnet.network.contains(other.network.address)
        });
        if let Some(other) = overlap {
            table.problem_at(
                &at,
                format!(
                    "`{}` overlaps `{}` above; subnets must lie apart",
                    subnet.network, other.network
                ),
            );
        }
        subnets.push(subnet);
    }
    subnets
}
