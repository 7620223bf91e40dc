//! The reliable-UDP proxy and a client's side of its protocol.
//!
//! ```text
//!            +--------------------------- RudpEndpoint -+      +----- RudpSession (one a client) -+
//!  datagrams |  socket -> endpoint (which session?) ----|----->|  session -> output ---> socket   |--> answers
//!            +------------------------------------------+ one  |     |  ^                         |
//!                                                     message  |     v  | fetch                   |
//!                                                     a batch  +-----|--|-------------------------+
//!                                                                    v  |  TCP
//!                                                                  the scraper
//! ```
//!
//! `signal` is the text protocol itself, `session` the server's rules for it (with `history`, what
//! was answered), `requester` the client's (with `flight` and `rtt`, when to send again). These
//! are sans-IO cores: time comes in as an argument, datagrams go in and out as bytes. The actors,
//! `fetch` and `counters` are their shell.

mod actor;
pub mod congestion;
pub mod connection;
pub mod connections;
pub mod endpoint;
pub mod exchange;
mod fetch;
mod flight;
mod history;
pub mod listener;
pub mod meaning;
pub mod output;
pub mod packet;
mod request;
pub mod requester;
mod rtt;
pub mod serve;
pub mod session;
pub mod signal;

pub use actor::{Kept, RudpConnection, RudpEndpoint, RudpSession, link_options};
pub use requester::Requester;

/// A session remembers the answers of at least so many ids; a client has no more under way.
const REMEMBERED: usize = 64;
