//! Silence: what a window is worth after nothing was sent for a while.

use std::time::{Duration, Instant};

use super::{Ack, Sent};
use crate::watch::event::transport::Reaction;

/// The least retransmission timeout that TCP senders use in practice, above the round trip.
const LEAST_VARIANCE: Duration = Duration::from_millis(200);

/// The timeout before the first round trip is known (RFC 6298 section 2.1).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A window decays by half each timeout of silence; more halvings than this leave nothing.
const MOST_HALVINGS: u32 = 63;

/// When the path last carried anything of this sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activity {
    last: Instant,
    timeout: Duration,
}

/// A silence that just ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    /// How long it was.
    pub(super) length: Duration,
    /// How many retransmission timeouts that is, rounded down.
    timeouts: u32,
}

impl Activity {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            last: now,
            timeout: INITIAL_TIMEOUT,
        }
    }

    /// The time since the last event, which this acknowledgement ends.
    pub(super) fn on_ack(&mut self, ack: &Ack) -> Duration {
        // A congestion controller is not told the variance: the round trip again stands for it.
        self.timeout = ack
            .smoothed_rtt
            .saturating_add(ack.smoothed_rtt.max(LEAST_VARIANCE));
        self.advance(ack.now)
    }

    /// The silence that this packet breaks, if it does. It is measured from the last
    /// acknowledgement: a sender with a small window has nothing in flight after each one, and is
    /// not silent for that.
    pub(super) fn on_sent(&mut self, sent: &Sent) -> Option<Silence> {
        if sent.in_flight > 0 || !sent.app_limited {
            return None;
        }
        let length = self.advance(sent.now);
        let timeouts = length.as_nanos() / self.timeout.as_nanos().max(1);
        Some(Silence {
            length,
            timeouts: u32::try_from(timeouts).unwrap_or(u32::MAX),
        })
    }

    fn advance(&mut self, now: Instant) -> Duration {
        let length = now.saturating_duration_since(self.last);
        self.last = self.last.max(now);
        length
    }
}

impl Silence {
    /// Whether the window is outdated (RFC 5681 section 4.1): it was for more than a timeout.
    pub(super) fn outdates(&self) -> bool {
        self.timeouts > 0
    }

    /// The reaction of who decays its window, for those who watch.
    pub(super) fn reaction(&self) -> Reaction {
        Reaction::Decayed {
            timeouts: self.timeouts,
            silence: self.length,
        }
    }

    /// What is left of a window: half for each timeout, but the initial window in any case
    /// (RFC 2861 section 3).
    pub(super) fn decay(&self, window: u64, initial: u64) -> u64 {
        (window >> self.timeouts.min(MOST_HALVINGS)).max(window.min(initial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::congestion::inputs::{ack, sent};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_window_halves_each_timeout_down_to_the_initial_one() {
        let now = Instant::now();
        for (seconds, left) in [(0, 800_000), (1, 400_000), (3, 100_000), (9_000, 14_720)] {
            let mut activity = Activity::new(now);
            let now = now + Duration::from_secs(seconds);
            let silence = activity.on_sent(&sent(now, 0, true)).unwrap();
            assert_eq!(silence.decay(800_000, 14_720), left);
            assert_eq!(silence.outdates(), seconds > 0);
        }
    }

    #[test]
    fn a_window_below_the_initial_one_stays() {
        let now = Instant::now();
        let mut activity = Activity::new(now);
        let silence = activity
            .on_sent(&sent(now + Duration::from_secs(60), 0, true))
            .unwrap();
        assert_eq!(silence.decay(3_000, 14_720), 3_000);
    }

    #[test]
    fn silence_counts_from_the_last_acknowledgement() {
        let now = Instant::now();
        let mut activity = Activity::new(now);
        activity.on_ack(&ack(now + 900 * MS, 0, 1200));
        let silence = activity.on_sent(&sent(now + 950 * MS, 0, true)).unwrap();
        assert_eq!(silence.length, 50 * MS);
        assert!(!silence.outdates());
    }

    #[test]
    fn a_sender_with_packets_in_flight_or_more_to_send_is_not_silent() {
        let now = Instant::now();
        let mut activity = Activity::new(now);
        let later = now + Duration::from_secs(9);
        assert_eq!(activity.on_sent(&sent(later, 1, true)), None);
        assert_eq!(activity.on_sent(&sent(later, 0, false)), None);
    }
}
