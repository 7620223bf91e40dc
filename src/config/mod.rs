//! The configuration as the program uses it: every value valid, every path absolute.
//!
//! `file` holds the shapes of the TOML, `compile` turns them into these values or into all the
//! problems at once. What a new configuration means for a running role, its supervisor tells.

pub mod built_in;
mod capture;
mod compile;
mod compiler;
mod connections;
mod file;
mod layers;
mod link;
pub mod link_options;
mod problem;
mod shares;
mod source;
mod subnet;
mod transport;
mod value;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;

pub use capture::Capture;
pub use connections::Connections;
pub use link_options::{Blackout, LinkOptions};
pub use problem::{Problem, Problems};
pub use shares::Shares;
pub use source::{KeyChange, Source};
pub use transport::{Algorithm, Class, Passphrase, Protection, Transport, UnknownAlgorithm};
pub(crate) use value::{bytes, host_name};

/// Reads the configuration file at `path`, lays the process's `LABNET_` environment over it and
/// compiles both.
///
/// `LABNET_STATE_DIR` sets `state_dir`; two underscores go into a table: `LABNET_HTTP__LISTEN`. A
/// list's elements are separated by commas.
///
/// # Errors
///
/// All that is wrong with the file and the variables, or that the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let text = std::fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| "is no text: not encoded in UTF-8".into())
        })
        .map_err(|message| whole(path.display().to_string(), message))?;
    parse(&text, path, load_environment()?)
}

fn whole(file: String, message: String) -> Problems {
    Problems(vec![Problem {
        file,
        line: None,
        key: String::new(),
        message,
    }])
}

/// The process's variables that begin with `LABNET_`.
fn load_environment() -> Result<Vec<(String, String)>, Problems> {
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name
            .to_str()
            .filter(|name| name.starts_with(layers::PREFIX))
        else {
            continue;
        };
        let value = value
            .into_string()
            .map_err(|_| whole(name.into(), "is no text: not encoded in UTF-8".into()))?;
        environment.push((name.to_owned(), value));
    }
    Ok(environment)
}

/// Compiles the `text` of a configuration file with `environment` laid over it.
///
/// Relative paths are counted from the folder of `path`. Nothing is read but whether the files and
/// folders that are named exist.
///
/// # Errors
///
/// All that is wrong, in the order of the file.
pub fn parse(
    text: &str,
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Problems> {
    let mut layers = layers::Layers::new(text, path, environment);
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let base = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let source = layers.source();
    let compiled = file::File::deserialize(layers.values.take())
        .map_err(|error| vec![(String::new(), error.to_string())])
        .and_then(|file| compile::compile(file, absolute, &base));
    match compiled {
        Ok(config) if layers.is_sound() => Ok(Config { source, ..config }),
        Ok(_) => Err(Problems(layers.into_problems(Vec::new()))),
        Err(found) => Err(Problems(layers.into_problems(found))),
    }
}

/// A valid configuration. A role whose table is absent is `None` and does not run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from, absolute; `None` for one made in the program (the demo's).
    pub file: Option<PathBuf>,
    /// The values that it was compiled from.
    pub source: Source,
    /// Where state lives (the lease database).
    pub state_dir: PathBuf,
    /// `[supervisor]`
    pub supervisor: Supervisor,
    /// `[log]`
    pub log: Log,
    /// `[reload]`
    pub reload: Reload,
    /// `[capture]`
    pub capture: Option<Capture>,
    /// `[http]`
    pub http: Option<Http>,
    /// `[dhcp]`
    pub dhcp: Option<Dhcp>,
    /// `[dns]`
    pub dns: Option<Dns>,
    /// `[rudp]`
    pub rudp: Option<Rudp>,
    /// `[scrap]`
    pub scrap: Option<Scrap>,
    /// `[origin]`
    pub origin: Option<Origin>,
}

/// When a component that keeps failing is given up, and the process with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Supervisor {
    /// Restarts of one component allowed within `within`. Default 10.
    pub max_restarts: u32,
    /// The sliding window. Default 60 s.
    pub within: Duration,
    /// A component whose thread does nothing for so long is stuck, and replaced. Default 10 s.
    pub stuck_after: Duration,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            within: Duration::from_secs(60),
            stuck_after: Duration::from_secs(10),
        }
    }
}

/// What the log says, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The least level that is shown: of all, and of parts of the program by themselves. Default
    /// `info`.
    pub level: Targets,
    /// Default `text`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Targets::new().with_default(LevelFilter::INFO),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How a changed configuration is noticed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reload {
    /// Whether a reload follows when the file, or one that it names, has changed. Default false.
    pub watch: bool,
}

/// The HTTP endpoints: metrics, health, admin.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// At least one. Default 127.0.0.1:9167.
    pub listen: Vec<SocketAddr>,
    /// Whether `POST /api/v1/components/NAME/crash` works. Default false.
    pub fault_injection: bool,
    /// Default 256, 64 of one address.
    pub connections: Connections,
    /// Names that a request may call the lab by, besides `localhost` and IP addresses; lower case,
    /// without a final dot.
    pub hosts: Vec<String>,
    /// The file of the token that changes need, from anywhere; none: changes are for loopback.
    pub token_file: Option<PathBuf>,
    /// Whether reading needs the token, too. Default false.
    pub protect_reads: bool,
}

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

/// `[[dhcp.subnet]]`: one subnet and what its clients are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    /// The subnet, host bits zero.
    pub network: Ipv4Network,
    /// Ranges to lease from: inside the subnet, sorted, no two overlap.
    pub pools: Vec<AddressRange>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub name_servers: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 51. At least a second, at most 2^32-2 s.
    pub lease_time: Duration,
    /// Addresses held for one client each: inside the subnet, inside or outside of the pools, no
    /// MAC and no address twice.
    pub reservations: Vec<Reservation>,
}

/// `[[dhcp.subnet.reservation]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// The client's hardware address.
    pub mac: MacAddress,
    /// Its address.
    pub address: Ipv4Addr,
}

/// An Ethernet hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IPv4 network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Network {
    /// The network address, host bits zero.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix_len: u8,
}

impl Ipv4Network {
    /// The netmask (option 1).
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(
            u32::MAX
                .checked_shl(32 - u32::from(self.prefix_len))
                .unwrap_or(0),
        )
    }

    /// Whether `address` lies in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.address.to_bits()
    }

    /// The network's broadcast address (option 28).
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask().to_bits())
    }
}

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// Addresses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    /// The lowest address.
    pub first: Ipv4Addr,
    /// The highest address, not below `first`.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// How many addresses it holds.
    pub fn len(&self) -> u64 {
        u64::from(self.last.to_bits()) - u64::from(self.first.to_bits()) + 1
    }

    /// Always false: a range holds at least one address.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The DNS server.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    /// The zones it is authoritative for, no name twice.
    pub zones: Vec<Zone>,
    /// Over TCP. Default 256, 64 of one address.
    pub connections: Connections,
}

/// `[[dns.zone]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The zone's apex, absolute (with the final dot), lower case.
    pub name: String,
    /// Its RFC 1035 zone file.
    pub file: PathBuf,
}

/// The reliable-UDP proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Rudp {
    /// No two alike. Default 127.0.0.10:49152.
    pub listen: Vec<SocketAddr>,
    /// Signals the server holds unanswered for one client before it says SIGNFULL; also how far
    /// ahead of the expected id a signal may be. 2 to 1024, default 64.
    pub max_window: u32,
    /// A session that hears nothing for so long ends. Default 60 s.
    pub idle_timeout: Duration,
    /// Sessions and connections at once; one more is told that there is no room, and counted.
    /// Default 4096.
    pub max_sessions: usize,
    /// What one address may have of that, and how much else there is.
    pub shares: Shares,
    /// Whom SIGNGET asks: `[scrap].listen` unless `scraper` names another.
    pub scraper: Option<SocketAddr>,
    /// The binary transport.
    pub transport: Transport,
    /// `[link]`: the network before it, if that is a bad one.
    pub link: Option<BadLink>,
    /// `[watch]`: what is remembered of each session.
    pub watch: Watch,
}

/// `[watch]`: what is remembered of each session, so that it can be told why its window is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Bytes for all sessions together, those that are over included. Default 64 MiB.
    pub memory: u64,
}

impl Default for Watch {
    fn default() -> Self {
        Self { memory: 64 << 20 }
    }
}

/// A bad network before the proxy: `[link]`, or a client's own. The default does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BadLink {
    /// What happens to packets on their way to the proxy.
    pub up: LinkOptions,
    /// What happens to packets on their way back.
    pub down: LinkOptions,
    /// Decides every packet's fate. Default of `[link]`: 1.
    pub seed: u64,
}

/// The scraper.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrap {
    /// At least one. Default 127.0.0.5:49153.
    pub listen: Vec<SocketAddr>,
    /// The download page.
    pub origin: Url,
    /// How long a page without `Cache-Control: max-age` is held fresh. Default 30 s.
    pub refresh: Duration,
    /// Its peers. Default 256, 128 of one address: a proxy asks for all its clients.
    pub peers: Connections,
    /// Whether redirects off the page's host and port are followed. Default false.
    pub redirects_elsewhere: bool,
}

/// The built-in origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// At least one. Default 127.0.0.1:8080.
    pub listen: Vec<SocketAddr>,
    /// What it offers.
    pub files: OriginFiles,
    /// The kernel's congestion control that answers are sent by, unless a request names another one.
    /// Default: the kernel's own.
    pub congestion: Option<String>,
    /// Default 2048, 1024 of one address: a proxy asks for all its clients.
    pub connections: Connections,
}

/// What the built-in origin offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginFiles {
    /// `files = "folder"`: the regular files of a folder.
    Folder(PathBuf),
    /// `samples = [...]`, or neither key: files made up as they are read, in this order. Each name
    /// is a kind and, for zip, a size: `50MB.zip`, `image-site.png`, `task2.pdf`.
    Samples(Vec<String>),
}
