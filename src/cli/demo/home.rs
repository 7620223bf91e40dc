//! A client's home behind a NAT, and the servers outside: three network namespaces, joined by Ethernets.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU16, Ordering},
};

use crate::{
    config::MacAddress,
    net::{Namespace, forget_connections, gain_namespaces, ip, nft},
};

/// The router's address at home, where its DHCP server is.
pub(super) const INNER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
/// The router's address outside: all that the servers see of the home.
pub(super) const OUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The servers' address.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
/// The client's interface.
pub(super) const CLIENT_DEVICE: &str = "home0";
/// The router's at home.
pub(super) const INNER_DEVICE: &str = "inner";

/// The NAT's ports, at first and each time that it has forgotten: others, as after it was switched off and on.
const PORTS: u16 = 1000;
const FIRST_PORT: u16 = 20_000;

/// Three machines, which vanish when this is dropped, and with the process, however that ends.
pub(super) struct Home {
    /// The client's machine.
    pub(super) client: Namespace,
    /// The router with the NAT.
    pub(super) router: Namespace,
    /// The servers' machine.
    pub(super) servers: Namespace,
    first_port: AtomicU16,
    own_user: bool,
}

/// Gives the process the rights that it needs, if the kernel gives them to it. Before it has a second thread.
/// Tells whether it is root of a user namespace of its own then.
pub(super) fn permit() -> Result<bool, String> {
    gain_namespaces().map_err(|why| format!("--behind-nat makes network namespaces: {why}"))
}

impl Home {
    /// Makes the machines, cables and the NAT; `mac` is the client's hardware address, `own_user` what
    /// [`permit`] told.
    pub(super) fn make(mac: MacAddress, own_user: bool) -> Result<Self, String> {
        let namespace = || Namespace::new().map_err(|error| format!("no namespace: {error}"));
        let home = Self {
            client: namespace()?,
            router: namespace()?,
            servers: namespace()?,
            first_port: AtomicU16::new(FIRST_PORT),
            own_user,
        };
        home.connect(mac).map_err(|error| error.to_string())?;
        Ok(home)
    }

    /// The user namespace that the three belong to, if it is not the system's.
    pub(super) fn user_namespace(&self) -> Option<PathBuf> {
        let path = || format!("/proc/{}/ns/user", std::process::id()).into();
        self.own_user.then(path)
    }

    /// Handles on the three.
    pub(super) fn networks(&self) -> Vec<Namespace> {
        [&self.client, &self.router, &self.servers]
            .map(Clone::clone)
            .into()
    }

    fn connect(&self, mac: MacAddress) -> io::Result<()> {
        let (client, servers) = (self.client.path(), self.servers.path());
        let (client, servers) = (client.to_string_lossy(), servers.to_string_lossy());
        self.router.within(|| {
            for (own, device, peer, namespace) in [
                (INNER, INNER_DEVICE, CLIENT_DEVICE, &client),
                (OUTER, "outer", "servers0", &servers),
            ] {
                let ends = [
                    device, "type", "veth", "peer", "name", peer, "netns", namespace,
                ];
                ip(&[&["link", "add"], &ends[..]].concat())?;
                ip(&["address", "add", &format!("{own}/24"), "dev", device])?;
                ip(&["link", "set", device, "up"])?;
                singly(device);
            }
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        })?;
        self.client.within(|| {
            ip(&["link", "set", CLIENT_DEVICE, "address", &mac.to_string()])?;
            singly(CLIENT_DEVICE);
            ip(&["link", "set", CLIENT_DEVICE, "up"])
        })?;
        self.servers.within(|| {
            let address = format!("{SERVER}/24");
            ip(&["address", "add", &address, "dev", "servers0"])?;
            singly("servers0");
            ip(&["link", "set", "servers0", "up"])
        })?;
        self.router.within(|| nft(&rules(FIRST_PORT)).map(drop))
    }

    /// The NAT forgets its notes of all connections, and takes other ports from now on. Tells which.
    pub(super) fn forget(&self) -> io::Result<Ports> {
        let first = self.first_port.fetch_add(PORTS, Ordering::Relaxed) + PORTS;
        self.router.within(|| {
            // Before the notes go: the next packet would be noted by the old rule.
            nft(&format!(
                "flush chain ip labnet out\nadd rule ip labnet out {}\n",
                masquerade(first)
            ))?;
            forget_connections()
        })?;
        Ok(Ports(first))
    }

    /// Packets from outside that the NAT had no note of, and dropped.
    pub(super) fn dropped(&self) -> io::Result<u64> {
        let told = self
            .router
            .within(|| nft("list counter ip labnet unknown\n"))?;
        let mut words = told.split_whitespace();
        words
            .find(|word| *word == "packets")
            .and_then(|_| words.next()?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("nft tells no counter: {told}")))
    }
}

/// Has a device carry packets one by one, as a cable does: what the kernel joins for speed the NAT's counter and
/// every capture would take for one. A kernel or `ip` that can't do it is no hindrance.
fn singly(device: &str) {
    if let Err(error) = ip(&["link", "set", device, "gso_max_segs", "1"]) {
        tracing::debug!(%error, "packets may be joined");
    }
}

/// The ports that a NAT takes, the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports(u16);

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.0 + PORTS - 1)
    }
}

/// Whether a packet from `source` to `destination` passes the NAT.
pub(super) fn crosses(source: SocketAddr, destination: SocketAddr) -> bool {
    let outside = |address: SocketAddr| address.ip() == SERVER;
    let ours = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(address) => {
            address == OUTER || address.octets()[..3] == INNER.octets()[..3]
        }
        std::net::IpAddr::V6(_) => false,
    };
    ours(source) && outside(destination) || outside(source) && ours(destination)
}

/// What every home's router does: whoever begins inside may go out, under the router's address; from outside comes
/// in what belongs to that, and nothing else.
fn rules(first: u16) -> String {
    format!(
        "table ip labnet {{
    counter unknown {{ }}
    chain out {{
        type nat hook postrouting priority 100; policy accept;
        {}
    }}
    chain in {{
        type filter hook input priority 0; policy accept;
        iifname \"outer\" counter name unknown drop
    }}
    chain through {{
        type filter hook forward priority 0; policy accept;
        iifname \"outer\" ct state new counter name unknown drop
    }}
}}
",
        masquerade(first)
    )
}

fn masquerade(first: u16) -> String {
    format!(
        "oifname \"outer\" meta l4proto {{ tcp, udp }} masquerade to :{}",
        Ports(first)
    )
}
