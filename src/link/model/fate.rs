use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::link::LinkOptions;

/// What chance decides about one packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fate {
    /// The how-manieth lost in a row it is, from 1.
    pub(super) lost: Option<u32>,
    pub(super) duplicated: bool,
    pub(super) held_back: bool,
    /// The share of the jitter that is added to the delay: -1 to 1.
    pub(super) shift: f64,
    pub(super) damage: Option<Damage>,
    /// The throw, 0 to 1, by which RED decides.
    pub(super) early: f64,
}

/// A change of one byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damage {
    place: u64,
    flip: u8,
}

impl Damage {
    /// Changes one of `bytes` and tells which one, and what it was. Without bytes there is none.
    pub fn strike(self, bytes: &mut [u8]) -> Option<(usize, u8)> {
        // A remainder by a usize's value is one.
        let place = self.place.checked_rem(bytes.len() as u64)? as usize;
        let byte = bytes.get_mut(place)?;
        let before = *byte;
        *byte ^= self.flip;
        Some((place, before))
    }
}

/// Tells the dice of the queue's management apart.
const EARLY: u64 = 0xd1b5_4a32_d192_ed03;

/// The dice of one direction.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Pcg64Mcg,
    /// The queue management's own: what it throws shifts no other throw.
    early: Pcg64Mcg,
    /// Packets lost in a row so far.
    in_a_row: u32,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Pcg64Mcg::seed_from_u64(seed),
            early: Pcg64Mcg::seed_from_u64(seed ^ EARLY),
            in_a_row: 0,
        }
    }

    /// Decides about the next packet. However few of the options are on, a packet takes the same
    /// throws: switching one on or off changes nothing about the others.
    pub(super) fn roll(&mut self, options: &LinkOptions) -> Fate {
        let [loss, duplicate, reorder, shift, corrupt] =
            std::array::from_fn(|_| self.rng.random::<f64>());
        let (place, flip) = (self.rng.random(), self.rng.random::<u64>());
        let lost = loss < options.chance_of_loss(self.in_a_row > 0);
        self.in_a_row = if lost {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
        // A percentage that is no number is never reached.
        let hit = |throw: f64, percent: f64| throw * 100.0 < percent;
        Fate {
            lost: lost.then_some(self.in_a_row),
            duplicated: hit(duplicate, options.duplicate),
            held_back: hit(reorder, options.reorder),
            shift: 2.0 * shift - 1.0,
            damage: hit(corrupt, options.corrupt).then_some(Damage {
                place,
                // Never 0, which would change nothing.
                flip: (flip % 255) as u8 + 1,
            }),
            early: self.early.random(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(options: &LinkOptions, seed: u64, packets: usize) -> Vec<bool> {
        let mut dice = Dice::new(seed);
        (0..packets)
            .map(|_| dice.roll(options).lost.is_some())
            .collect()
    }

    /// Share lost in percent, and the mean length of a run of losses.
    fn share_and_run(losses: &[bool]) -> (f64, f64) {
        let lost = losses.iter().filter(|lost| **lost).count() as f64;
        let ends = losses.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
        (lost * 100.0 / losses.len() as f64, lost / ends)
    }

    #[test]
    fn losses_come_in_bursts_of_the_length_asked_for() {
        for (loss, burst) in [(5.0, 3.0), (1.0, 8.0), (30.0, 3.0), (2.0, 1.0), (80.0, 5.0)] {
            let options = LinkOptions {
                loss,
                burst: Some(burst),
                ..LinkOptions::default()
            };
            let (share, run) = share_and_run(&losses(&options, 7, 400_000));
            assert!((share / loss - 1.0).abs() < 0.05, "{loss} %: {share} %");
            assert!((run / burst - 1.0).abs() < 0.05, "{burst} long: {run}");
        }
    }

    #[test]
    fn without_bursts_losses_are_independent() {
        let options = LinkOptions {
            loss: 30.0,
            ..LinkOptions::default()
        };
        let (share, run) = share_and_run(&losses(&options, 1, 400_000));
        assert!((share - 30.0).abs() < 0.5, "{share}");
        // The mean run of independent losses is 1 / (1 - p).
        assert!((run - 1.0 / 0.7).abs() < 0.02, "{run}");
    }

    #[test]
    fn an_option_changes_no_other_fate() {
        let few = LinkOptions {
            loss: 10.0,
            ..LinkOptions::default()
        };
        let many = LinkOptions {
            duplicate: 50.0,
            corrupt: 50.0,
            reorder: 50.0,
            ..few
        };
        assert_eq!(losses(&few, 3, 10_000), losses(&many, 3, 10_000));
        assert_ne!(losses(&few, 3, 10_000), losses(&few, 4, 10_000));
    }

    #[test]
    fn damage_changes_one_byte_if_there_is_one() {
        let options = LinkOptions {
            corrupt: 100.0,
            ..LinkOptions::default()
        };
        let mut dice = Dice::new(5);
        for length in 1..300_usize {
            let mut payload = vec![0_u8; length];
            let damage = dice.roll(&options).damage.expect("always");
            let (place, before) = damage.strike(&mut payload).expect("a byte");
            assert_eq!(
                (payload.iter().filter(|byte| **byte != 0).count(), before),
                (1, 0)
            );
            assert_ne!(payload[place], 0);
        }
        let damage = dice.roll(&options).damage.expect("always");
        assert_eq!(damage.strike(&mut []), None);
    }

    #[test]
    fn nonsense_has_no_effect() {
        let options = LinkOptions {
            loss: f64::NAN,
            burst: Some(f64::NAN),
            duplicate: f64::NAN,
            corrupt: -1.0,
            reorder: f64::NEG_INFINITY,
            ..LinkOptions::default()
        };
        let mut dice = Dice::new(5);
        for _ in 0..1000 {
            let fate = dice.roll(&options);
            assert!(
                !(fate.lost.is_some()
                    || fate.duplicated
                    || fate.held_back
                    || fate.damage.is_some())
            );
        }
    }
}
