//! The tap: every packet that a role sends, in words.
//!
//! A role calls [`sent`] just **before** it hands a packet to the kernel, so that the order of the
//! events is the order of causes. With nobody watching, a call costs one atomic load: guard
//! anything that has to be computed with [`watched`].
//!
//! The events are `tracing` events of the target [`TARGET`]: `RUST_LOG=labnet::packet=trace` prints
//! them in the log, the demo draws them as its table.

use std::{fmt, net::SocketAddr};

/// The `tracing` target of packet events.
pub const TARGET: &str = "labnet::packet";

/// Whether anybody looks at packets.
#[inline]
pub fn watched() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::TRACE)
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Handed to the kernel.
    Sent,
    /// Lost on purpose by the impairment; the kernel never saw it.
    Lost,
    /// Sent once more, because an earlier copy was lost or late.
    Resent,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "sent",
            Self::Lost => "lost",
            Self::Resent => "resent",
        })
    }
}

/// Tells whoever watches of one packet.
///
/// `role` is the sender's (`client`, `dhcp`, `dns`, `rudp`, `scrap`, `origin`), `protocol` the
/// field's name (`DHCP`, `DNS`, `RUDP`, `TCP`, `HTTP`), `bytes` the payload's size, `meaning` one
/// plain sentence for a student, without a final stop.
pub fn sent(
    role: &'static str,
    protocol: &'static str,
    source: SocketAddr,
    destination: SocketAddr,
    bytes: usize,
    fate: Fate,
    meaning: impl fmt::Display,
) {
    tracing::trace!(
        target: TARGET,
        role,
        protocol,
        %source,
        %destination,
        bytes,
        %fate,
        %meaning,
    );
}
