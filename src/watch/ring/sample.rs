//! How a sender stood over a while.

use std::time::{Duration, Instant};

use crate::watch::event::transport::State;

/// How the sender stood over a while. Times are microseconds: there are many samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the while began.
    pub from: Instant,
    /// The window at its end.
    pub window: u64,
    /// The least window in it.
    pub window_min: u64,
    /// The largest window in it.
    pub window_max: u64,
    /// The slow-start threshold at its end.
    pub ssthresh: Option<u64>,
    /// The most bytes in flight in it.
    pub in_flight_max: u64,
    /// The pace at its end.
    pub pacing_rate: u64,
    /// The smoothed round trip at its end; zero until one was measured, as the next two.
    pub rtt_us: u64,
    /// The shortest round trip in it.
    pub rtt_min_us: u64,
    /// The longest round trip in it.
    pub rtt_max_us: u64,
    /// The controller's phase at its end.
    pub phase: &'static str,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Sample {
    pub(super) fn new(from: Instant, state: &State) -> Self {
        Self {
            from,
            window: state.window,
            window_min: state.window,
            window_max: state.window,
            ssthresh: state.ssthresh,
            in_flight_max: state.in_flight_max,
            pacing_rate: state.pacing_rate,
            // Until a round trip has been measured, the smoothed one is an assumption, which is not kept.
            rtt_us: match state.latest_rtt {
                Duration::ZERO => 0,
                _ => micros(state.smoothed_rtt),
            },
            rtt_min_us: micros(state.latest_rtt),
            rtt_max_us: micros(state.longest_rtt),
            phase: state.phase,
        }
    }

    /// This sample and `later`, the next one, as one.
    pub(in crate::watch) fn join(&self, later: &Self) -> Self {
        Self {
            from: self.from,
            window_min: self.window_min.min(later.window_min),
            window_max: self.window_max.max(later.window_max),
            in_flight_max: self.in_flight_max.max(later.in_flight_max),
            rtt_min_us: match (self.rtt_min_us, later.rtt_min_us) {
                (0, measured) | (measured, 0) => measured,
                (one, other) => one.min(other),
            },
            rtt_max_us: self.rtt_max_us.max(later.rtt_max_us),
            ..*later
        }
    }
}
