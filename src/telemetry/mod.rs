//! What can be seen of the lab from outside.

mod dropped_total;
mod labels;
mod link_packets;
mod link_queue;
pub mod logging;
mod metrics;
mod process;
mod session_series;
mod stdio;

pub(crate) use labels::labels;
pub use link_packets::LinkPackets;
pub use link_queue::LinkQueue;
pub use metrics::{Metrics, SESSION, TRANSFER};
pub use session_series::{OpenSeries, SessionKind, SessionSeries};
pub use stdio::{complain, print};
