//! What `[rudp]` says of the binary transport.

use std::{fmt, net::IpAddr, num::NonZeroU8, str::FromStr};

use ipnet::IpNet;

use super::{
    kind::{Kind, bytes, number, text, word},
    table::{Table, values},
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
        )?;
        match self.0.starts_with("exec:") {
            true => f.write_str("; a program of your own is for `labnet compare` alone"),
            false => Ok(()),
        }
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

    fn parse(text: &str) -> Result<Self, String> {
        match text.chars().count() {
            0..Self::SHORTEST => Err(format!(
                "is too short; at least {} characters are needed",
                Self::SHORTEST
            )),
            _ => Ok(Self(text.to_owned())),
        }
    }

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

/// The least and the most that a new connection may send at once: two packets (RFC 9002 section
/// 7.2), and what no network between is asked to bear.
const INITIAL_WINDOW: (u64, u64) = (2 * 1472, 16 << 20);
const SEND_MEMORY: (u64, u64) = (1 << 20, 1 << 40);
/// What every path carries (RFC 9000 section 14), and what one UDP datagram over IPv4 does with a
/// margin for other headers.
const DATAGRAM: std::ops::RangeInclusive<u16> = 1200..=65_487;

impl Transport {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        Self {
            congestion: table
                .optional("congestion", word())
                .unwrap_or(default.congestion),
            initial_window: table.optional("initial_window", bytes(INITIAL_WINDOW)),
            client_choice: table.flag("client_choice", default.client_choice),
            protection: Protection::read(table),
            max_datagram: table.optional("max_datagram", number(DATAGRAM)),
            send_memory: table.bytes("send_memory", SEND_MEMORY, default.send_memory),
            shards: NonZeroU8::new(table.number("shards", 1..=64, default.shards.get()))
                .unwrap_or(default.shards),
            classes: table.tables("class", Class::read),
        }
    }
}

impl Protection {
    fn read(table: &mut Table<'_>) -> Self {
        let is_psk = table.text("protection", is_psk, false);
        let secret = Kind {
            is_secret: true,
            ..text(Passphrase::parse)
        };
        let secret = table.optional("secret", secret);
        let is_told = !table.is_clean("protection") || !table.is_clean("secret");
        match (is_psk, secret) {
            (true, Some(secret)) => return Self::Psk(secret),
            (true, None) if !is_told => table.problem(
                "secret",
                "missing; with `protection = \"psk\"` write `secret = \"...\"`, the same for the \
                 clients",
            ),
            (false, Some(_)) if !is_told => table.problem(
                "secret",
                "nothing is protected by it; add `protection = \"psk\"`, or delete it",
            ),
            _ => {}
        }
        Self::Checksum
    }
}

fn is_psk(text: &str) -> Result<bool, String> {
    match text {
        "checksum" => Ok(false),
        "psk" => Ok(true),
        other => Err(format!(
            "`{other}` is no protection; there are `checksum` and `psk`"
        )),
    }
}

impl Class {
    fn read(table: &mut Table<'_>) -> Self {
        let right = "a list of networks in brackets, as `[\"127.20.30.0/24\"]`";
        let clients = table.list("clients", right, client_network);
        let class = Self {
            clients: values(clients.unwrap_or_default()),
            congestion: table.optional("congestion", word()),
            initial_window: table.optional("initial_window", bytes(INITIAL_WINDOW)),
        };
        table.at_least_one("clients", &class.clients, "network");
        let is_told = !table.is_clean("congestion") || !table.is_clean("initial_window");
        if class.congestion.is_none() && class.initial_window.is_none() && !is_told {
            table.problem(
                "",
                "says nothing of these clients; add `congestion` or `initial_window`",
            );
        }
        class
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
