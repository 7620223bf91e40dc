//! Plain inputs for the tests of the controllers.

use std::time::{Duration, Instant};

use super::{Ack, Delivery, Loss, Sent, Start};

pub(super) const MTU: u64 = 1200;
const RTT: Duration = Duration::from_millis(50);

pub(super) fn start(now: Instant) -> Start {
    Start {
        now,
        mtu: MTU,
        rtt: None,
        initial_window: None,
        seed: 1,
    }
}

pub(super) fn ack(now: Instant, largest: u64, bytes: u64) -> Ack {
    Ack {
        now,
        bytes,
        largest,
        largest_sent_at: now,
        next_packet: largest + 1,
        prior_in_flight: bytes,
        in_flight: 0,
        lost: 0,
        app_limited: false,
        rtt: Some(RTT),
        smoothed_rtt: RTT,
        min_rtt: RTT,
        delivery: Delivery::default(),
    }
}

pub(super) fn loss(now: Instant, largest: u64, next_packet: u64) -> Loss {
    Loss {
        now,
        bytes: MTU,
        largest,
        largest_sent_at: now,
        in_flight: 0,
        next_packet,
        persistent: false,
        ecn: false,
    }
}

pub(super) fn sent(now: Instant, in_flight: u64, app_limited: bool) -> Sent {
    Sent {
        now,
        packet: 0,
        bytes: MTU,
        in_flight,
        app_limited,
    }
}
