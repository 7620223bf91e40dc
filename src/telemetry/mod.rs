//! What can be seen of the lab from outside.

pub mod api;
mod link_packets;
pub mod logging;
mod metrics;
pub mod packets;
mod process;
mod roster;
mod stdio;

pub use link_packets::LinkPackets;
pub use metrics::Metrics;
pub use roster::{Member, Roster, State};
pub use stdio::{complain, print};
