//! The configuration as the program uses it: every value valid, every path absolute.
//!
//! Each table of the file is a value with the reader of its keys, in a file of its own: a new key is a field
//! and the line that reads it. How keys are read, and what follows from it, `table` says: a valid value of
//! everything, or all the problems at once. What a new configuration means for a running role, its supervisor
//! tells.

mod address;
pub mod built_in;
mod capture;
mod connection_limits;
mod dhcp;
mod dns;
mod http;
mod keys;
mod kind;
mod layers;
mod link;
pub mod link_options;
mod listeners;
mod log;
mod origin;
mod problem;
mod reload;
mod rudp;
mod scrap;
mod shares;
mod source;
mod subnet;
mod supervisor;
mod table;
mod transport;
mod value;
mod watch;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use url::Url;

pub use address::{AddressRange, Ipv4Network, MacAddress};
pub use capture::Capture;
pub use connection_limits::ConnectionLimits;
pub use dhcp::{Dhcp, DhcpListen};
pub use dns::{Dns, Zone};
pub use http::Http;
pub use link::BadLink;
pub use link_options::{Aqm, Blackout, LinkOptions, Mismatch, Policer};
pub use log::{Log, LogFormat};
pub use origin::{Origin, OriginFiles};
pub use problem::{Problem, Problems};
pub use reload::Reload;
pub use rudp::Rudp;
pub use scrap::Scrap;
pub use shares::Shares;
pub use source::{KeyChange, Source};
pub use subnet::{Reservation, Subnet};
pub use supervisor::Supervisor;
pub use transport::{Algorithm, Class, Passphrase, Protection, Transport, UnknownAlgorithm};
pub(crate) use value::{bytes, host_name};
pub use watch::Watch;

use keys::Keys;
use table::Table;

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
    let layers = layers::Layers::new(text, path, environment, keys());
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let base = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let source = layers.source();
    let (config, found) = table::read(&layers.values, &base, keys(), Config::read);
    if found.is_empty() && layers.is_sound() {
        Ok(Config {
            file: Some(absolute),
            source,
            ..config
        })
    } else {
        Err(Problems(layers.into_problems(found)))
    }
}

/// The keys of every table.
fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| table::list(Config::read));
    &KEYS
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

impl Config {
    fn read(file: &mut Table<'_>) -> Self {
        let base = state_base(file.base());
        let state_dir = file.optional("state_dir", kind::path(base));
        let state_dir = state_dir.unwrap_or_else(|| base.join("state"));
        let supervisor = file.table("supervisor", Supervisor::read);
        let log = file.table("log", Log::read);
        let reload = file.table("reload", Reload::read);
        let watch = file.table("watch", Watch::read);
        let capture = file.optional_table("capture", |table| Capture::read(table, &state_dir));
        let http = file.optional_table("http", Http::read);
        let dhcp = file.optional_table("dhcp", Dhcp::read);
        let dns = file.optional_table("dns", Dns::read);
        // Each may take something from those behind it.
        let [rudp, link, scrap, origin] =
            ["rudp", "link", "scrap", "origin"].map(|key| file.section(key));
        let origin = file.read(origin, Origin::read);
        let page = origin
            .as_ref()
            .and_then(|origin| built_in_page(*origin.listen.first()?));
        let scrap = file.read(scrap, |table| Scrap::read(table, page)).flatten();
        let scraper = scrap
            .as_ref()
            .and_then(|scrap| scrap.listen.first().copied());
        let scraper = scraper.map(reachable);
        let link = file.read(link, BadLink::read);
        let rudp = file.read(rudp, |table| Rudp::read(table, scraper, link, watch));
        if link.is_some() && rudp.is_none() && file.is_clean("rudp") {
            file.problem(
                "link",
                "the proxy is what the link leads to, and there is no [rudp]; add it, or delete \
                 [link]",
            );
        }
        if http.is_none()
            && dhcp.is_none()
            && dns.is_none()
            && rudp.is_none()
            && scrap.is_none()
            && origin.is_none()
            && file.is_clean("")
        {
            file.problem(
                "",
                "nothing would run; a role runs if its table is there: [http], [dhcp], [dns], \
                 [rudp], [scrap], [origin]",
            );
        }
        Self {
            file: None,
            source: Source::default(),
            state_dir,
            supervisor,
            log,
            reload,
            capture,
            http,
            dhcp,
            dns,
            rudp,
            scrap,
            origin,
        }
    }
}

/// From where a relative `state_dir` is counted: the file's folder, but no state belongs below /etc
/// (Filesystem Hierarchy Standard 3.0, section 5.8).
fn state_base(base: &Path) -> &Path {
    if base.starts_with("/etc") {
        Path::new("/var/lib/labnet")
    } else {
        base
    }
}

/// Where a local client reaches what listens on `listen`.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The page of the built-in origin, unless its port is only known once it is bound.
fn built_in_page(listen: SocketAddr) -> Option<Url> {
    if listen.port() == 0 {
        return None;
    }
    Url::parse(&format!("http://{}/", reachable(listen))).ok()
}
