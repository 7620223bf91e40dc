//! What can be seen of the lab from outside.

mod link_packets;
pub mod logging;
mod metrics;
pub mod packets;
mod process;
mod stdio;

pub use link_packets::LinkPackets;
pub use metrics::Metrics;
pub use stdio::{complain, print};
