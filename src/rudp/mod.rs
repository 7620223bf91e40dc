//! The reliable-UDP proxy: `signal` is the text protocol, `requester` a client's side of it.
//!
//! All but the actors are sans-IO cores: time comes in as an argument, datagrams go in and out as
//! bytes.

mod flight;
pub mod meaning;
mod request;
pub mod requester;
mod rtt;
pub mod signal;

pub use requester::Requester;
