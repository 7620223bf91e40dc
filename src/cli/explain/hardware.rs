//! The frame around a packet: which hardware addresses carry it to its next hop.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr},
};

use nix::ifaddrs::getifaddrs;

use crate::{config::MacAddress, net::interface::hardware_address};

/// A packet's frame, as far as this machine can know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The loopback interface has no hardware addresses.
    Loopback,
    /// An Ethernet.
    Ethernet {
        /// The interface.
        device: String,
        /// Of this machine.
        own: String,
        /// Of the next hop, if the neighbour table has it.
        next: Option<String>,
        /// The router, if the next hop is one.
        router: Option<Ipv4Addr>,
        /// Whether the packet leaves this machine.
        leaves: bool,
    },
    /// To all on the link.
    Broadcast,
    /// Nothing is known.
    Unknown,
}

impl Frame {
    /// Of a packet between two addresses of which one is this machine's.
    pub(super) fn between(source: IpAddr, destination: IpAddr) -> Self {
        if source.is_loopback() || destination.is_loopback() {
            return Self::Loopback;
        }
        if destination == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Self::Broadcast;
        }
        let device_of = |address: IpAddr| {
            let mut interfaces = getifaddrs().ok()?;
            interfaces.find_map(|interface| {
                let own = interface.address?;
                let own: IpAddr = match (own.as_sockaddr_in(), own.as_sockaddr_in6()) {
                    (Some(v4), _) => v4.ip().into(),
                    (_, Some(v6)) => v6.ip().into(),
                    _ => return None,
                };
                (own == address).then_some(interface.interface_name)
            })
        };
        let (device, peer, leaves) = match (device_of(source), device_of(destination)) {
            (Some(_), Some(_)) => return Self::Loopback,
            (Some(device), None) => (device, destination, true),
            (None, Some(device)) => (device, source, false),
            (None, None) => return Self::Unknown,
        };
        let Some(own) = hardware_address(&device) else {
            return Self::Unknown;
        };
        // Of the thread's own network: /proc/net is that of the process's first thread.
        let neighbours = fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_default();
        let mut next = neighbour(&neighbours, peer);
        let mut router = None;
        if next.is_none() {
            let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
            router = gateway(&routes, &device);
            next = router.and_then(|router| neighbour(&neighbours, router.into()));
        }
        Self::Ethernet {
            device,
            own: MacAddress(own).to_string(),
            next,
            router,
            leaves,
        }
    }
}

impl Frame {
    /// Whether this machine has sent it, and knows all of it: the best account of a packet there is.
    pub(super) fn is_of_the_sender(&self) -> u8 {
        match self {
            Self::Ethernet {
                leaves: true,
                next: Some(_),
                ..
            } => 3,
            Self::Ethernet { leaves: true, .. } => 2,
            Self::Unknown => 0,
            _ => 1,
        }
    }
}

/// The hardware address that the kernel's table has for an address.
fn neighbour(table: &str, address: IpAddr) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let ip: IpAddr = columns.next()?.parse().ok()?;
        let hardware = columns.nth(2)?;
        (ip == address && hardware != "00:00:00:00:00:00").then(|| hardware.to_owned())
    })
}

/// The default router of a device.
fn gateway(table: &str, device: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [of, "00000000", gateway, ..] = columns[..] else {
            return None;
        };
        let gateway = u32::from_str_radix(gateway, 16)
            .ok()
            .filter(|_| of == device)?;
        // The kernel prints the bytes as they lie in memory.
        Some(Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ethernet {
            device,
            own,
            next,
            router,
            leaves,
        } = self
        else {
            return f.write_str(match self {
                Self::Loopback => {
                    "none: the loopback interface has no hardware addresses; on a LAN a frame with the MACs \
                     of this machine and of the next hop"
                }
                Self::Broadcast => {
                    "Ethernet: MAC of the interface that it leaves by → ff:ff:ff:ff:ff:ff (all on the link)"
                }
                _ => "not known here",
            });
        };
        let whose = router.map_or_else(String::new, |router| format!(" (of the router {router})"));
        let next = match next {
            Some(next) => format!("{next}{whose}"),
            None => format!("not in the neighbour table{whose}"),
        };
        let (from, to) = match leaves {
            true => (own, &next),
            false => (&next, own),
        };
        write!(f, "Ethernet on {device}: MAC {from} → {to}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_tables_are_read() {
        let arp = "IP address       HW type     Flags       HW address            Mask     Device\n\
                   10.20.30.40      0x1         0x2         02:00:00:00:00:28     *        eth0\n\
                   10.20.30.9       0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        let hardware = |ip: [u8; 4]| neighbour(arp, ip.into());
        assert_eq!(
            hardware([10, 20, 30, 40]).as_deref(),
            Some("02:00:00:00:00:28")
        );
        assert_eq!(
            hardware([10, 20, 30, 9]),
            None,
            "asked for and not answered"
        );
        let bytes = u32::from_ne_bytes([10, 20, 30, 101]);
        let routes = format!(
            "Iface\tDestination\tGateway \tFlags\neth0\t001E140A\t00000000\t0001\neth0\t00000000\t{bytes:08X}\t0003\n"
        );
        assert_eq!(
            gateway(&routes, "eth0"),
            Some(Ipv4Addr::new(10, 20, 30, 101))
        );
        assert_eq!(gateway(&routes, "eth1"), None);
    }
}
