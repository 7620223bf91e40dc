use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{super::check, Finding};
use crate::{
    config::{Config, DhcpListen},
    net::{Sockets, bind_tcp, bind_udp},
};

const DHCP_SERVER_PORT: u16 = 67;

/// A port that the configuration wants.
struct Wanted {
    key: &'static str,
    /// `udp` or `tcp`.
    protocol: &'static str,
    address: SocketAddr,
    interface: Option<String>,
}

/// Whether each port is free, or who has it.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut holders = None;
    wanted(config)
        .filter_map(|wanted| {
            let name = match &wanted.interface {
                Some(interface) => format!("udp port {DHCP_SERVER_PORT} of {interface}"),
                None => format!("{} {}", wanted.protocol, wanted.address),
            };
            let error = match wanted.bind() {
                Ok(()) => return Some(Finding::ok("ports", format!("{name} is free"))),
                Err(error) => error,
            };
            let key = wanted.key;
            Some(match error.kind() {
                // `interfaces` tells that.
                io::ErrorKind::AddrNotAvailable => return None,
                io::ErrorKind::AddrInUse => {
                    let holders = holders.get_or_insert_with(holders_of_sockets);
                    match wanted.holder(holders) {
                        Some((_, program)) if program == "labnet" => {
                            Finding::ok("ports", format!("{name} is a running labnet's"))
                        }
                        Some((id, program)) => Finding::problem(
                            "ports",
                            format!("{name} is taken by process {id} ({program})"),
                            format!("stop it, or set {key} to another address"),
                        ),
                        None => Finding::problem(
                            "ports",
                            format!("{name} is taken"),
                            format!(
                                "`ss --listening --numeric --udp --tcp --processes` tells root by whom; \
                                 stop it, or set {key} to another address"
                            ),
                        ),
                    }
                }
                io::ErrorKind::PermissionDenied => Finding::problem(
                    "ports",
                    format!("{name} is not for this user: a port below 1024 needs a right"),
                    "run labnet as the service (it has CAP_NET_BIND_SERVICE), or give the program the \
                     right: `setcap cap_net_bind_service=+ep /usr/bin/labnet`",
                ),
                _ => Finding::problem(
                    "ports",
                    format!("{name} can't be had: {error}"),
                    format!("set {key} to another address"),
                ),
            })
        })
        .collect()
}

fn wanted(config: &Config) -> impl Iterator<Item = Wanted> {
    let dhcp = config.dhcp.iter().flat_map(|dhcp| match &dhcp.listen {
        DhcpListen::Addresses(addresses) => addresses
            .iter()
            .map(|address| Wanted {
                key: "dhcp.listen",
                protocol: "udp",
                address: (*address).into(),
                interface: None,
            })
            .collect::<Vec<_>>(),
        DhcpListen::Interfaces(names) => names
            .iter()
            .map(|name| Wanted {
                key: "dhcp.interfaces",
                protocol: "udp",
                address: (Ipv4Addr::UNSPECIFIED, DHCP_SERVER_PORT).into(),
                interface: Some(name.clone()),
            })
            .collect(),
    });
    let others = check::addresses(config).flat_map(|(key, address)| {
        let protocols: &[&'static str] = match key {
            "dns.listen" => &["udp", "tcp"],
            "rudp.listen" => &["udp"],
            _ => &["tcp"],
        };
        protocols.iter().map(move |protocol| Wanted {
            key,
            protocol,
            address,
            interface: None,
        })
    });
    dhcp.chain(others)
}

impl Wanted {
    /// Has the port for a moment.
    fn bind(&self) -> io::Result<()> {
        match (&self.interface, self.protocol) {
            (Some(interface), _) => Sockets::default()
                .udp_on_interface(interface, self.address.port())?
                .map(drop)
                .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into()),
            (None, "udp") => bind_udp(self.address).map(drop),
            (None, _) => bind_tcp(self.address).map(drop),
        }
    }

    /// The process that has the port: its id and name.
    fn holder<'a>(&self, holders: &'a BTreeMap<u64, (u32, String)>) -> Option<&'a (u32, String)> {
        let tables = [self.protocol.to_owned(), format!("{}6", self.protocol)];
        let text: Vec<String> = tables
            .iter()
            .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
            .collect();
        let sockets = text.iter().flat_map(|text| text.lines()).filter_map(entry);
        let clashes = |other: SocketAddr| {
            let any = other.ip().is_unspecified() || self.address.ip().is_unspecified();
            other.port() == self.address.port() && (any || other.ip() == self.address.ip())
        };
        sockets
            .filter(|(address, _)| clashes(*address))
            .find_map(|(_, inode)| holders.get(&inode))
    }
}

/// Local address and inode of a line of /proc/net/udp and its like (proc(5)).
fn entry(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of four bytes, each as the machine has it in memory.
    let words = ip.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let ip: IpAddr = match *bytes.as_slice() {
        [a, b, c, d] => [a, b, c, d].into(),
        ref bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some((SocketAddr::new(ip, port), fields.get(9)?.parse().ok()?))
}

/// Who has each socket, by its inode, as far as this user may see it.
fn holders_of_sockets() -> BTreeMap<u64, (u32, String)> {
    let mut holders = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(id) = process.file_name().to_str().and_then(|id| id.parse().ok()) else {
            continue;
        };
        let descriptors = fs::read_dir(process.path().join("fd"));
        for descriptor in descriptors.into_iter().flatten().flatten() {
            let inode = fs::read_link(descriptor.path()).ok().and_then(|link| {
                let inode = link.to_str()?.strip_prefix("socket:[")?;
                inode.strip_suffix(']')?.parse().ok()
            });
            if let Some(inode) = inode {
                let name = fs::read_to_string(process.path().join("comm"));
                let name = name.unwrap_or_default().trim().to_owned();
                holders.insert(inode, (id, name));
            }
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn who_has_a_port_is_found() {
        for ip in ["127.0.0.1", "::1"] {
            let socket = UdpSocket::bind((ip, 0)).expect("loopback");
            let wanted = Wanted {
                key: "dns.listen",
                protocol: "udp",
                address: socket.local_addr().expect("bound"),
                interface: None,
            };
            let holders = holders_of_sockets();
            let holder = wanted.holder(&holders).expect("this process");
            assert_eq!(holder.0, std::process::id());
            let error = wanted.bind().expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
