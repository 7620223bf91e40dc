//! What a sender says that tells how it stands only when it is asked.

use std::time::Duration;

/// How a sender stands that tells it only when it is asked: the kernel's TCP, quinn.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// The congestion window, bytes.
    pub window: u64,
    /// The slow-start threshold, bytes.
    pub ssthresh: Option<u64>,
    /// Bytes in flight.
    pub in_flight: Option<u64>,
    /// The round trip, TCP's as the kernel smooths it; zero: there is no new one.
    pub rtt: Duration,
    /// Bits a second at which it may send.
    pub pacing: Option<f64>,
    /// The controller's phase.
    pub phase: Option<&'static str>,
}

/// What such a sender has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets sent that carried data.
    pub packets: Option<u64>,
    /// Bytes of those that were sent again.
    pub again_bytes: Option<u64>,
    /// Packets taken for lost.
    pub lost: Option<u64>,
}
