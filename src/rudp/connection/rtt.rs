//! The round trip of a path (RFC 9002 section 5).

use std::time::{Duration, Instant};

/// The round trip assumed before the first sample (RFC 9002 section 6.2.2).
pub(super) const INITIAL_RTT: Duration = Duration::from_millis(333);
/// The finest that timers are told apart (RFC 9002 section 6.1.2).
const GRANULARITY: Duration = Duration::from_millis(1);

/// The estimate of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    min: Duration,
    first_sample: Option<Instant>,
}

impl Rtt {
    /// No sample yet: what depends on the round trip takes [`INITIAL_RTT`] for it.
    pub(super) fn new() -> Self {
        Self {
            latest: INITIAL_RTT,
            smoothed: INITIAL_RTT,
            variation: INITIAL_RTT / 2,
            min: INITIAL_RTT,
            first_sample: None,
        }
    }

    /// Takes a sample: the time from sending the largest newly acknowledged packet to its
    /// acknowledgement, which came `now`. The peer says that it held it back for `ack_delay`; once
    /// the handshake is `confirmed`, no more than `max_ack_delay` of that is believed.
    ///
    /// Only for acknowledgements whose largest number is newly acknowledged and that newly
    /// acknowledge an ack-eliciting packet (RFC 9002 section 5.1).
    pub(super) fn update(
        &mut self,
        latest: Duration,
        ack_delay: Duration,
        confirmed: bool,
        max_ack_delay: Duration,
        now: Instant,
    ) {
        self.latest = latest;
        if self.first_sample.is_none() {
            self.first_sample = Some(now);
            self.min = latest;
            self.smoothed = latest;
            self.variation = latest / 2;
            return;
        }
        self.min = self.min.min(latest);
        let ack_delay = match confirmed {
            true => ack_delay.min(max_ack_delay),
            false => ack_delay,
        };
        let adjusted = match latest.checked_sub(ack_delay) {
            Some(adjusted) if adjusted >= self.min => adjusted,
            _ => latest,
        };
        // In the order of appendix A.7: the deviation from the mean before this sample.
        self.variation = self.variation * 3 / 4 + self.smoothed.abs_diff(adjusted) / 4;
        self.smoothed = self.smoothed * 7 / 8 + adjusted / 8;
    }

    /// The smoothed round trip.
    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// How far samples are from the smoothed round trip, smoothed.
    pub(super) fn variation(&self) -> Duration {
        self.variation
    }

    /// The least sample; acknowledgement delays are not subtracted from it.
    pub(super) fn min(&self) -> Duration {
        self.min
    }

    /// The latest sample, as measured.
    pub(super) fn latest(&self) -> Duration {
        self.latest
    }

    /// The latest sample, if there was one.
    pub(super) fn sample(&self) -> Option<Duration> {
        self.first_sample.map(|_| self.latest)
    }

    /// Whether there was a sample. Before, the getters tell what is assumed.
    pub(super) fn has_sample(&self) -> bool {
        self.first_sample.is_some()
    }

    /// When the first sample came: losses of packets sent before tell nothing of persistent
    /// congestion (RFC 9002 section 7.6.2).
    pub(super) fn first_sample(&self) -> Option<Instant> {
        self.first_sample
    }

    /// The probe timeout without its doubling (RFC 9002 section 6.2.1).
    pub(super) fn pto_base(&self, max_ack_delay: Duration) -> Duration {
        let spread = self.variation.saturating_mul(4).max(GRANULARITY);
        self.smoothed
            .saturating_add(spread)
            .saturating_add(max_ack_delay)
    }

    /// How long after its sending a packet is lost, if a later one was acknowledged: this fraction
    /// of a round trip, `(9, 8)` without reordering (RFC 9002 section 6.1.2).
    pub(super) fn loss_delay(&self, (numerator, denominator): (u32, u32)) -> Duration {
        let rtt = self.smoothed.max(self.latest);
        (rtt.saturating_mul(numerator) / denominator.max(1)).max(GRANULARITY)
    }

    /// Forgets smaller round trips than the latest: after persistent congestion the path may be
    /// another (RFC 9002 section 5.2).
    pub(super) fn reset_min(&mut self) {
        self.min = self.latest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_ACK_DELAY: Duration = ms(25);

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn sampled(samples: &[(Duration, Duration)], confirmed: bool) -> Rtt {
        let mut rtt = Rtt::new();
        for &(latest, delay) in samples {
            rtt.update(latest, delay, confirmed, MAX_ACK_DELAY, Instant::now());
        }
        rtt
    }

    #[test]
    fn before_the_first_sample_the_initial_value_holds() {
        let rtt = Rtt::new();
        assert!(!rtt.has_sample());
        assert_eq!(rtt.smoothed(), ms(333));
        // 333 + 4 * 166.5
        assert_eq!(rtt.pto_base(Duration::ZERO), ms(999));
    }

    #[test]
    fn follows_the_formulas_of_rfc_9002() {
        let rtt = sampled(&[(ms(80), ms(20))], true);
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(80), ms(40)));
        assert_eq!(rtt.pto_base(MAX_ACK_DELAY), ms(80 + 4 * 40 + 25));
        let rtt = sampled(&[(ms(80), ms(0)), (ms(170), ms(10))], true);
        // variation 3/4 * 40 + 1/4 * 80, smoothed 7/8 * 80 + 1/8 * 160
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(90), ms(50)));
        assert_eq!((rtt.latest(), rtt.min()), (ms(170), ms(80)));
    }

    #[test]
    fn the_delay_is_believed_up_to_what_the_peer_promised() {
        let samples = [(ms(80), ms(0)), (ms(185), ms(100))];
        assert_eq!(sampled(&samples, true).smoothed(), ms(90));
        // Before the handshake is confirmed, 85 ms are left.
        assert_eq!(sampled(&samples, false).smoothed(), ms(70) + ms(85) / 8);
    }

    #[test]
    fn a_delay_never_makes_a_sample_smaller_than_the_least() {
        let rtt = sampled(&[(ms(80), ms(0)), (ms(88), ms(10))], true);
        assert_eq!(rtt.smoothed(), ms(81));
        assert_eq!(rtt.min(), ms(80));
        let rtt = sampled(&[(ms(80), ms(0)), (ms(88), Duration::MAX)], false);
        assert_eq!(rtt.smoothed(), ms(81));
    }

    #[test]
    fn the_loss_delay_takes_the_larger_round_trip_and_has_a_floor() {
        let rtt = sampled(&[(ms(80), ms(0)), (ms(160), ms(0))], true);
        assert_eq!(rtt.loss_delay((9, 8)), ms(180));
        let rtt = sampled(&[(Duration::from_micros(50), ms(0))], true);
        assert_eq!(rtt.loss_delay((9, 8)), ms(1));
        assert_eq!(rtt.loss_delay((9, 0)), ms(1));
        // 4 * 25 us of variation are below the floor.
        let pto = rtt.pto_base(Duration::ZERO);
        assert_eq!(pto, Duration::from_micros(1050));
    }

    #[test]
    fn the_least_can_start_anew() {
        let mut rtt = sampled(&[(ms(10), ms(0)), (ms(50), ms(0))], true);
        assert!(rtt.first_sample().is_some());
        rtt.reset_min();
        assert_eq!(rtt.min(), ms(50));
    }

    proptest! {
        #[test]
        fn the_smoothed_value_stays_between_the_extremes(
            samples in prop::collection::vec((0..10_000_u64, any::<u64>()), 1..50),
            confirmed: bool,
        ) {
            let samples: Vec<_> = samples
                .into_iter()
                .map(|(latest, delay)| (ms(latest), Duration::from_micros(delay)))
                .collect();
            let rtt = sampled(&samples, confirmed);
            let least = samples.iter().map(|sample| sample.0).min().unwrap_or_default();
            let most = samples.iter().map(|sample| sample.0).max().unwrap_or_default();
            prop_assert_eq!(rtt.min(), least);
            // A division rounds down by less than a nanosecond, and the next ones shrink that.
            let slack = Duration::from_nanos(16);
            prop_assert!(rtt.smoothed() + slack >= least && rtt.smoothed() <= most);
            prop_assert!(rtt.pto_base(MAX_ACK_DELAY) >= rtt.smoothed() + MAX_ACK_DELAY);
            prop_assert!(rtt.loss_delay((9, 8)) >= rtt.latest());
        }
    }
}
