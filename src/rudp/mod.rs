//! The reliable-UDP proxy: `signal` is the text protocol, `requester` a client's side of it.
//!
//! All but the actors are sans-IO cores: time comes in as an argument, datagrams go in and out as
//! bytes.

mod actor;
mod counters;
pub mod endpoint;
mod fetch;
mod flight;
mod history;
pub mod meaning;
pub mod output;
mod request;
pub mod requester;
mod rtt;
pub mod session;
mod session_actor;
pub mod signal;

pub use actor::{Kept, RudpEndpoint};
pub use requester::Requester;
pub use session_actor::RudpSession;

/// A session remembers the answers of at least so many ids; a client has no more under way.
const REMEMBERED: usize = 64;
