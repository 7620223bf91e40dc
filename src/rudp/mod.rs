//! The reliable-UDP proxy, a client's side of its signals, and both sides of its binary transport.
//!
//! ```text
//!            +--------------------------- RudpEndpoint -+      +----- RudpSession (one a client) -+
//!  datagrams |  socket -> endpoint (which session?) ----|----->|  session -> output ---> socket   |--> answers
//!            |         \                                | one  +----------------------------------+
//!            |          > listener, connection_table ---|----->+-- RudpConnection (one a client) -+
//!            +------------------------------------------+ mes- |  connection -------> socket      |--> packets
//!                                                      sage a  |    ^ v                           |
//!                                                       batch  |  serve <- source                 |
//!                                                              +-------------|--------------------+
//!                                                     the scraper  <- TCP ---+--- HTTP -> the origin
//! ```
//!
//! Two protocols share the port; the first byte's high bit tells them apart.
//!
//! **The signals.** `signal` is the text protocol itself, `session` the server's rules for it (with
//! `history`, what was answered), `requester` the client's (with `flight` and `rtt`, when to send
//! again). `endpoint` knows whose a datagram is, `allowance` how much may be sent to whom.
//!
//! **The binary transport.** `packet` is the format, written down for a second implementation;
//! `connection` is either side of one connection (its page says where recovery, streams, pacing and
//! paths are), `congestion` what controls its sending; `exchange` is what its streams carry. On a
//! server `listener` is the door, `connection_table` knows whose a packet is and how many there may be,
//! `serve` answers the streams of one connection.
//!
//! `statistics` is what is told of either, one row a number.
//!
//! What many want is shared by their addresses: `places` is a bounded table in which the one that holds
//! most makes room.
//!
//! All these are sans-IO cores: time comes in as an argument, datagrams go in and out as bytes. The
//! actors and `fetch` are their shell; the client's is in `client`.

mod actor;
pub mod allowance;
pub mod congestion;
pub mod connection;
pub mod connection_table;
pub mod endpoint;
pub mod exchange;
mod fetch;
mod flight;
mod history;
pub mod listener;
pub mod output;
pub mod packet;
pub mod places;
mod request;
pub mod requester;
mod rtt;
pub mod serve;
pub mod session;
pub mod signal;
pub mod statistics;
pub mod turns;
mod words;

pub use actor::{Kept, RudpConnection, RudpEndpoint, RudpSession, pump};
pub use flight::Why;
pub use requester::Requester;
pub use words::reader;

/// A session remembers the answers of at least so many ids; a client has no more under way.
const REMEMBERED: usize = 64;
