//! What happens in the story.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    ending::Ending,
    home::Ports,
    row::{Chapter, Packet},
    seen::Seen,
};
use crate::{
    cli::explain::arp::Arp,
    client::units::{Latency, Rate, Size},
};

/// What the roles and the client tell of themselves.
#[derive(Debug)]
pub(super) enum Happening {
    /// A chapter begins.
    Chapter(Chapter),
    /// A packet is sent.
    Packet(Instant, Packet),
    /// A packet has come through a NAT.
    Seen(Instant, Seen),
    /// The proxy sees the transport's connection come from another address and port than before.
    Moved(Instant, SocketAddr, SocketAddr),
    /// The NAT has forgotten its notes, so long after the files began, and takes these ports from now on.
    Forgot(Instant, Duration, Ports),
    /// The kernels look for hardware addresses.
    Arp(Instant, Arp),
    /// A file has arrived at the client.
    Arrived(Transfer),
    /// Lines that are no part of the table.
    Text(String),
    /// The client is home.
    Ending(Ending),
    /// Nothing more will happen.
    End,
}

/// A file that has come, as a whole.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    /// Its name.
    pub(super) name: String,
    /// Bytes that came.
    pub(super) bytes: u64,
    /// While they came.
    pub(super) took: Duration,
}

impl Transfer {
    /// In a line for people.
    pub(super) fn in_words(&self) -> String {
        format!(
            "    ⋮  that was {}: {} in {}, {}",
            self.name,
            Size(self.bytes),
            Latency(self.took),
            Rate::new(self.bytes, self.took)
        )
    }

    /// As a line of JSON.
    pub(super) fn as_json(&self) -> String {
        json!({
            "type": "transfer",
            "name": self.name,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
        })
        .to_string()
    }
}
