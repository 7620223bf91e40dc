//! What can be seen of the lab from outside.

pub mod api;
mod http;
mod link_packets;
pub mod logging;
mod metrics;
pub mod packets;
mod process;
mod roster;
mod stdio;

pub use http::HttpActor;
pub(crate) use http::{only_from_here, problem};
pub use link_packets::LinkPackets;
pub use metrics::Metrics;
pub use roster::{Member, Roster, State};
pub use stdio::{complain, print};
