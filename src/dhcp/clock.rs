use std::time::Duration;

/// What the machine's two clocks show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Time since 1970. Somebody may set it, forwards and backwards.
    pub wall: Duration,
    /// Time since some moment in the past. It only ever passes, also while the machine sleeps.
    pub steady: Duration,
}

/// The time that leases live by: wall time as it was when the program started, carried on by the
/// steady clock.
///
/// A lease is a promise for so many seconds. When the wall clock is set, the seconds that are left
/// stay what they are; only the date on which they end has another name. So a step is found here,
/// and every date that is remembered moves by it: leases neither vanish nor last for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What the wall clock showed when the steady one stood at zero, milliseconds.
    origin: i64,
}

/// Smaller differences are the clocks' own: a leap second, the time between two readings.
const TOLERANCE: i64 = 2000;

impl Clock {
    /// A clock that agrees with the wall's.
    pub fn new(reading: Reading) -> Self {
        Self {
            origin: millis(reading.wall).saturating_sub(millis(reading.steady)),
        }
    }

    /// Now, in seconds since 1970.
    pub fn now(&self, steady: Duration) -> u64 {
        let now = self.origin.saturating_add(millis(steady));
        u64::try_from(now / 1000).unwrap_or(0)
    }

    /// By how many seconds the wall clock has been set since this clock agreed with it; none if it
    /// still does.
    pub fn step(&self, reading: Reading) -> Option<i64> {
        let off = Self::new(reading).origin.saturating_sub(self.origin);
        (off.saturating_abs() > TOLERANCE).then_some(off / 1000)
    }

    /// Moves by `seconds`, as all dates must that were told by it.
    pub fn shift(&mut self, seconds: i64) {
        self.origin = self.origin.saturating_add(seconds.saturating_mul(1000));
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn reading(wall: u64, steady: u64) -> Reading {
        Reading {
            wall: Duration::from_secs(wall),
            steady: Duration::from_secs(steady),
        }
    }

    #[test]
    fn the_steady_clock_decides_whatever_the_wall_shows() {
        let mut clock = Clock::new(reading(1_000_000_000, 50));
        assert_eq!(clock.now(Duration::from_secs(60)), 1_000_000_010);
        assert_eq!(clock.step(reading(1_000_000_010, 60)), None);
        assert_eq!(
            clock.step(reading(1_000_000_012, 60)),
            None,
            "a leap second"
        );
        for days in [400, -400_i64] {
            let wall = (1_000_000_010 + days * DAY as i64) as u64;
            let step = clock.step(reading(wall, 60)).expect("a step");
            assert_eq!(step, days * DAY as i64);
            let mut moved = clock;
            moved.shift(step);
            assert_eq!(moved.now(Duration::from_secs(61)), wall + 1);
            assert_eq!(moved.step(reading(wall + 1, 61)), None);
        }
        clock.shift(i64::MIN);
        assert_eq!(clock.now(Duration::ZERO), 0);
    }

    #[test]
    fn many_small_steps_are_followed_as_well() {
        let clock = Clock::new(reading(1000, 0));
        assert_eq!(clock.step(reading(1003, 0)), Some(3));
        assert_eq!(clock.step(reading(997, 0)), Some(-3));
    }
}
