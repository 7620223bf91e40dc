use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::LinkOptions;

/// The losses of [`LinkOptions`] for packets that have numbers of their own: they fall on the same
/// packets every time, however often one is sent again.
///
/// Whether a copy of a packet is lost depends on the seed, the packet's number and the copy's
/// number alone, never on when it is sent; and of one packet always the first so-and-so many copies
/// are lost, never a later one. So a spurious resend on a busy machine changes nothing about which
/// packets were lost, and how often. Bursts are runs of numbers; a copy is lost or not whatever
/// became of its neighbours' copies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignalLoss {
    /// The probability after a packet that arrived.
    begins: f64,
    /// The probability after a packet that was lost.
    goes_on: f64,
    /// The share of all packets.
    share: f64,
    seed: u64,
}

/// Every so many numbers the model begins anew, so that a fate is found without going back for ever.
/// Bursts do not last longer.
const PERIOD: u64 = 512;

impl SignalLoss {
    /// A link that loses nothing.
    pub const NONE: Self = Self {
        begins: 0.0,
        goes_on: 0.0,
        share: 0.0,
        seed: 0,
    };

    /// A link that loses `percent` of what is sent over it, held to 0 to 100.
    pub fn new(percent: f64, seed: u64) -> Self {
        let options = LinkOptions {
            loss: percent,
            ..LinkOptions::default()
        };
        Self::of(&options, seed)
    }

    /// The loss and the bursts of `options`.
    pub fn of(options: &LinkOptions, seed: u64) -> Self {
        let chance = |probability: f64| {
            if probability.is_nan() {
                0.0
            } else {
                probability.clamp(0.0, 1.0)
            }
        };
        Self {
            begins: chance(options.chance_of_loss(false)),
            goes_on: chance(options.chance_of_loss(true)),
            share: chance(options.loss / 100.0),
            seed,
        }
    }

    /// Whether nothing is ever lost.
    pub fn is_none(&self) -> bool {
        self.share == 0.0
    }

    /// Whether copy number `copy` (the first is 0) of the packet `key` is lost.
    pub fn takes(&self, key: u64, copy: u32) -> bool {
        if self.share == 0.0 {
            return false;
        }
        let mut dice = self.dice(key);
        let first: f64 = dice.random();
        self.takes_first(key, first) && (1..=copy).all(|_| dice.random_bool(self.share))
    }

    /// Gilbert's model without a memory: goes back to a number whose fate does not depend on the
    /// one before it.
    fn takes_first(&self, key: u64, throw: f64) -> bool {
        let surely = self.begins.min(self.goes_on);
        let perhaps = self.begins.max(self.goes_on);
        let (mut key, mut throw) = (key, throw);
        let mut opposite = false;
        loop {
            let decided = if key.is_multiple_of(PERIOD) {
                Some(throw < self.share)
            } else if throw < surely || throw >= perhaps {
                Some(throw < surely)
            } else {
                None
            };
            if let Some(lost) = decided {
                return lost != opposite;
            }
            // In between, its fate is its predecessor's, or the opposite where bursts are short.
            opposite ^= self.begins > self.goes_on;
            key -= 1;
            throw = self.dice(key).random();
        }
    }

    fn dice(&self, key: u64) -> Pcg64Mcg {
        /// Odd, its bits as good as random (2^64 over the golden ratio): neighbouring keys get
        /// seeds far apart.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        Pcg64Mcg::seed_from_u64(self.seed ^ key.wrapping_mul(SPREAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_lost_is_the_share_asked_for() {
        for (percent, seed) in [(5.0, 1), (20.0, 7), (50.0, 3), (80.0, 11)] {
            let loss = SignalLoss::new(percent, seed);
            let lost = (0..10_000).filter(|key| loss.takes(*key, 0)).count();
            let share = lost as f64 / 100.0;
            assert!(
                (share - percent).abs() < 2.0,
                "{percent} % became {share} %"
            );
        }
    }

    #[test]
    fn one_seed_has_one_fate_and_another_seed_another() {
        let fates = |seed| -> Vec<bool> {
            let loss = SignalLoss::new(30.0, seed);
            (290..400).map(|key| loss.takes(key, 0)).collect()
        };
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
    }

    #[test]
    fn a_copy_after_one_that_arrived_arrives_too() {
        let loss = SignalLoss::new(60.0, 5);
        for key in 0..1000 {
            let arrived = (0..)
                .find(|copy| !loss.takes(key, *copy))
                .expect("60 % only");
            assert!((arrived..arrived + 20).all(|copy| !loss.takes(key, copy)));
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert!((0..1000).all(|key| !SignalLoss::NONE.takes(key, 0)));
        assert!((0..1000).all(|key| SignalLoss::new(100.0, 1).takes(key, 9)));
        assert!((0..1000).all(|key| !SignalLoss::new(-3.0, 1).takes(key, 0)));
        assert!((0..1000).all(|key| !SignalLoss::new(f64::NAN, 1).takes(key, 0)));
        assert!((0..1000).all(|key| SignalLoss::new(1e9, 1).takes(key, 0)));
    }

    #[test]
    fn bursts_are_runs_of_numbers_of_the_length_asked_for() {
        for (percent, burst) in [(5.0, 1.0), (20.0, 3.0), (10.0, 8.0), (45.0, 1.0)] {
            let options = LinkOptions {
                loss: percent,
                burst: Some(burst),
                ..LinkOptions::default()
            };
            let loss = SignalLoss::of(&options, 9);
            let fates: Vec<bool> = (1000..41_000).map(|key| loss.takes(key, 0)).collect();
            let lost = fates.iter().filter(|lost| **lost).count();
            let bursts = fates.windows(2).filter(|two| !two[0] && two[1]).count();
            let share = lost as f64 / 400.0;
            let mean = lost as f64 / bursts as f64;
            assert!(
                (share - percent).abs() < 2.0,
                "{percent} % became {share} %"
            );
            assert!((mean / burst - 1.0).abs() < 0.15, "{burst} became {mean}");
            // From whichever number one begins to look.
            assert_eq!(fates[500], loss.takes(1500, 0));
        }
    }

    #[test]
    fn a_link_s_losses_and_these_are_of_one_model() {
        let options = LinkOptions {
            loss: 30.0,
            burst: Some(4.0),
            ..LinkOptions::default()
        };
        let loss = SignalLoss::of(&options, 1);
        let after = |lost_before: bool| {
            let (mut all, mut lost) = (0, 0);
            for key in (1..40_000).filter(|key| loss.takes(key - 1, 0) == lost_before) {
                all += 1;
                lost += u32::from(loss.takes(key, 0));
            }
            f64::from(lost) / f64::from(all)
        };
        assert!((after(true) - options.chance_of_loss(true)).abs() < 0.02);
        assert!((after(false) - options.chance_of_loss(false)).abs() < 0.02);
    }
}
