use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

/// Random Early Detection (Floyd and Jacobson 1993), in the "gentle" form (Floyd 2000): tells which
/// packets that come to a queue are to be dropped, or marked, the more probably the longer the queue is
/// in the mean.
///
/// ```text
/// probability
///   1 |                         _/ from here on all
///     |                      _/
///     |                   _/
/// 0.1 |            ___.--'
///   0 |___________/
///     +----------+------+--------+---- mean length
///            limit/6  limit/2  limit
/// ```
#[derive(Debug, Default)]
pub(super) struct Red {
    /// The mean length of the queue, bytes.
    average: f64,
    /// Packets taken since the last that was dropped or marked, or since the mean rose above the lower
    /// threshold.
    count: u32,
    /// The transmitter has had nothing to do since then.
    idle_since: Option<Instant>,
}

/// What RED says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing.
    Take,
    /// It is to be marked, or dropped.
    Signal,
    /// It is to be dropped, whether it could be marked or not: marks alone have not helped (RFC 3168
    /// section 7).
    Drop,
}

/// How much the present counts in the mean.
const WEIGHT: f64 = 0.002;
/// The probability at the upper threshold.
const MAX_P: f64 = 0.1;
/// Of a queue's size the lower threshold; the upper is three times as far (Floyd 1997), and twice that
/// is the queue's whole size: above it the gentle form drops all.
const MIN_THRESHOLD: f64 = 1.0 / 6.0;
const MAX_THRESHOLD: f64 = 3.0 * MIN_THRESHOLD;
/// A packet as others are, by which a silence is measured.
const TYPICAL: f64 = 1500.0;

impl Red {
    /// The transmitter has nothing to do any more.
    pub(super) fn on_idle(&mut self, now: Instant) {
        self.idle_since.get_or_insert(now);
    }

    /// A packet comes to a queue where `waiting` of `limit` bytes wait for `rate`. `throw` is 0 to 1.
    pub(super) fn arrives(
        &mut self,
        now: Instant,
        (waiting, limit): (usize, usize),
        rate: NonZeroU64,
        throw: f64,
    ) -> Answer {
        self.average = match self.idle_since.take() {
            // As if so many packets had found it empty as could have been sent meanwhile.
            Some(since) => {
                let silence: Duration = now.saturating_duration_since(since);
                let packets = silence.as_secs_f64() * rate.get() as f64 / (8.0 * TYPICAL);
                self.average * (1.0 - WEIGHT).powf(packets)
            }
            None => self.average + WEIGHT * (waiting as f64 - self.average),
        };
        let probability = probability(self.average / (limit as f64).max(1.0));
        if probability <= 0.0 {
            self.count = 0;
            return Answer::Take;
        }
        // Evenly spread: the gap to the next is as probable at each length up to 1 / probability.
        let left = 1.0 - f64::from(self.count) * probability;
        if left > 0.0 && throw >= probability / left {
            self.count = self.count.saturating_add(1);
            return Answer::Take;
        }
        self.count = 0;
        match probability > MAX_P {
            true => Answer::Drop,
            false => Answer::Signal,
        }
    }

    /// The mean, whole bytes.
    pub(super) fn average(&self) -> u64 {
        self.average as u64
    }
}

/// Of a queue whose mean length is this share of its size.
fn probability(share: f64) -> f64 {
    if share < MIN_THRESHOLD {
        0.0
    } else if share < MAX_THRESHOLD {
        MAX_P * (share - MIN_THRESHOLD) / (MAX_THRESHOLD - MIN_THRESHOLD)
    } else {
        let beyond = (share - MAX_THRESHOLD) / MAX_THRESHOLD;
        (MAX_P + (1.0 - MAX_P) * beyond).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const RATE: NonZeroU64 = NonZeroU64::new(12_000_000).expect("some");
    const LIMIT: usize = 60_000;

    /// What it says of 100,000 packets that find so many bytes waiting.
    fn answers(waiting: usize) -> [usize; 2] {
        let now = Instant::now();
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let mut red = Red {
            average: waiting as f64,
            ..Red::default()
        };
        let mut counts = [0; 2];
        for _ in 0..100_000 {
            match red.arrives(now, (waiting, LIMIT), RATE, rng.random()) {
                Answer::Take => {}
                Answer::Signal => counts[0] += 1,
                Answer::Drop => counts[1] += 1,
            }
        }
        counts
    }

    #[test]
    fn the_probability_grows_between_the_thresholds() {
        for (share, expected) in [
            (0.0, 0.0),
            (0.16, 0.0),
            (1.0 / 3.0, 0.05),
            (0.5, 0.1),
            (0.75, 0.55),
            (1.0, 1.0),
            (2.0, 1.0),
        ] {
            let is = probability(share);
            assert!((is - expected).abs() < 1e-9, "{share}: {is}");
        }
        assert_eq!(answers(9_900), [0, 0]);
        // Gaps are 1 to 1 / p, each as probable: (1 / p + 1) / 2 in the mean.
        for (waiting, p) in [(12_000, 0.01), (20_000, 0.05), (29_000, 0.095)] {
            let [signals, drops] = answers(waiting);
            let expected = 100_000.0 * 2.0 * p / (1.0 + p);
            let off = signals as f64 / expected - 1.0;
            assert!(off.abs() < 0.05, "{waiting}: {signals}, not {expected}");
            assert_eq!(drops, 0);
        }
        // Above the upper threshold marks would not help.
        let [signals, drops] = answers(45_000);
        assert_eq!(signals, 0);
        assert!(drops > 55_000, "{drops}");
        assert_eq!(answers(61_000), [0, 100_000]);
    }

    #[test]
    fn the_mean_follows_slowly_and_forgets_in_silence() {
        let now = Instant::now();
        let mut red = Red::default();
        // A burst of 30 fills half the queue: its mean hardly moves.
        for packet in 0..30 {
            let answer = red.arrives(now, (packet * 1000, LIMIT), RATE, 0.0);
            assert_eq!(answer, Answer::Take);
        }
        assert!((700..900).contains(&red.average()), "{}", red.average());
        red.average = 20_000.0;
        red.on_idle(now);
        red.on_idle(now + Duration::from_millis(300));
        // 500 packets of 1 ms: e^-1 of it is left.
        let later = now + Duration::from_millis(500);
        assert_eq!(red.arrives(later, (0, LIMIT), RATE, 0.0), Answer::Take);
        assert!((7_300..7_400).contains(&red.average()), "{}", red.average());
    }
}
