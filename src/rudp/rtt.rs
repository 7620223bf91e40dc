//! Round trip and retransmission timeout, after RFC 6298 with the constants of a lab's network.

use std::time::Duration;

/// The timeout before the first measurement. RFC 6298 says a second, for the whole Internet.
const INITIAL: Duration = Duration::from_millis(300);
/// The shortest timeout: above the delays that schedulers of busy machines add.
const MIN: Duration = Duration::from_millis(100);
/// How far doubling goes, unless the path itself is slower.
const MAX: Duration = Duration::from_secs(1);

/// The estimate of one path.
#[derive(Debug, Clone, Default)]
pub(super) struct Rtt {
    smoothed: Option<Smoothed>,
    doublings: u32,
}

#[derive(Debug, Clone, Copy)]
struct Smoothed {
    mean: Duration,
    variation: Duration,
}

impl Rtt {
    /// Takes a measurement (RFC 6298 section 2) and ends the doubling. Only of a signal that was
    /// sent once: of one that was sent again nobody knows which copy was answered (Karn's
    /// algorithm, section 3).
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.doublings = 0;
        self.smoothed = Some(match self.smoothed {
            None => Smoothed {
                mean: rtt,
                variation: rtt / 2,
            },
            Some(Smoothed { mean, variation }) => Smoothed {
                variation: (variation * 3 + mean.abs_diff(rtt)) / 4,
                mean: (mean * 7 + rtt) / 8,
            },
        });
    }

    /// Doubles the timeout (RFC 6298 section 5.5). It stays so until the next measurement.
    pub(super) fn back_off(&mut self) {
        self.doublings = (self.doublings + 1).min(16);
    }

    /// How long to wait for an answer before sending again.
    pub(super) fn timeout(&self) -> Duration {
        let base = self.base();
        let longest = MAX.max(base * 2);
        base.saturating_mul(1 << self.doublings).min(longest)
    }

    /// The same without the doubling.
    pub(super) fn base(&self) -> Duration {
        self.smoothed
            .map_or(INITIAL, |Smoothed { mean, variation }| {
                (mean + variation * 4).max(MIN)
            })
    }

    /// The smoothed round trip, `None` before the first measurement.
    pub(super) fn mean(&self) -> Option<Duration> {
        self.smoothed.map(|smoothed| smoothed.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn follows_the_formulas_of_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), INITIAL);
        rtt.sample(ms(80));
        assert_eq!(rtt.mean(), Some(ms(80)));
        assert_eq!(rtt.timeout(), ms(80 + 4 * 40));
        rtt.sample(ms(160));
        // variation 3/4 * 40 + 1/4 * 80 = 50, mean 7/8 * 80 + 1/8 * 160 = 90
        assert_eq!(rtt.mean(), Some(ms(90)));
        assert_eq!(rtt.timeout(), ms(90 + 4 * 50));
    }

    #[test]
    fn doubles_up_to_a_bound_and_comes_back_with_a_measurement() {
        let mut rtt = Rtt::default();
        rtt.sample(ms(1));
        assert_eq!(rtt.timeout(), MIN);
        rtt.back_off();
        assert_eq!(rtt.timeout(), MIN * 2);
        (0..40).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(), MAX);
        rtt.sample(ms(1));
        assert_eq!(rtt.timeout(), MIN);
    }

    #[test]
    fn a_path_slower_than_the_bound_still_doubles_once() {
        let mut rtt = Rtt::default();
        rtt.sample(ms(1500));
        let base = rtt.timeout();
        assert!(base > MAX);
        (0..40).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(), base * 2);
    }
}
