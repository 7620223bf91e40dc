//! Two namespaces and the bad network between them, made by `labnet link`.

use serde::Deserialize;

use super::support::{Namespace, Running, loopback, request, wait_for};

/// The left end's address.
pub const LEFT: &str = "10.77.0.1";
/// The right end's address.
pub const RIGHT: &str = "10.77.0.2";

/// What the link is like; see `labnet link --help`.
#[derive(Debug, Clone, clap::Args)]
pub struct Shape {
    /// The link's rate
    #[arg(long, value_name = "RATE", default_value = "100mbit")]
    pub rate: String,
    /// Its delay in each direction
    #[arg(long, value_name = "TIME", default_value = "25ms")]
    pub delay: String,
    /// Bytes in the queue before it; the default is one bandwidth-delay product
    #[arg(long, value_name = "BYTES", default_value = "625kB")]
    pub queue: String,
}

/// A link that lasts until it is dropped. The clients are on its left, the senders on its right.
pub struct Link {
    // The link goes before its ends.
    _process: Running,
    /// Where the clients are.
    pub left: Namespace,
    /// Where the servers are.
    pub right: Namespace,
    http: std::net::SocketAddr,
}

/// What a direction has carried.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Way {
    /// Packets handed in.
    pub sent: u64,
    /// Packets that came out.
    pub delivered: u64,
    /// Packets lost.
    pub lost: Lost,
    /// The most bytes that were in the queue at once.
    pub queued_bytes_max: u64,
}

/// Packets lost, by reason.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Lost {
    /// On the wire.
    pub random: u64,
    /// At the queue.
    pub queue: u64,
}

/// Both directions.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Counters {
    /// From left to right.
    pub up: Way,
    /// From right to left.
    pub down: Way,
}

impl Link {
    /// A new one, with nothing in it and nothing known about it.
    pub fn new(shape: &Shape, loss: f64, seed: u64) -> Self {
        let (left, right) = (Namespace::new("left"), Namespace::new("right"));
        let http = format!("{}:9168", loopback());
        let process = Running::start(
            env!("CARGO_BIN_EXE_labnet"),
            &[
                "link",
                "--netns",
                &left.name,
                &right.name,
                "--rate",
                &shape.rate,
                "--delay",
                &shape.delay,
                "--queue",
                &shape.queue,
                "--loss",
                &loss.to_string(),
                "--seed",
                &seed.to_string(),
                "--http",
                &http,
            ],
        );
        let http = http.parse().expect("an address");
        let link = Self {
            _process: process,
            left,
            right,
            http,
        };
        wait_for("the link", || link.try_counters());
        link
    }

    /// What it has carried so far.
    pub fn counters(&self) -> Counters {
        self.try_counters().expect("the link runs")
    }

    fn try_counters(&self) -> Option<Counters> {
        let (code, body) = request(self.http, "GET", "/counters");
        (code == 200).then(|| serde_json::from_str(&body).expect("counters"))
    }
}
