//! How files fare that share one connection.

use std::time::{Duration, Instant};

use super::outcome;

/// What has come of each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// A pause between two pieces of a file that is longer is one in which the file stood still.
    pause: Duration,
    each: Vec<One>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct One {
    /// When its last piece came.
    last: Option<Instant>,
    stood_still: Duration,
    whole: Option<Instant>,
}

impl Files {
    /// So many, of which nothing has come; `pause` is a round trip of the empty link.
    pub fn new(count: usize, pause: Duration) -> Self {
        Self {
            pause,
            each: vec![One::default(); count],
        }
    }

    /// A piece of one of them was read; `whole`: it was the last one.
    pub fn came(&mut self, file: usize, at: Instant, whole: bool) {
        let Some(one) = self.each.get_mut(file) else {
            return;
        };
        let waited = one.last.map(|last| at.saturating_duration_since(last));
        one.stood_still += waited.filter(|time| *time > self.pause).unwrap_or_default();
        one.last = Some(at);
        if whole {
            one.whole.get_or_insert(at);
        }
    }

    /// How they fared; times count from `began`.
    pub fn fared(&self, began: Instant) -> outcome::Files {
        let seconds = |at: Instant| at.saturating_duration_since(began).as_secs_f64();
        let whole = self.each.iter().filter_map(|one| one.whole);
        let mut whole: Vec<f64> = whole.map(seconds).collect();
        whole.sort_by(f64::total_cmp);
        let all = whole.len() == self.each.len();
        let stood_still: Duration = self.each.iter().map(|one| one.stood_still).sum();
        outcome::Files {
            count: self.each.len(),
            first_whole_seconds: whole.first().copied(),
            median_whole_seconds: outcome::median(whole.clone()).filter(|_| all),
            last_whole_seconds: whole.last().copied().filter(|_| all),
            stood_still_seconds: stood_still.as_secs_f64() / self.each.len().max(1) as f64,
        }
    }
}

/// The pieces of files of one size that take turns on one stream, a packet's worth of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// How many files.
    pub count: u64,
    /// Bytes of each.
    pub size: u64,
    /// Bytes of a turn.
    pub piece: u64,
}

impl Turns {
    /// To which file the byte at this place of the stream belongs, where its turn ends, and whether the file
    /// ends there, too.
    pub fn at(&self, place: u64) -> (u64, u64, bool) {
        let round = self.count * self.piece;
        let last = self.size.saturating_sub(1) / self.piece;
        let number = (place / round).min(last);
        let piece = if number == last {
            self.size - last * self.piece
        } else {
            self.piece
        };
        let file = (place - number * round) / piece;
        let end = number * round + (file + 1) * piece;
        (file, end, number == last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_stream_belongs_to_one_file() {
        for (count, size, piece) in [(3, 10, 4), (1, 7, 3), (4, 8, 4), (2, 3, 5)] {
            let turns = Turns { count, size, piece };
            let (mut place, mut bytes) = (0, vec![0; count as usize]);
            let mut whole = Vec::new();
            while place < count * size {
                let (file, end, is_last) = turns.at(place);
                assert!(end > place && end - place <= piece);
                assert_eq!(turns.at(end - 1), (file, end, is_last));
                bytes[file as usize] += end - place;
                assert_eq!(is_last, bytes[file as usize] == size);
                whole.extend(is_last.then_some(file));
                place = end;
            }
            assert_eq!(place, count * size);
            assert_eq!(whole, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_file_stands_still_while_it_waits_for_longer_than_a_round_trip() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut files = Files::new(2, Duration::from_millis(50));
        for (file, millis) in [(0, 100), (1, 110), (0, 150), (1, 210), (0, 300)] {
            files.came(file, at(millis), false);
        }
        files.came(0, at(310), true);
        let fared = files.fared(began);
        assert_eq!(fared.count, 2);
        assert_eq!(fared.first_whole_seconds, Some(0.31));
        assert_eq!(
            (fared.median_whole_seconds, fared.last_whole_seconds),
            (None, None)
        );
        // 150 ms of the first, 100 ms of the second.
        assert_eq!(fared.stood_still_seconds, 0.125);
        files.came(1, at(510), true);
        let fared = files.fared(began);
        let near = |is: Option<f64>, says: f64| (is.expect("all came") - says).abs() < 1e-9;
        assert!(near(fared.median_whole_seconds, 0.41), "{fared:?}");
        assert!(near(fared.last_whole_seconds, 0.51), "{fared:?}");
        assert!(near(Some(fared.stood_still_seconds), 0.275), "{fared:?}");
    }
}
