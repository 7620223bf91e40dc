//! What labnet is measured beside: each a server that sends bytes from memory and a client that
//! throws them away.
//!
//! A benchmark starts its own binary again for either role, in the namespace where it has to be:
//! see [`role`].

// Every benchmark uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::unwrap_used)]

pub mod kcp;
pub mod quic;
pub mod tcp;

use std::{fmt, net::SocketAddr, path::PathBuf, process::Command, str::FromStr, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How much a server hands to its socket at once.
const CHUNK: usize = 256 * 1024;

/// A transport that others have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// The kernel's TCP.
    Tcp(Congestion),
    /// quinn, one stream.
    Quinn(Congestion),
    /// KCP in its fastest mode, which has no congestion control.
    Kcp,
}

/// A congestion controller that the peers have, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Congestion {
    /// BBR, version 1 in both.
    Bbr,
    /// CUBIC.
    Cubic,
    /// NewReno, which the kernel calls reno.
    NewReno,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Tcp(Congestion::Bbr),
        Self::Tcp(Congestion::Cubic),
        Self::Tcp(Congestion::NewReno),
        Self::Quinn(Congestion::Bbr),
        Self::Quinn(Congestion::Cubic),
        Self::Quinn(Congestion::NewReno),
        Self::Kcp,
    ];
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp(Congestion::Bbr) => "tcp-bbr",
            Self::Tcp(Congestion::Cubic) => "tcp-cubic",
            Self::Tcp(Congestion::NewReno) => "tcp-reno",
            Self::Quinn(Congestion::Bbr) => "quinn-bbr",
            Self::Quinn(Congestion::Cubic) => "quinn-cubic",
            Self::Quinn(Congestion::NewReno) => "quinn-new_reno",
            Self::Kcp => "kcp",
        })
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|peer| peer.to_string() == text);
        found.ok_or_else(|| format!("{text}: no such peer"))
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Wish {
    /// Bytes of each session.
    pub size: u64,
    /// Sessions at once, all open before the first one asks.
    pub sessions: usize,
    /// Tell on the way what has come.
    pub progress: bool,
}

/// What a client prints at the end, as JSON on one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fetched {
    /// Bytes of all sessions together.
    pub bytes: u64,
    /// From the request sent to the last byte received.
    pub seconds: f64,
    /// The same of each session.
    pub each: Vec<f64>,
}

/// What a client prints on the way, as JSON on one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes so far.
    pub so_far: u64,
}

impl Fetched {
    /// Of sessions that took so long for `size` bytes each.
    pub fn new(size: u64, each: Vec<f64>) -> Self {
        Self {
            bytes: size * each.len() as u64,
            seconds: each.iter().copied().fold(0.0, f64::max),
            each,
        }
    }

    /// The time of the fastest session.
    pub fn fastest(&self) -> f64 {
        self.each.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The share of sessions whose time is within this share of the median time.
    pub fn within(&self, share: f64) -> f64 {
        let mut sorted = self.each.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let near = sorted
            .iter()
            .filter(|time| (**time / median - 1.0).abs() <= share);
        near.count() as f64 / sorted.len() as f64
    }
}

/// The line that a server prints once it can be asked.
pub const READY: &str = "ready";

/// The command that runs a peer's server; it ends when it is killed.
pub fn server(peer: Peer, address: SocketAddr) -> Role {
    Role(vec![
        "role".into(),
        "serve".into(),
        peer.to_string(),
        address.to_string(),
    ])
}

/// The command that runs a peer's client; it prints a [`Fetched`].
pub fn client(peer: Peer, address: SocketAddr, wish: Wish) -> Role {
    Role(vec![
        "role".into(),
        "fetch".into(),
        peer.to_string(),
        address.to_string(),
        serde_json::to_string(&wish).expect("a plain struct"),
    ])
}

/// Arguments for this binary.
pub struct Role(Vec<String>);

impl Role {
    /// Here.
    pub fn command(&self) -> Command {
        let mut command = Command::new(own_path());
        command.args(&self.0);
        command
    }

    /// In a network namespace.
    pub fn in_namespace(&self, namespace: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(own_path());
        command.args(&self.0);
        command
    }
}

fn own_path() -> PathBuf {
    std::env::current_exe().expect("a path of its own")
}

/// Plays the role that the arguments ask for, if they do. Comes first in each benchmark's `main`.
pub fn role() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["role", "serve", peer, address] => {
            let address = address.parse().expect("an address");
            match peer.parse().expect("a peer") {
                Peer::Tcp(congestion) => tcp::serve(congestion, address),
                Peer::Quinn(congestion) => quic::serve(congestion, address),
                Peer::Kcp => kcp::serve(address),
            }
            true
        }
        ["role", "fetch", peer, address, wish] => {
            let address = address.parse().expect("an address");
            let wish: Wish = serde_json::from_str(wish).expect("JSON");
            let each = match peer.parse().expect("a peer") {
                Peer::Tcp(congestion) => tcp::fetch(congestion, address, wish),
                Peer::Quinn(_) => quic::fetch(address, wish),
                Peer::Kcp => kcp::fetch(address, wish),
            };
            say(&Fetched::new(wish.size, each));
            true
        }
        _ => false,
    }
}

/// One line for the benchmark that has started this role.
fn say(line: &impl Serialize) {
    println!("{}", serde_json::to_string(line).expect("a plain struct"));
}

/// Tells that the server can be asked.
fn ready() {
    println!("{READY}");
}

/// Counts what comes and tells it now and then.
struct Meter {
    progress: bool,
    so_far: u64,
    told: std::time::Instant,
}

impl Meter {
    fn new(wish: Wish) -> Self {
        Self {
            progress: wish.progress,
            so_far: 0,
            told: std::time::Instant::now(),
        }
    }

    fn add(&mut self, bytes: usize) {
        const OFTEN: Duration = Duration::from_millis(200);
        self.so_far += bytes as u64;
        if self.progress && self.told.elapsed() >= OFTEN {
            self.told = std::time::Instant::now();
            say(&Progress {
                so_far: self.so_far,
            });
        }
    }
}

/// Bytes that nothing on the way could make smaller.
fn random_chunk() -> Bytes {
    use rand::{RngExt, SeedableRng};
    let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
    let words = (0..CHUNK / 8).flat_map(|_| random.random::<u64>().to_le_bytes());
    words.collect::<Vec<u8>>().into()
}

/// The parts of `chunk` that make up `size` bytes.
fn parts(chunk: &Bytes, size: u64) -> impl Iterator<Item = Bytes> {
    let whole = size / chunk.len() as u64;
    let rest = (size % chunk.len() as u64) as usize;
    let rest = (rest > 0).then(|| chunk.slice(..rest));
    (0..whole).map(|_| chunk.clone()).chain(rest)
}

/// A UDP socket with buffers as large as the kernel allows.
fn udp(address: SocketAddr) -> std::net::UdpSocket {
    const BUFFER: usize = 4 * 1024 * 1024;
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        None,
    );
    let socket = socket.expect("a socket");
    // The kernel cuts these to its limits.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.bind(&address.into()).expect("bound");
    socket.set_nonblocking(true).expect("a socket");
    socket.into()
}

/// An address to send from to `address`.
fn unbound(address: SocketAddr) -> SocketAddr {
    let ip: std::net::IpAddr = if address.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    SocketAddr::new(ip, 0)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
