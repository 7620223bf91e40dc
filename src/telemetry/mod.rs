//! What can be seen of the lab from outside.

pub mod api;
mod metrics;
pub mod packets;

pub use metrics::Metrics;
