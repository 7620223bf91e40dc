//! Windowed maxima.

/// The highest value of this cycle and the one before (section 5.5.6).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CycleMax {
    before: u64,
    now: u64,
}

impl CycleMax {
    pub(super) fn get(&self) -> u64 {
        self.before.max(self.now)
    }

    pub(super) fn update(&mut self, value: u64) {
        self.now = self.now.max(value);
    }

    /// A new cycle starts: what the last one but one saw is forgotten. A cycle that saw nothing does
    /// not count.
    pub(super) fn advance(&mut self) {
        if self.now > 0 {
            self.before = self.now;
            self.now = 0;
        }
    }
}

/// The highest value of the last so many rounds, by Kathleen Nichols' algorithm: the best, the second
/// best and the third best, each younger than the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundMax {
    best: [(u64, u64); 3],
}

impl RoundMax {
    pub(super) fn get(&self) -> u64 {
        self.best[0].1
    }

    /// Takes `value`, seen in `round`, and forgets what was seen `length` rounds ago or more.
    pub(super) fn update(&mut self, round: u64, value: u64, length: u64) {
        let new = (round, value);
        let age = |(seen, _): (u64, u64)| round.saturating_sub(seen);
        if value >= self.best[0].1 || age(self.best[2]) >= length {
            self.best = [new; 3];
            return;
        }
        if value >= self.best[1].1 {
            self.best[1] = new;
            self.best[2] = new;
        } else if value >= self.best[2].1 {
            self.best[2] = new;
        }
        if age(self.best[0]) >= length {
            self.best = [self.best[1], self.best[2], new];
            if age(self.best[0]) >= length {
                self.best = [self.best[1], self.best[2], new];
            }
        } else if self.best[1].0 == self.best[0].0 && age(self.best[1]) > length / 4 {
            self.best[1] = new;
            self.best[2] = new;
        } else if self.best[2].0 == self.best[1].0 && age(self.best[2]) > length / 2 {
            self.best[2] = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bandwidth_filter_remembers_two_cycles() {
        let mut max = CycleMax::default();
        max.update(100);
        max.advance();
        max.update(60);
        assert_eq!(max.get(), 100);
        max.advance();
        assert_eq!(max.get(), 60);
    }

    #[test]
    fn a_cycle_without_samples_forgets_nothing() {
        let mut max = CycleMax::default();
        max.update(100);
        max.advance();
        max.advance();
        assert_eq!(max.get(), 100);
    }

    #[test]
    fn the_aggregation_filter_forgets_after_its_rounds() {
        let mut max = RoundMax::default();
        max.update(1, 50, 10);
        for round in 2..11 {
            max.update(round, 20, 10);
            assert_eq!(max.get(), 50, "round {round}");
        }
        max.update(11, 20, 10);
        assert_eq!(max.get(), 20);
    }

    #[test]
    fn a_filter_of_one_round_keeps_the_highest_of_it() {
        let mut max = RoundMax::default();
        max.update(1, 50, 1);
        max.update(1, 20, 1);
        assert_eq!(max.get(), 50);
        max.update(2, 30, 1);
        assert_eq!(max.get(), 30);
    }
}
