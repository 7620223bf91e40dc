//! What the demo needs before it begins: a folder that is gone afterwards, ports that are free, a
//! configuration.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::home::{Home, INNER, INNER_DEVICE, SERVER};
use crate::{
    config::{self, Config, MacAddress},
    net::Sockets,
};

/// The files of the demo's page.
pub(super) const FILES: [&str; 5] = [
    "1MB.zip",
    "5MB.zip",
    "20MB.zip",
    "image-site.png",
    "task2.pdf",
];

/// The zone that is served everywhere else, too.
const ZONE: &str = include_str!("../../../conf/zones/example.com.zone");

/// A folder of this process alone, removed when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!(
            "labnet-demo-{}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        ));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "not removed");
        }
    }
}

/// Everything in place.
pub(super) struct Stage {
    /// Where everything is kept.
    pub(super) folder: Folder,
    /// The roles' sockets, bound.
    pub(super) sockets: Sockets,
    /// Their addresses.
    pub(super) addresses: Addresses,
    /// What they are told.
    pub(super) config: Config,
    /// The client's home, if it is behind a NAT.
    pub(super) home: Option<HomeStage>,
}

/// A home, and what its router's DHCP server is told.
pub(super) struct HomeStage {
    /// The machines.
    pub(super) home: Home,
    /// The router's.
    pub(super) config: Config,
}

/// Where the roles listen: the usual ports if they are free, others on the same addresses if not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) dhcp: SocketAddr,
    pub(super) dns: SocketAddr,
    pub(super) rudp: SocketAddr,
    pub(super) scrap: SocketAddr,
    pub(super) origin: SocketAddr,
    pub(super) http: SocketAddr,
}

impl Stage {
    /// Sets everything up, or says in words why not.
    pub(super) fn set() -> Result<Self, String> {
        let folder = Folder::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let sockets = Sockets::default();
        let addresses =
            Addresses::reserve(&sockets).map_err(|error| format!("no free port: {error}"))?;
        let written = fs::write(folder.path().join("example.com.zone"), ZONE);
        written.map_err(|error| format!("{}: {error}", folder.path().display()))?;
        let text = addresses.configuration();
        let path = folder.path().join("labnet.toml");
        fs::write(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
        let config = config::parse(&text, &path, []).map_err(|problems| problems.to_string())?;
        Ok(Self {
            folder,
            sockets,
            addresses,
            config,
            home: None,
        })
    }

    /// The same with the client behind a NAT, in network namespaces. Takes the calling thread to the servers.
    pub(super) fn set_behind_nat(mac: MacAddress, own_user: bool) -> Result<Self, String> {
        let home = Home::make(mac, own_user)?;
        let moved = home.servers.enter();
        moved.map_err(|error| format!("the servers' namespace: {error}"))?;
        let folder = Folder::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let at = |port| SocketAddr::from((SERVER, port));
        let addresses = Addresses {
            dhcp: (INNER, 67).into(),
            dns: at(53),
            rudp: at(49152),
            scrap: at(49153),
            origin: at(80),
            http: (Ipv4Addr::LOCALHOST, 9167).into(),
        };
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            let written = fs::write(&path, text);
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        write("example.com.zone", &zone())?;
        let servers = addresses.servers();
        let path = write("labnet.toml", &servers)?;
        let config = config::parse(&servers, &path, []).map_err(|problems| problems.to_string())?;
        let router = router();
        let path = write("router.toml", &router)?;
        let of_router =
            config::parse(&router, &path, []).map_err(|problems| problems.to_string())?;
        Ok(Self {
            folder,
            sockets: Sockets::default(),
            addresses,
            config,
            home: Some(HomeStage {
                home,
                config: of_router,
            }),
        })
    }
}

/// The zone of the servers outside.
fn zone() -> String {
    format!(
        "$ORIGIN example.com.\n$TTL 3600\n@ IN SOA ns1 hostmaster (1 3600 900 604800 300)\n\
         @ IN NS ns1\n@ IN A {SERVER}\nns1 IN A {SERVER}\n"
    )
}

/// What a home's router leases.
fn router() -> String {
    format!(
        r#"# The home's router; gone when the demo ends.
state_dir = "router-state"
[log]
level = "warn"
[dhcp]
interfaces = ["{INNER_DEVICE}"]
[[dhcp.subnet]]
subnet = "192.168.1.0/24"
pools = ["192.168.1.41-192.168.1.100"]
routers = ["{INNER}"]
name_servers = ["{SERVER}"]
domain = "home.test"
lease_time = "24h"
"#
    )
}

impl Addresses {
    fn reserve(sockets: &Sockets) -> io::Result<Self> {
        let udp = |address: SocketAddr| {
            sockets
                .reserve_udp(address)
                .or_else(|_| sockets.reserve_udp((address.ip(), 0).into()))
        };
        let tcp = |address: SocketAddr| {
            sockets
                .reserve_tcp(address)
                .or_else(|_| sockets.reserve_tcp((address.ip(), 0).into()))
        };
        let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self {
            dhcp: udp(here(6767))?,
            dns: reserve_both(sockets, here(5300))?,
            rudp: udp((Ipv4Addr::new(127, 0, 0, 10), 49152).into())?,
            scrap: tcp((Ipv4Addr::new(127, 0, 0, 5), 49153).into())?,
            origin: tcp(here(8080))?,
            http: tcp(here(9167))?,
        })
    }

    fn configuration(&self) -> String {
        let dhcp = self.dhcp;
        format!(
            r#"{}[dhcp]
listen = ["{dhcp}"]
[[dhcp.subnet]]
subnet = "127.20.30.0/24"
pools = ["127.20.30.41-127.20.30.100"]
routers = ["127.20.30.101"]
name_servers = ["{}"]
domain = "lab.test"
lease_time = "24h"
"#,
            self.servers(),
            self.dns.ip()
        )
    }

    /// All but DHCP.
    fn servers(&self) -> String {
        let Self {
            dhcp: _,
            dns,
            rudp,
            scrap,
            origin,
            http,
        } = self;
        format!(
            r#"# The demo's configuration; gone when the demo ends.
state_dir = "state"
[log]
level = "warn"
[http]
listen = "{http}"
fault_injection = true
[dns]
listen = ["{dns}"]
[[dns.zone]]
name = "example.com."
file = "example.com.zone"
[rudp]
listen = "{rudp}"
[scrap]
listen = "{scrap}"
origin = "http://{origin}/"
[origin]
listen = "{origin}"
samples = {FILES:?}
"#
        )
    }
}

/// UDP and TCP on one port.
fn reserve_both(sockets: &Sockets, preferred: SocketAddr) -> io::Result<SocketAddr> {
    /// A port that is free for UDP may be taken for TCP; so many in a row hardly are.
    const TRIES: usize = 20;
    let mut wanted = preferred;
    let mut last = None;
    for _ in 0..TRIES {
        let both = sockets
            .reserve_udp(wanted)
            .and_then(|address| sockets.reserve_tcp(address));
        match both {
            Ok(address) => return Ok(address),
            Err(error) => last = Some(error),
        }
        wanted.set_port(0);
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}
