use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A link that loses packets on purpose, the same ones every time.
///
/// Whether a copy of a packet is lost depends on the seed, the packet's key and the copy's number
/// alone, never on when it is sent; and of one packet always the first so-and-so many copies are
/// lost, never a later one. So a spurious resend on a busy machine changes nothing about which
/// packets were lost, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    probability: f64,
    seed: u64,
}

impl Loss {
    /// A link that loses nothing.
    pub const NONE: Self = Self {
        probability: 0.0,
        seed: 0,
    };

    /// A link that loses `percent` of what is sent over it, held to 0 to 100.
    pub fn new(percent: f64, seed: u64) -> Self {
        let probability = if percent.is_nan() {
            0.0
        } else {
            percent / 100.0
        };
        Self {
            probability: probability.clamp(0.0, 1.0),
            seed,
        }
    }

    /// Whether copy number `copy` (the first is 0) of the packet `key` is lost.
    pub fn takes(&self, key: u64, copy: u32) -> bool {
        /// Odd, its bits as good as random (2^64 over the golden ratio): neighbouring keys get
        /// seeds far apart.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        if self.probability == 0.0 {
            return false;
        }
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed ^ key.wrapping_mul(SPREAD));
        (0..=copy).all(|_| rng.random_bool(self.probability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_lost_is_the_share_asked_for() {
        for (percent, seed) in [(5.0, 1), (20.0, 7), (50.0, 3), (80.0, 11)] {
            let loss = Loss::new(percent, seed);
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
            let loss = Loss::new(30.0, seed);
            (290..400).map(|key| loss.takes(key, 0)).collect()
        };
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
    }

    #[test]
    fn a_copy_after_one_that_arrived_arrives_too() {
        let loss = Loss::new(60.0, 5);
        for key in 0..1000 {
            let arrived = (0..)
                .find(|copy| !loss.takes(key, *copy))
                .expect("60 % only");
            assert!((arrived..arrived + 20).all(|copy| !loss.takes(key, copy)));
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert!((0..1000).all(|key| !Loss::NONE.takes(key, 0)));
        assert!((0..1000).all(|key| Loss::new(100.0, 1).takes(key, 9)));
        assert!((0..1000).all(|key| !Loss::new(-3.0, 1).takes(key, 0)));
        assert!((0..1000).all(|key| !Loss::new(f64::NAN, 1).takes(key, 0)));
        assert!((0..1000).all(|key| Loss::new(1e9, 1).takes(key, 0)));
    }
}
