//! What comes to a connection, and what it tells the application.

use std::net::{IpAddr, SocketAddr};

use super::StreamEvent;
use crate::rudp::packet::ErrorCode;
pub use crate::watch::event::Ecn;

/// How a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// From whom.
    pub remote: SocketAddr,
    /// To which of our addresses.
    pub local: Option<IpAddr>,
    /// Its ECN mark.
    pub ecn: Option<Ecn>,
}

/// What the application should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done: for a client, streams can be opened; for a server, the client has
    /// shown that it knows.
    Connected,
    /// About a stream.
    Stream(StreamEvent),
    /// The peer is at another address now, and has proven it.
    Moved {
        /// The peer's old address.
        from: SocketAddr,
        /// The peer's new address.
        to: SocketAddr,
    },
    /// A client's probes were in vain, three more of them in a row, whatever else was heard: perhaps its
    /// own address is gone, or a NAT in between has forgotten it, or carries one way alone. See
    /// [`rebound`](super::Connection::rebound).
    Unheard,
    /// The connection is over: nothing more comes.
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// We closed it.
    #[error("closed here: {code}")]
    Local {
        /// The code told to the peer.
        code: ErrorCode,
    },
    /// The peer closed it.
    #[error("closed by the peer: {code}{}{reason}", if .reason.is_empty() { "" } else { ": " })]
    Peer {
        /// Its code.
        code: ErrorCode,
        /// In its words.
        reason: String,
    },
    /// The peer broke the rules.
    #[error("the peer broke the rules ({code}): {problem}")]
    Violation {
        /// The code told to the peer.
        code: ErrorCode,
        /// In words.
        problem: &'static str,
    },
    /// The peer knows nothing of the connection: it was restarted.
    #[error("the peer has lost the connection")]
    Reset,
    /// Nothing was heard for too long.
    #[error("nothing was heard for too long")]
    Idle,
    /// No answer to the first packets.
    #[error("no answer")]
    Handshake,
    /// The peer speaks other versions only.
    #[error("the server speaks other versions of the protocol only")]
    Version,
}
