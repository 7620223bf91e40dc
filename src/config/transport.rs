//! What `[rudp]` says of the binary transport.

use std::{fmt, net::IpAddr, num::NonZeroU8, str::FromStr};

use ipnet::IpNet;

use super::{
    compiler::{Compiler, NUMBER, TEXT},
    file::{self, Key, List},
    value,
};

/// How the proxy's binary transport sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// What controls the sending to a client. Default `cubic`.
    pub congestion: Algorithm,
    /// Bytes that a new connection sends before the first acknowledgement; `None`: the controller's
    /// own.
    pub initial_window: Option<u64>,
    /// Whether a client may ask for a controller of its own. Default true.
    pub client_choice: bool,
    /// How packets are protected. Default `checksum`.
    pub protection: Protection,
    /// The largest datagram that is tried, UDP payload bytes; `None`: what an Ethernet carries.
    pub max_datagram: Option<u16>,
    /// Bytes of files that all connections together hold until they are acknowledged, each an equal
    /// share of them: 64 KiB at least, 8 MiB at most. Default 64 MiB.
    pub send_memory: u64,
    /// Sockets on the same address, each with a thread of its own. Default 1.
    pub shards: NonZeroU8,
    /// Clients with a controller of their own; the first that fits counts.
    pub classes: Vec<Class>,
}

/// `[[rudp.class]]`: clients whose connections are controlled otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// The networks that they are in.
    pub clients: Vec<IpNet>,
    /// Instead of the server's.
    pub congestion: Option<Algorithm>,
    /// Instead of the server's.
    pub initial_window: Option<u64>,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            congestion: Algorithm::default(),
            initial_window: None,
            client_choice: true,
            protection: Protection::default(),
            max_datagram: None,
            send_memory: 64 << 20,
            shards: NonZeroU8::MIN,
            classes: Vec::new(),
        }
    }
}

impl Class {
    /// Whether a client is one of them.
    pub fn contains(&self, client: IpAddr) -> bool {
        self.clients.iter().any(|network| network.contains(&client))
    }
}

/// What controls how fast is sent: one of the congestion controllers, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// RFC 9002's.
    NewReno,
    /// RFC 9438 with HyStart++.
    #[default]
    Cubic,
    /// By the delay.
    Vegas,
    /// By the measured bandwidth and the least delay.
    Bbr,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NewReno, Self::Cubic, Self::Vegas, Self::Bbr];

    /// Its name in the file, on the command line and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewReno => "new_reno",
            Self::Cubic => "cubic",
            Self::Vegas => "vegas",
            Self::Bbr => "bbr",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No congestion controller has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownAlgorithm(String);

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Algorithm::ALL.map(Algorithm::name).join("`, `");
        let shown = self.0.escape_debug();
        write!(
            f,
            "`{shown}` is no congestion controller; there are `{names}`"
        )
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}

/// How packets are protected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Protection {
    /// `checksum`: by CRC32C, which finds damage and proves nothing.
    #[default]
    Checksum,
    /// `psk`: by AES-128-GCM under a secret that client and server share.
    Psk(Passphrase),
}

/// A secret's text: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl Passphrase {
    /// Fewer characters are guessed too soon.
    pub const SHORTEST: usize = 16;

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// The keys of `[rudp]` that are the transport's.
pub(super) struct Keys {
    pub(super) congestion: Key<String>,
    pub(super) initial_window: Key<String>,
    pub(super) client_choice: Key<bool>,
    pub(super) protection: Key<String>,
    pub(super) secret: Key<String>,
    pub(super) max_datagram: Key<i64>,
    pub(super) send_memory: Key<String>,
    pub(super) shards: Key<i64>,
    pub(super) class: List<file::Class>,
}

/// The least and the most that a new connection may send at once: two packets (RFC 9002 section
/// 7.2), and what no network between is asked to bear.
const INITIAL_WINDOW: (u64, u64) = (2 * 1472, 16 << 20);
const SEND_MEMORY: (u64, u64) = (1 << 20, 1 << 40);
/// What every path carries (RFC 9000 section 14), and what one UDP datagram over IPv4 does with a
/// margin for other headers.
const DATAGRAM: std::ops::RangeInclusive<u16> = 1200..=65_487;

impl Compiler<'_> {
    pub(super) fn transport(&mut self, keys: Keys) -> Option<Transport> {
        let congestion = self.congestion("rudp", keys.congestion);
        let initial_window = self.initial_window("rudp", keys.initial_window);
        let client_choice = self.scalar(
            "rudp.client_choice",
            keys.client_choice,
            "`true` or `false`",
            Ok,
        );
        let protection = self.protection(keys.protection, keys.secret);
        let max_datagram = self.scalar("rudp.max_datagram", keys.max_datagram, NUMBER, |number| {
            value::number(number, DATAGRAM)
        });
        let send_memory = self.scalar(
            "rudp.send_memory",
            keys.send_memory,
            TEXT,
            |text: String| value::bytes(&text, SEND_MEMORY),
        );
        let shards = self.scalar("rudp.shards", keys.shards, NUMBER, |number| {
            value::number(number, 1..=64_u8)
        });
        let tables = self.tables("rudp.class", keys.class)?;
        let mut classes = Vec::new();
        for (at, table) in tables {
            classes.extend(self.class(&at, table));
        }
        let default = Transport::default();
        Some(Transport {
            congestion: congestion?.unwrap_or(default.congestion),
            initial_window: initial_window?.or(default.initial_window),
            client_choice: client_choice?.unwrap_or(default.client_choice),
            protection: protection?,
            max_datagram: max_datagram?.or(default.max_datagram),
            send_memory: send_memory?.unwrap_or(default.send_memory),
            shards: shards?.and_then(NonZeroU8::new).unwrap_or(default.shards),
            classes,
        })
    }

    fn congestion(&mut self, table: &str, key: Key<String>) -> Option<Option<Algorithm>> {
        self.scalar(&format!("{table}.congestion"), key, TEXT, |text: String| {
            text.parse::<Algorithm>().map_err(|error| error.to_string())
        })
    }

    fn initial_window(&mut self, table: &str, key: Key<String>) -> Option<Option<u64>> {
        self.scalar(
            &format!("{table}.initial_window"),
            key,
            "a size in quotes, as `\"64kB\"`",
            |text: String| value::bytes(&text, INITIAL_WINDOW),
        )
    }

    fn protection(&mut self, protection: Key<String>, secret: Key<String>) -> Option<Protection> {
        let protected = self.scalar(
            "rudp.protection",
            protection,
            TEXT,
            |text: String| match text.as_str() {
                "checksum" => Ok(false),
                "psk" => Ok(true),
                other => Err(format!(
                    "`{other}` is no protection; there are `checksum` and `psk`"
                )),
            },
        );
        // What stands there is not to be found in a log, even if it is no text.
        let secret = match secret {
            Key::Wrong(_) => Key::Wrong("something else".to_owned()),
            secret => secret,
        };
        let secret = self.scalar("rudp.secret", secret, TEXT, |text: String| {
            match text.chars().count() {
                0..Passphrase::SHORTEST => Err(format!(
                    "is too short; at least {} characters are needed",
                    Passphrase::SHORTEST
                )),
                _ => Ok(Passphrase(text)),
            }
        });
        match (protected?.unwrap_or(false), secret?) {
            (false, None) => Some(Protection::Checksum),
            (true, Some(secret)) => Some(Protection::Psk(secret)),
            (true, None) => {
                self.problem(
                    "rudp.secret",
                    "missing; with `protection = \"psk\"` write `secret = \"...\"`, the same for \
                     the clients",
                );
                None
            }
            (false, Some(_)) => {
                self.problem(
                    "rudp.secret",
                    "nothing is protected by it; add `protection = \"psk\"`, or delete it",
                );
                None
            }
        }
    }

    fn class(&mut self, at: &str, table: file::Class) -> Option<Class> {
        self.unknown::<file::Class>(at, &table.unknown);
        let clients_at = format!("{at}.clients");
        let right = "a list of networks in brackets, as `[\"127.20.30.0/24\"]`";
        let clients = self.list(&clients_at, table.clients, right, |text: String| {
            client_network(&text)
        });
        let congestion = self.congestion(at, table.congestion);
        let initial_window = self.initial_window(at, table.initial_window);
        let clients: Vec<IpNet> = clients?
            .unwrap_or_default()
            .into_iter()
            .map(|(_, network)| network)
            .collect();
        self.at_least_one(&clients_at, &clients, "network");
        let (congestion, initial_window) = (congestion?, initial_window?);
        if congestion.is_none() && initial_window.is_none() {
            self.problem(
                at,
                "says nothing of these clients; add `congestion` or `initial_window`",
            );
        }
        Some(Class {
            clients,
            congestion,
            initial_window,
        })
    }
}

/// A network, or one address.
fn client_network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is no network; write it as `127.20.30.0/24`"))?;
    if network.trunc() != network {
        return Err(format!(
            "`{text}` has host bits set; the network is `{}`",
            network.trunc()
        ));
    }
    Ok(network)
}
