use std::time::Duration;

use crate::rudp::{congestion::Algorithm, packet::Protection};

/// How connections of one endpoint behave.
#[derive(Debug, Clone)]
pub struct Config {
    /// What controls our sending.
    pub congestion: Algorithm,
    /// The initial congestion window in bytes; `None`: the algorithm's own.
    pub initial_window: Option<u64>,
    /// A connection that hears nothing for so long ends. The peer may want it earlier.
    pub idle_timeout: Duration,
    /// A PING is sent when nothing was heard for so long.
    pub keep_alive: Option<Duration>,
    /// How many bytes of one stream the peer may send beyond what was read.
    pub stream_window: u64,
    /// How many bytes of all streams together.
    pub connection_window: u64,
    /// How many streams the peer may have open at a time.
    pub max_streams: u64,
    /// The largest datagram that is tried, UDP payload bytes. At least 1200.
    pub max_datagram: u16,
    /// How long an acknowledgement may wait for company.
    pub max_ack_delay: Duration,
    /// How packets are protected.
    pub protection: Protection,
}

impl Config {
    /// The largest UDP payload that an Ethernet carries with an IPv4 header.
    pub const ETHERNET_IPV4: u16 = 1472;
    /// The same with an IPv6 header.
    pub const ETHERNET_IPV6: u16 = 1452;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            congestion: Algorithm::default(),
            initial_window: None,
            idle_timeout: Duration::from_secs(60),
            keep_alive: None,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            max_streams: 64,
            max_datagram: Self::ETHERNET_IPV4,
            // RFC 9000 section 18.2.
            max_ack_delay: Duration::from_millis(25),
            protection: Protection::Checksum,
        }
    }
}
