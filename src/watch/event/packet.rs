//! A packet where a role's bytes pass: at its UDP socket, or at its end of a TCP connection.

use std::{
    fmt,
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use super::link::Crossing;

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The client.
    Client,
    /// The DHCP server.
    Dhcp,
    /// The DNS server.
    Dns,
    /// The RUDP proxy.
    Rudp,
    /// The scraper.
    Scrap,
    /// The built-in download page.
    Origin,
    /// The API and its pages.
    Http,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Client,
        Self::Dhcp,
        Self::Dns,
        Self::Rudp,
        Self::Scrap,
        Self::Origin,
        Self::Http,
    ];

    /// Its name, as it stands everywhere else.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Dhcp => "dhcp",
            Self::Dns => "dns",
            Self::Rudp => "rudp",
            Self::Scrap => "scrap",
            Self::Origin => "origin",
            Self::Http => "http",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 2131.
    Dhcp,
    /// RFC 1035.
    Dns,
    /// Both dialects: signals and the transport.
    Rudp,
    /// The scraper's list of files, lines over bare TCP.
    List,
    /// RFC 9112.
    Http,
}

impl Protocol {
    /// The field's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhcp => "DHCP",
            Self::Dns => "DNS",
            Self::Rudp => "RUDP",
            // Lines over TCP and nothing else: the protocol has no name of its own.
            Self::List => "TCP",
            Self::Http => "HTTP",
        }
    }
}

/// What carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// One event is one datagram.
    Udp,
    /// One event is one read or write of the socket, which is not one segment: the kernel cuts and
    /// joins.
    Tcp,
}

impl Carrier {
    /// `udp` or `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Whose bytes pass at a socket, and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label {
    /// Whose socket it is.
    pub role: Role,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Whether what is spoken is encrypted, so that only what stands in clear can be told.
    pub sealed: bool,
}

impl Label {
    /// A socket of `role` where `protocol` is spoken, in clear.
    pub const fn new(role: Role, protocol: Protocol) -> Self {
        Self {
            role,
            protocol,
            sealed: false,
        }
    }

    /// The same, encrypted if `sealed`.
    #[must_use]
    pub const fn sealed(self, sealed: bool) -> Self {
        Self { sealed, ..self }
    }
}

/// The direction in which a packet goes, as the role sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the role to its peer.
    Sent,
    /// From the peer to the role.
    Received,
}

impl Direction {
    /// `sent` or `received`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// Why something is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Again {
    /// No answer came in time.
    Unanswered,
    /// The peer says that the first one never came.
    Missing,
    /// The peer's window was full.
    WindowFull,
    /// The peer has asked again: it gets the same answer as before, and nothing is done twice.
    AskedAgain,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unanswered => "no answer in time",
            Self::Missing => "the peer says that it never came",
            Self::WindowFull => "the window was full",
            Self::AskedAgain => "asked again",
        })
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Handed to the network: to the kernel, or to the link between the socket and the kernel, whose
    /// verdict is an event of its own.
    Sent,
    /// Handed to the network as [`Fate::Sent`] is, and not for the first time.
    SentAgain(Again),
    /// Lost on purpose by who sends it; neither a link nor the kernel saw it.
    LostOnPurpose,
    /// The packet has come in.
    Received,
    /// An answer that the role does not send, for this reason.
    Withheld(&'static str),
    /// The role does not take the packet that has just come from this peer, for this reason. The packet had an event
    /// before, [`Fate::Received`]: an observer that counts packets skips this one.
    Refused(&'static str),
}

impl Fate {
    /// Which way the packet went.
    pub fn direction(self) -> Direction {
        match self {
            Self::Sent | Self::SentAgain(_) | Self::LostOnPurpose | Self::Withheld(_) => {
                Direction::Sent
            }
            Self::Received | Self::Refused(_) => Direction::Received,
        }
    }

    /// One word for it: `sent`, `resent`, `lost`, `received`, `withheld`, `refused`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::SentAgain(_) => "resent",
            Self::LostOnPurpose => "lost",
            Self::Received => "received",
            Self::Withheld(_) => "withheld",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether the packet was on the network: a capture beside the socket sees exactly those.
    pub fn is_on_the_network(self) -> bool {
        matches!(self, Self::Sent | Self::SentAgain(_) | Self::Received)
    }

    /// Why, where there is a reason.
    pub fn reason(self) -> Option<String> {
        match self {
            Self::SentAgain(why) => Some(why.to_string()),
            Self::Refused(why) | Self::Withheld(why) => Some(why.to_owned()),
            Self::Sent | Self::LostOnPurpose | Self::Received => None,
        }
    }
}

/// When something happens, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Never goes back: for differences.
    pub steady: Instant,
    /// The time of day, which may be set.
    pub wall: SystemTime,
}

impl When {
    /// Now.
    pub fn now() -> Self {
        Self {
            steady: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// Where a packet passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whose socket it is, and what is spoken.
    pub label: Label,
    /// What carries it.
    pub carrier: Carrier,
    /// The role's own address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When the packet passed the socket; of one that is sent, just before the kernel got it.
    pub when: When,
    /// Where.
    pub place: Place,
    /// What became of it.
    pub fate: Fate,
    /// Which of a link's packets this is, if it has crossed a link of this process.
    pub crossing: Option<Crossing>,
    /// Its payload, of which the observer may have kept the beginning only.
    pub payload: &'a [u8],
    /// The payload's length, bytes.
    pub length: usize,
}

impl Packet<'_> {
    /// Who sent it: the address and port that stand in its header as source.
    pub fn source(&self) -> SocketAddr {
        match self.fate.direction() {
            Direction::Sent => self.place.local,
            Direction::Received => self.place.remote,
        }
    }

    /// Where it goes.
    pub fn destination(&self) -> SocketAddr {
        match self.fate.direction() {
            Direction::Sent => self.place.remote,
            Direction::Received => self.place.local,
        }
    }

    /// Whether the end of the payload was not kept.
    pub fn is_cut(&self) -> bool {
        self.payload.len() < self.length
    }
}
