//! A value over time, and what keeps it short enough to be drawn.

use serde::{Deserialize, Serialize};

/// No series has more points: twice the pixels of a wide screen, so that none is seen to be missing.
pub const MOST_POINTS: usize = 4000;

/// A value over the time since the run's start, in order of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// When, seconds after the run's start.
    pub at_seconds: Vec<f64>,
    /// What it was then, in the base unit that the series' field names.
    pub values: Vec<f64>,
}

impl Series {
    /// One of these points, in order of time, of which at most [`MOST_POINTS`] are kept.
    pub fn new(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut series = Self::default();
        for (at, value) in points {
            series.push(at, value);
        }
        series.decimate(MOST_POINTS);
        series
    }

    /// A point more. One that is not a number is left out: there is nothing to draw.
    pub fn push(&mut self, at_seconds: f64, value: f64) {
        if at_seconds.is_finite() && value.is_finite() {
            self.at_seconds.push(at_seconds);
            self.values.push(value);
        }
    }

    /// Its points.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = (f64, f64)> + Clone {
        let times = self.at_seconds.iter().copied();
        times.zip(self.values.iter().copied())
    }

    /// Whether it has no point.
    pub fn is_empty(&self) -> bool {
        self.at_seconds.is_empty()
    }

    /// The largest value.
    pub fn max(&self) -> Option<f64> {
        self.values.iter().copied().reduce(f64::max)
    }

    /// When its last point is.
    pub fn end(&self) -> Option<f64> {
        self.at_seconds.last().copied()
    }

    /// Leaves at most `most` points: of each stretch of time the first, the least, the largest and the
    /// last, so that no extreme is lost and what is drawn through them goes where it went.
    pub fn decimate(&mut self, most: usize) {
        const OF_EACH: usize = 4;
        let count = self.values.len();
        if count <= most.max(OF_EACH) {
            return;
        }
        let (Some(&first), Some(&last)) = (self.at_seconds.first(), self.at_seconds.last()) else {
            return;
        };
        let stretches = (most / OF_EACH).max(1);
        let width = (last - first) / stretches as f64;
        let stretch = |at: f64| {
            if width > 0.0 {
                (((at - first) / width) as usize).min(stretches - 1)
            } else {
                0
            }
        };
        let mut kept = Self::default();
        let mut from = 0;
        while from < count {
            let own = stretch(self.at_seconds[from]);
            let rest = &self.at_seconds[from..];
            let length = rest.iter().take_while(|at| stretch(**at) == own).count();
            // Its own stretch is its first point's, so there is one.
            let to = from + length.max(1);
            let by = |a: &usize, b: &usize| self.values[*a].total_cmp(&self.values[*b]);
            let least = (from..to).min_by(by).unwrap_or(from);
            let largest = (from..to).max_by(by).unwrap_or(from);
            let mut chosen = [from, least, largest, to - 1];
            chosen.sort_unstable();
            let mut before = None;
            for index in chosen {
                if before != Some(index) {
                    kept.push(self.at_seconds[index], self.values[index]);
                }
                before = Some(index);
            }
            from = to;
        }
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_ends_and_its_extremes() {
        let value = |index: usize| match index {
            40_013 => 9000.0,
            71_117 => -50.0,
            _ => (index as f64 / 500.0).sin() * 100.0,
        };
        let all: Vec<(f64, f64)> = (0..100_000)
            .map(|index| (index as f64 / 1000.0, value(index)))
            .collect();
        let series = Series::new(all.iter().copied());
        assert!(
            series.values.len() <= MOST_POINTS,
            "{}",
            series.values.len()
        );
        assert!(series.values.len() > MOST_POINTS / 3);
        let points: Vec<(f64, f64)> = series.points().collect();
        assert_eq!(points.first(), all.first());
        assert_eq!(points.last(), all.last());
        assert!(points.contains(&all[40_013]) && points.contains(&all[71_117]));
        assert!(
            points.iter().all(|point| all.contains(point)),
            "one is made up"
        );
        assert!(
            points.is_sorted_by(|a, b| a.0 < b.0),
            "out of order, or twice"
        );
    }

    #[test]
    fn a_short_series_and_one_at_a_single_time_are_left_in_peace() {
        let short = Series::new([(0.0, 1.0), (0.5, f64::NAN), (1.0, 2.0)]);
        assert_eq!(short.values, [1.0, 2.0]);
        let mut at_once = Series::default();
        (0..10_000).for_each(|value| at_once.push(3.0, f64::from(value)));
        at_once.decimate(100);
        assert_eq!(at_once.values, [0.0, 9999.0]);
        assert_eq!(Series::new([]), Series::default());
    }
}
