//! The file's shapes into a valid [`Config`], or all that is wrong with them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    BadLink, Config, Connections, Dhcp, DhcpListen, Dns, Http, Log, Origin, OriginFiles, Reload,
    Rudp, Scrap, Supervisor, Watch, Zone,
    compiler::{ADDRESSES, Compiler, NUMBER, TEXT, Transport, values},
    connections,
    file::{self, Key, List, OneOrMany},
    shares, subnet, transport, value,
};

const HTTP_LISTEN: SocketAddr = v4([127, 0, 0, 1], 9167);
const DHCP_LISTEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6767);
const DNS_LISTEN: SocketAddr = v4([127, 0, 0, 1], 5300);
const RUDP_LISTEN: SocketAddr = v4([127, 0, 0, 10], 49152);
const SCRAP_LISTEN: SocketAddr = v4([127, 0, 0, 5], 49153);
const ORIGIN_LISTEN: SocketAddr = v4([127, 0, 0, 1], 8080);
/// The files of the original's download page, in its order.
const SAMPLES: [&str; 5] = [
    "50MB.zip",
    "100MB.zip",
    "500MB.zip",
    "image-site.png",
    "task2.pdf",
];
/// Times below this would keep a timer busy for nothing.
const SHORTEST: Duration = Duration::from_millis(100);
/// A thread beats once a second: below this a busy one would be taken for stuck.
const STUCK_AFTER_LEAST: Duration = Duration::from_secs(3);
/// What the rings of all sessions may take: below the least, not one session fits.
const WATCH_MEMORY: (u64, u64) = (1 << 20, 1 << 40);
/// RFC 2131 section 4.1: a DHCP server's port.
const DHCP_PORT: u16 = 67;

const fn v4([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
}

/// Compiles `file`, its relative paths counted from `base`. Problems are pairs of key and message.
pub(super) fn compile(
    file: file::File,
    path: PathBuf,
    base: &Path,
) -> Result<Config, Vec<(String, String)>> {
    let mut compiler = Compiler::new(base);
    let config = compiler.config(file, path);
    match config {
        Some(config) if compiler.problems.is_empty() => Ok(config),
        _ => Err(compiler.problems),
    }
}

// The methods give `None` only after they have noted a problem. They go on after one, to find the
// others too.
impl Compiler<'_> {
    fn config(&mut self, file: file::File, path: PathBuf) -> Option<Config> {
        self.unknown::<file::File>("", &file.unknown);
        let state_dir = self.scalar("state_dir", file.state_dir, TEXT, |text: String| {
            resolve(state_base(self.base), &text)
        });
        let supervisor = self.table("supervisor", file.supervisor);
        let supervisor = self.supervisor(supervisor.unwrap_or_default());
        let log = self.table("log", file.log);
        let log = self.log(log.unwrap_or_default());
        let reload = self.table("reload", file.reload);
        let reload = self.reload(reload.unwrap_or_default());
        let watch = self.table("watch", file.watch);
        let watch = self.watch(watch.unwrap_or_default());
        let capture = self.table("capture", file.capture);
        let base = self.base;
        let state = match &state_dir {
            Some(Some(state_dir)) => state_dir.clone(),
            _ => state_base(base).join("state"),
        };
        let capture = capture.map(|table| self.capture(table, |text| resolve(base, text), &state));
        let http = self.table("http", file.http);
        let http = http.map(|table| self.http(table));
        let dhcp = self.table("dhcp", file.dhcp);
        let dhcp = dhcp.map(|table| self.dhcp(table));
        let dns = self.table("dns", file.dns);
        let dns = dns.map(|table| self.dns(table));
        let origin = self.table("origin", file.origin);
        let origin = origin.map(|table| self.origin(table));
        let page = origin.as_ref().and_then(Option::as_ref);
        let page = page.and_then(|origin| built_in_page(*origin.listen.first()?));
        let scrap = self.table("scrap", file.scrap);
        let scrap = scrap.map(|table| self.scrap(table, page));
        let rudp = self.table("rudp", file.rudp);
        let scraper = scrap.as_ref().and_then(Option::as_ref);
        let scraper = scraper.and_then(|scrap| scrap.listen.first().copied());
        let link = self.table("link", file.link);
        let link = link.map(|table| self.link(table));
        let known = link.flatten();
        let watch = watch?;
        let rudp = rudp.map(|table| self.rudp(table, scraper, known, watch));
        if link.is_some() && rudp.is_none() && self.is_clean("rudp") {
            self.problem(
                "link",
                "the proxy is what the link leads to, and there is no [rudp]; add it, or delete \
                 [link]",
            );
        }
        if self.problems.is_empty()
            && http.is_none()
            && dhcp.is_none()
            && dns.is_none()
            && rudp.is_none()
            && scrap.is_none()
            && origin.is_none()
        {
            self.problem(
                "",
                "nothing would run; a role runs if its table is there: [http], [dhcp], [dns], \
                 [rudp], [scrap], [origin]",
            );
        }
        self.check_listeners();
        Some(Config {
            file: Some(path),
            source: super::Source::default(),
            state_dir: state_dir?.unwrap_or_else(|| state_base(self.base).join("state")),
            supervisor: supervisor?,
            log: log?,
            reload: reload?,
            capture: whole(capture)?,
            http: whole(http)?,
            dhcp: whole(dhcp)?,
            dns: whole(dns)?,
            rudp: whole(rudp)?,
            scrap: whole(scrap)?,
            origin: whole(origin)?,
        })
    }

    fn supervisor(&mut self, table: file::Supervisor) -> Option<Supervisor> {
        self.unknown::<file::Supervisor>("supervisor", &table.unknown);
        let max_restarts = self.scalar(
            "supervisor.max_restarts",
            table.max_restarts,
            NUMBER,
            |number| value::number(number, 0..=10_000),
        );
        let second = Duration::from_secs(1);
        let within = self.duration("supervisor.within", table.within, second);
        let least = STUCK_AFTER_LEAST;
        let stuck_after = self.duration("supervisor.stuck_after", table.stuck_after, least);
        let defaults = Supervisor::default();
        Some(Supervisor {
            max_restarts: max_restarts?.unwrap_or(defaults.max_restarts),
            within: within?.unwrap_or(defaults.within),
            stuck_after: stuck_after?.unwrap_or(defaults.stuck_after),
        })
    }

    fn log(&mut self, table: file::Log) -> Option<Log> {
        self.unknown::<file::Log>("log", &table.unknown);
        let level = self.scalar("log.level", table.level, TEXT, |text: String| {
            value::log_level(&text)
        });
        let format = self.scalar("log.format", table.format, TEXT, |text: String| {
            value::log_format(&text)
        });
        let default = Log::default();
        Some(Log {
            level: level?.unwrap_or(default.level),
            format: format?.unwrap_or(default.format),
        })
    }

    fn reload(&mut self, table: file::Reload) -> Option<Reload> {
        self.unknown::<file::Reload>("reload", &table.unknown);
        let watch = self.scalar("reload.watch", table.watch, "`true` or `false`", Ok);
        Some(Reload {
            watch: watch?.unwrap_or(false),
        })
    }

    fn watch(&mut self, table: file::Watch) -> Option<Watch> {
        self.unknown::<file::Watch>("watch", &table.unknown);
        let memory = self.scalar("watch.memory", table.memory, TEXT, |text: String| {
            value::bytes(&text, WATCH_MEMORY)
        });
        Some(Watch {
            memory: memory?.unwrap_or(Watch::default().memory),
        })
    }

    fn http(&mut self, table: file::Http) -> Option<Http> {
        self.unknown::<file::Http>("http", &table.unknown);
        let listen = self.listen("http.listen", table.listen, &[Transport::Tcp], HTTP_LISTEN);
        let fault_injection = self.scalar(
            "http.fault_injection",
            table.fault_injection,
            "`true` or `false`",
            Ok,
        );
        let connections = self.connections(connections::Keys {
            table: "http",
            noun: "connections",
            total: table.max_connections,
            per_address: table.max_connections_per_address,
            request_timeout: table.request_timeout,
            min_rate: table.min_rate,
            default: Connections::HTTP,
        });
        let hosts = self.one_or_many(
            "http.hosts",
            table.hosts,
            "a name in quotes, as `\"lab.example\"`, or a list of them in brackets",
            |text: String| value::host_name(&text),
        );
        let base = self.base;
        let token_file = self.scalar("http.token_file", table.token_file, TEXT, |text: String| {
            let path = resolve(base, &text)?;
            if path.is_file() {
                Ok(path)
            } else {
                Err(format!(
                    "there is no file `{}`; `openssl rand -hex 32` writes what it should hold",
                    path.display()
                ))
            }
        });
        let protect_reads = self.scalar(
            "http.protect_reads",
            table.protect_reads,
            "`true` or `false`",
            Ok,
        );
        let (token_file, protect_reads) = (token_file?, protect_reads?.unwrap_or(false));
        if protect_reads && token_file.is_none() {
            self.problem(
                "http.protect_reads",
                "reading would need a token, and there is no `token_file` to hold one; name it, \
                 or delete this",
            );
        }
        Some(Http {
            hosts: values(hosts?.unwrap_or_default()),
            token_file,
            protect_reads,
            connections: connections?,
            listen: listen?,
            fault_injection: fault_injection?.unwrap_or(false),
        })
    }

    fn dhcp(&mut self, table: file::Dhcp) -> Option<Dhcp> {
        self.unknown::<file::Dhcp>("dhcp", &table.unknown);
        let listen = self.dhcp_listen(table.listen, table.interfaces);
        let subnets = self.subnets(table.subnet);
        Some(Dhcp {
            listen: listen?,
            subnets: subnets?,
        })
    }

    fn dhcp_listen(
        &mut self,
        listen: Key<OneOrMany<String>>,
        interfaces: List<String>,
    ) -> Option<DhcpListen> {
        if listen != Key::Absent && interfaces != Key::Absent {
            self.problem(
                "dhcp.interfaces",
                "`listen` is there too; addresses or interfaces, one of the two",
            );
        }
        let addresses = self.one_or_many("dhcp.listen", listen, ADDRESSES, |text: String| {
            match value::socket_address(&text)? {
                SocketAddr::V4(address) => Ok(address),
                SocketAddr::V6(_) => Err(format!(
                    "`{text}` is an IPv6 address; DHCP is spoken over IPv4, as `127.0.0.1:6767`"
                )),
            }
        });
        let names = self.list(
            "dhcp.interfaces",
            interfaces,
            "a list of interfaces in brackets, as `[\"eth0\"]`",
            |text: String| value::interface(&text),
        );
        let (addresses, names) = (addresses?, names?);
        if let Some(names) = names {
            self.no_repeats(&names, "interface");
            self.at_least_one("dhcp.interfaces", &names, "interface");
            let everywhere = v4([0, 0, 0, 0], DHCP_PORT);
            self.listeners
                .push(("dhcp.interfaces".into(), Transport::Udp, everywhere));
            return Some(DhcpListen::Interfaces(values(names)));
        }
        let addresses = addresses.unwrap_or_else(|| vec![("dhcp.listen".into(), DHCP_LISTEN)]);
        self.at_least_one("dhcp.listen", &addresses, "address");
        for (at, address) in &addresses {
            self.listeners
                .push((at.clone(), Transport::Udp, (*address).into()));
        }
        Some(DhcpListen::Addresses(values(addresses)))
    }

    fn subnets(&mut self, list: List<file::Subnet>) -> Option<Vec<super::Subnet>> {
        let tables = self.tables("dhcp.subnet", list)?;
        self.at_least_one("dhcp.subnet", &tables, "[[dhcp.subnet]]");
        let mut subnets: Vec<super::Subnet> = Vec::new();
        for (at, table) in tables {
            let Some(subnet) = subnet::compile(self, &at, table) else {
                continue;
            };
            let overlap = subnets.iter().find(|other| {
                other.network.contains(subnet.network.address)
                    || subnet.network.contains(other.network.address)
            });
            if let Some(other) = overlap {
                self.problem(
                    &format!("{at}.subnet"),
                    format!(
                        "`{}` overlaps `{}` above; subnets must lie apart",
                        subnet.network, other.network
                    ),
                );
            }
            subnets.push(subnet);
        }
        Some(subnets)
    }

    fn dns(&mut self, table: file::Dns) -> Option<Dns> {
        self.unknown::<file::Dns>("dns", &table.unknown);
        let both = [Transport::Udp, Transport::Tcp];
        let listen = self.listen("dns.listen", table.listen, &both, DNS_LISTEN);
        let connections = self.connections(connections::Keys {
            table: "dns",
            noun: "connections",
            total: table.max_connections,
            per_address: table.max_connections_per_address,
            request_timeout: table.request_timeout,
            min_rate: table.min_rate,
            default: Connections::DNS,
        });
        let tables = self.tables("dns.zone", table.zone)?;
        self.at_least_one("dns.zone", &tables, "[[dns.zone]]");
        let mut names = Vec::new();
        let mut zones = Vec::new();
        for (at, table) in tables {
            self.unknown::<file::Zone>(&at, &table.unknown);
            let base = self.base;
            let name_at = format!("{at}.name");
            let name = self.required(&name_at, table.name, "name = \"example.com.\"", |text| {
                value::zone_name(&text)
            });
            let example = "file = \"zones/example.com.zone\"";
            let file = self.required(&format!("{at}.file"), table.file, example, |text| {
                let path = resolve(base, &text)?;
                if path.is_file() {
                    Ok(path)
                } else {
                    Err(format!("there is no file `{}`", path.display()))
                }
            });
            if let Some(name) = &name {
                names.push((name_at, name.clone()));
            }
            zones.extend(name.zip(file).map(|(name, file)| Zone { name, file }));
        }
        self.no_repeats(&names, "zone");
        Some(Dns {
            listen: listen?,
            zones,
            connections: connections?,
        })
    }

    fn rudp(
        &mut self,
        table: file::Rudp,
        own_scraper: Option<SocketAddr>,
        link: Option<BadLink>,
        watch: Watch,
    ) -> Option<Rudp> {
        self.unknown::<file::Rudp>("rudp", &table.unknown);
        let udp = [Transport::Udp];
        let listen = self.listen("rudp.listen", table.listen, &udp, RUDP_LISTEN);
        let max_window = self.scalar("rudp.max_window", table.max_window, NUMBER, |number| {
            value::number(number, 2..=1024)
        });
        let idle_timeout = self.duration("rudp.idle_timeout", table.idle_timeout, SHORTEST);
        let max_sessions = self.scalar("rudp.max_sessions", table.max_sessions, NUMBER, |number| {
            value::number(number, 1..=1_000_000)
        });
        let scraper = self.scalar("rudp.scraper", table.scraper, TEXT, |text: String| {
            let address = value::socket_address(&text)?;
            if address.port() == 0 || address.ip().is_unspecified() {
                return Err(format!(
                    "`{text}` cannot be asked; one host and its port are needed"
                ));
            }
            Ok(address)
        });
        let scraper = scraper?.or_else(|| own_scraper.map(reachable));
        let transport = self.transport(transport::Keys {
            congestion: table.congestion,
            initial_window: table.initial_window,
            client_choice: table.client_choice,
            protection: table.protection,
            secret: table.secret,
            max_datagram: table.max_datagram,
            send_memory: table.send_memory,
            shards: table.shards,
            class: table.class,
        });
        if scraper.is_some_and(|scraper| scraper.port() == 0) {
            self.problem(
                "rudp.scraper",
                "missing, and `scrap.listen` leaves its port open; name a port in one of the two",
            );
        }
        let max_sessions = max_sessions?.unwrap_or(4096);
        let shares = shares::Keys {
            sessions_per_address: table.max_sessions_per_address,
            half_open: table.max_half_open,
            handshakes: table.max_handshakes,
            handshakes_per_address: table.max_handshakes_per_address,
            fetches: table.max_fetches,
            fetches_per_address: table.max_fetches_per_address,
            amplification: table.amplification,
            trust_loopback: table.trust_loopback,
        };
        let shares = self.shares(shares, max_sessions);
        Some(Rudp {
            listen: listen?,
            max_window: max_window?.unwrap_or(64),
            idle_timeout: idle_timeout?.unwrap_or(Duration::from_secs(60)),
            max_sessions,
            shares: shares?,
            scraper,
            transport: transport?,
            link,
            watch,
        })
    }

    fn scrap(&mut self, table: file::Scrap, built_in: Option<Url>) -> Option<Scrap> {
        self.unknown::<file::Scrap>("scrap", &table.unknown);
        let listen = self.listen(
            "scrap.listen",
            table.listen,
            &[Transport::Tcp],
            SCRAP_LISTEN,
        );
        let origin = match (table.origin, built_in) {
            (Key::Absent, Some(page)) => Some(page),
            (key, _) => self.required(
                "scrap.origin",
                key,
                "origin = \"http://127.0.0.1:8080/\"",
                |text| value::page(&text),
            ),
        };
        let refresh = self.duration("scrap.refresh", table.refresh, SHORTEST);
        let peers = self.connections(connections::Keys {
            table: "scrap",
            noun: "peers",
            total: table.max_peers,
            per_address: table.max_peers_per_address,
            request_timeout: table.request_timeout,
            min_rate: table.min_rate,
            default: Connections::SCRAP,
        });
        let redirects_elsewhere = self.scalar(
            "scrap.redirects_elsewhere",
            table.redirects_elsewhere,
            "`true` or `false`",
            Ok,
        );
        Some(Scrap {
            listen: listen?,
            origin: origin?,
            refresh: refresh?.unwrap_or(Duration::from_secs(30)),
            peers: peers?,
            redirects_elsewhere: redirects_elsewhere?.unwrap_or(false),
        })
    }

    fn origin(&mut self, table: file::Origin) -> Option<Origin> {
        self.unknown::<file::Origin>("origin", &table.unknown);
        let listen = self.listen(
            "origin.listen",
            table.listen,
            &[Transport::Tcp],
            ORIGIN_LISTEN,
        );
        if table.files != Key::Absent && table.samples != Key::Absent {
            self.problem(
                "origin.samples",
                "`files` is there too; a folder or samples, one of the two",
            );
        }
        let base = self.base;
        let folder = self.scalar("origin.files", table.files, TEXT, |text: String| {
            let path = resolve(base, &text)?;
            if path.is_dir() {
                Ok(path)
            } else {
                Err(format!("there is no folder `{}`", path.display()))
            }
        });
        let samples = self.list(
            "origin.samples",
            table.samples,
            "a list of names in brackets, as `[\"50MB.zip\", \"task2.pdf\"]`",
            |text: String| value::sample(&text),
        );
        let (folder, samples) = (folder?, samples?);
        if let Some(samples) = &samples {
            self.at_least_one("origin.samples", samples, "sample");
            self.no_repeats(samples, "file");
        }
        let files = match (folder, samples) {
            (Some(folder), _) => OriginFiles::Folder(folder),
            (None, Some(samples)) => OriginFiles::Samples(values(samples)),
            (None, None) => OriginFiles::Samples(SAMPLES.map(String::from).into()),
        };
        let congestion = self.scalar(
            "origin.congestion",
            table.congestion,
            TEXT,
            |text: String| value::tcp_congestion(&text),
        );
        let connections = self.connections(connections::Keys {
            table: "origin",
            noun: "connections",
            total: table.max_connections,
            per_address: table.max_connections_per_address,
            request_timeout: table.request_timeout,
            min_rate: table.min_rate,
            default: Connections::ORIGIN,
        });
        Some(Origin {
            listen: listen?,
            files,
            congestion: congestion?,
            connections: connections?,
        })
    }
}

/// `Some` of a table that is absent or right.
fn whole<T>(table: Option<Option<T>>) -> Option<Option<T>> {
    match table {
        None => Some(None),
        Some(compiled) => compiled.map(Some),
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

fn resolve(base: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        Err("is no path; a file's or a folder's name is needed".into())
    } else {
        Ok(base.join(text))
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
