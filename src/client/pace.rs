//! How fast a download goes, and when it will be there.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::units::Rate;

/// The rate is that of the last so long: a person wants to see it change.
const LATELY: Duration = Duration::from_secs(5);
/// So far apart are the moments that are remembered.
const APART: Duration = Duration::from_millis(100);
/// Before so much time has passed there is no rate to speak of.
const SOON: Duration = Duration::from_millis(300);

/// The bytes of one download that came over the network now: what an earlier one left on the disk
/// took no time, and counts for nothing.
#[derive(Debug, Clone)]
pub struct Pace {
    /// How much of the file was there, and when; the newest last.
    moments: VecDeque<(Instant, u64)>,
    /// How much is there.
    here: u64,
}

impl Pace {
    /// A download that goes on with `here` bytes of the file.
    pub fn new(here: u64, now: Instant) -> Self {
        Self {
            moments: VecDeque::from([(now, here)]),
            here,
        }
    }

    /// So much of the file is there now.
    pub fn note(&mut self, here: u64, now: Instant) {
        let newest = self.moments.back().map(|(at, _)| *at);
        self.here = here;
        if newest.is_none_or(|at| now.saturating_duration_since(at) >= APART) {
            self.moments.push_back((now, here));
        }
        while let Some((next, _)) = self.moments.get(1)
            && now.saturating_duration_since(*next) >= LATELY
        {
            self.moments.pop_front();
        }
    }

    /// How fast the bytes came of late, once that can be told.
    pub fn rate(&self, now: Instant) -> Option<Rate> {
        let (since, there) = *self.moments.front()?;
        let time = now.saturating_duration_since(since);
        (time >= SOON).then(|| Rate::new(self.here.saturating_sub(there), time))
    }

    /// How long the rest of a file of `length` bytes takes at this rate; `None` if that can't be told.
    pub fn left(&self, length: u64, now: Instant) -> Option<Duration> {
        let rate = self.rate(now)?.bytes_per_second();
        let left = length.saturating_sub(self.here) as f64;
        Duration::try_from_secs_f64((left / rate).ceil()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    /// A pace of so many bytes a second from `here` on, noted each 10 ms for `seconds`.
    fn go(pace: &mut Pace, start: Instant, here: u64, per_second: u64, seconds: u64) -> Instant {
        for tick in 1..=seconds * 100 {
            let now = start + Duration::from_millis(10 * tick);
            pace.note(here + per_second * tick / 100, now);
        }
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_there_before_counts_for_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(40 * MB, start);
        assert_eq!(pace.rate(start), None);
        let now = go(&mut pace, start, 40 * MB, 6 * MB, 1);
        assert_eq!(pace.rate(now).expect("one").to_string(), "6 MB/s");
        // Four of ten are missing.
        assert_eq!(pace.left(50 * MB, now), Some(Duration::from_secs(1)));
        assert_eq!(pace.left(70 * MB, now), Some(Duration::from_secs(4)));
    }

    #[test]
    fn it_is_the_rate_of_late_and_falls_when_nothing_comes() {
        let start = Instant::now();
        let mut pace = Pace::new(0, start);
        let now = go(&mut pace, start, 0, MB, 20);
        let now = go(&mut pace, now, 20 * MB, 4 * MB, 6);
        assert_eq!(pace.rate(now).expect("one").to_string(), "4 MB/s");
        let later = now + Duration::from_secs(15);
        assert_eq!(pace.rate(later).expect("one").to_string(), "1 MB/s");
        pace.note(44 * MB, later);
        let much_later = later + Duration::from_secs(6);
        pace.note(44 * MB, much_later);
        assert_eq!(pace.left(50 * MB, much_later), None, "it stands still");
    }

    #[test]
    fn it_remembers_a_bounded_number_of_moments() {
        let start = Instant::now();
        let mut pace = Pace::new(0, start);
        go(&mut pace, start, 0, MB, 60);
        assert!(pace.moments.len() <= 52, "{}", pace.moments.len());
    }
}
