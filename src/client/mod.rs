//! The client: it walks through all roles as a student's program would.
//!
//! `dhcp` and `dns` are sans-IO cores of the [`Exchange`] kind.

pub mod dhcp;
pub mod dns;
mod exchange;

pub use exchange::{Exchange, Transmit};
