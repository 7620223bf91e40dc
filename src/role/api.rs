//! What the HTTP API asks the roles, and what they answer.

use std::net::{Ipv4Addr, SocketAddr};

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::watch::ring::Rings;

use crate::link::{LinkControl, LinkCounters, LinkOptions, Way};
use crate::statistic::Fields;

/// Asks the DHCP server for its leases.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<LeaseEntry>")]
pub struct ListLeases;

/// Asks the DHCP server for a copy of its database: the bytes of a file, or why there is none.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<u8>, String>")]
pub struct CopyLeases;

/// One address as the DHCP server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseEntry {
    /// The leased address.
    pub address: Ipv4Addr,
    /// The client's hardware address, `02:00:00:00:00:07`.
    pub hardware_address: String,
    /// The client identifier (option 61) in hexadecimal, if it sent one.
    pub client_id: Option<String>,
    /// The host name (option 12), if it sent one.
    pub hostname: Option<String>,
    /// `offered`, `bound`, `released`, `expired` or `declined`.
    pub state: String,
    /// The subnet, `127.20.30.0/24`.
    pub subnet: String,
    /// When it ends, seconds since 1970.
    pub expires_unix: u64,
    /// How long that is from now; 0 if it has ended.
    #[serde(default)]
    pub seconds_left: u64,
    /// Whether the address is reserved for this client.
    pub reserved: bool,
}

/// Asks the RUDP endpoint for its sessions.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<SessionEntry>")]
pub struct ListSessions;

/// One session of RUDP, or a transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// `signals`, a session of the text protocol; `transport`, a connection of the binary one; `http`,
    /// a file on its way from the built-in origin.
    pub kind: String,
    /// The client's address and port, where it was seen last.
    pub client: SocketAddr,
    /// The name it gave; empty if it gave none.
    pub name: String,
    /// The server's connection id of a connection, 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// What is told of one of its kind: [`crate::statistic`].
    #[serde(flatten)]
    pub statistics: Fields,
}

/// Asks the built-in origin for the files on their way.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<SessionEntry>")]
pub struct ListTransfers;

/// Asks the built-in origin for the files that went to HTTP clients, the last first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<EndedTransfer>")]
pub struct ListEndedTransfers;

/// A file, or a part of one, that went to an HTTP client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedTransfer {
    /// `http`.
    pub kind: String,
    /// The client's address and port.
    pub client: SocketAddr,
    /// HTTP tells none: the name of the one client that had a session of RUDP from the same host meanwhile;
    /// empty if there was none, or several.
    pub name: String,
    /// The file's name.
    pub file: String,
    /// `end`: all of it has arrived; `broken_off`; `arriving`: the kernel still sends the last of it;
    /// `unknown`: the connection was closed on this side meanwhile.
    pub how: String,
    /// When the origin was done with it, seconds since 1970.
    pub ended_unix: f64,
    /// How long it took until then.
    pub connected_seconds: f64,
    /// Bytes that were asked for.
    pub length_bytes: u64,
    /// Bytes of these that the client's kernel has acknowledged; of what broke off the
    /// answer's head, some hundred bytes, is counted with them.
    pub bytes_sent: u64,
    /// The kernel's congestion control that it was sent by.
    pub congestion: String,
    /// The smoothed round trip at the end (TCP_INFO, as what follows).
    pub rtt_seconds: Option<f64>,
    /// Segments with data that were sent meanwhile.
    pub segments_sent: Option<u64>,
    /// Of these, segments sent again.
    pub segments_retransmitted: Option<u64>,
}

/// Something that is over, of either kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ended {
    /// A file over HTTP.
    Transfer(EndedTransfer),
    /// A session of RUDP.
    Session(EndedSession),
}

impl Ended {
    /// When it ended, seconds since 1970.
    pub fn unix(&self) -> f64 {
        match self {
            Self::Transfer(transfer) => transfer.ended_unix,
            Self::Session(session) => session.ended_unix,
        }
    }
}

/// Asks the RUDP endpoint for the sessions that are over, the last first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<EndedSession>")]
pub struct ListEndedSessions;

/// A session or connection that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedSession {
    /// `signals` or `transport`.
    pub kind: String,
    /// The client's address and port, where it was seen last.
    pub client: SocketAddr,
    /// The name it gave; empty if it gave none.
    pub name: String,
    /// The server's connection id of a connection.
    pub connection_id: Option<String>,
    /// `end`, `idle`, `crash`, `replaced` (by another SIGNEW), `shutdown`, `reset`, `violation` or
    /// `refused`.
    pub how: String,
    /// The same in words, where there are more.
    pub cause: Option<String>,
    /// When, seconds since 1970.
    pub ended_unix: f64,
    /// How long it was there.
    pub connected_seconds: f64,
    /// UDP payload bytes received.
    pub bytes_received: u64,
    /// UDP payload bytes sent.
    pub bytes_sent: u64,
    /// Signals found missing, or packets declared lost.
    pub lost: u64,
    /// Answers sent again, or packets that carried a piece of a file again.
    pub sent_again: u64,
}

/// Asks the RUDP endpoint for the rings of its connections, over or not. Who asks reads them: the endpoint's
/// thread receives packets.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Rings")]
pub struct FindRings;

/// Asks the RUDP endpoint for the network before it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "LinkReport")]
pub struct DescribeLink;

/// The network before the proxy: `[link]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkReport {
    /// What it does to packets.
    pub options: LinkDirections,
    /// What it has done; packets that pass it while it does nothing are not counted.
    pub counters: LinkCounters,
}

/// What a link does in each direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkDirections {
    /// To packets on their way to the proxy.
    pub up: LinkOptions,
    /// To packets on their way back.
    pub down: LinkOptions,
}

impl LinkReport {
    /// What `control` tells.
    pub fn of(control: &LinkControl) -> Self {
        Self {
            options: LinkDirections {
                up: control.options(Way::Up),
                down: control.options(Way::Down),
            },
            counters: control.counters(),
        }
    }
}

/// Asks the supervisor to read the configuration file again and to run by it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Reloaded, ReloadRefused>")]
pub struct Reload {
    /// Only to tell what it would do.
    pub dry_run: bool,
}

/// A reload that was carried out, or (`dry_run`) could be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The number of the configuration that runs now; the first is 1.
    pub generation: u64,
    /// Nothing was done.
    #[serde(default)]
    pub dry_run: bool,
    /// What it means for each role.
    pub changes: Vec<Change>,
    /// The keys that are different.
    #[serde(default)]
    pub keys: Vec<KeyChange>,
    /// The files that the configuration names and that are different.
    #[serde(default)]
    pub files: Vec<String>,
}

/// A key of the configuration that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key, `dhcp.subnet[0].lease_time`.
    pub key: String,
    /// What it was; `null`: it was not there.
    pub from: Option<String>,
    /// What it is; `null`: it is not there.
    pub to: Option<String>,
    /// The environment variable that sets the key: the file's change has no effect.
    pub masked_by: Option<String>,
}

/// What a new configuration meant for one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The role.
    pub component: String,
    /// `kept`, `changed` (while it runs), `restarted` (made anew by what is kept of it), `started` or
    /// `stopped`.
    pub action: String,
    /// Why it is restarted, or not changed at once.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Change {
    /// Something that needs no reason.
    pub fn new(component: &str, action: &str) -> Self {
        Self {
            component: component.to_owned(),
            action: action.to_owned(),
            reason: None,
        }
    }

    /// What is changed about a role that has failed and waits to be restarted: it is restarted at once.
    /// Every other takes its change while it runs; what it can't take so is refused.
    pub fn restarted(component: &str, failure: Option<&str>) -> Self {
        Self {
            reason: Some(format!("it was down: {}", failure.unwrap_or("it failed"))),
            ..Self::new(component, "restarted")
        }
    }
}

/// A reload that was not carried out as a whole. It was refused and everything runs on as before;
/// or, with a new generation, a role failed at its very start and all others run by the new file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadRefused {
    /// The number of the configuration that still runs.
    pub generation: u64,
    /// What is wrong with the new one, a line each.
    pub problems: Vec<String>,
}

/// The answer to `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The number of the running configuration.
    pub generation: u64,
    /// Its file, if it has one.
    pub config_file: Option<String>,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// The components, in the order of their start.
    pub components: Vec<Component>,
}

/// One component's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// `dhcp`, `dns`, `rudp`, `scrap`, `origin` or `http`.
    pub name: String,
    /// `up`, `degraded`, `restarting`, `stuck`, `failed` or `stopped`.
    pub state: String,
    /// What it needs and is missing, a sentence each.
    pub reasons: Vec<String>,
    /// Restarts after failures since the process started.
    pub restarts: u64,
    /// Why it failed last.
    pub last_failure: Option<String>,
    /// Seconds in the present state.
    pub state_seconds: f64,
    /// Where it listens, `udp 127.0.0.1:5300`.
    pub listens: Vec<String>,
}

/// Makes one session fail, as [`crate::role::Crash`] does a role. Answers whether there is one.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct CrashSession(pub SocketAddr);
