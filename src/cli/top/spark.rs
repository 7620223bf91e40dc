//! Sparklines: a quantity over the last minute in a row of characters.

use std::collections::VecDeque;

/// So many seconds a sparkline shows.
pub(super) const SPAN: f64 = 60.0;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A quantity's mean over a piece of time, in seconds of any one clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) value: f64,
}

/// What is remembered of a quantity: the last [`SPAN`].
#[derive(Debug, Clone, Default)]
pub(super) struct Trail(VecDeque<Piece>);

impl Trail {
    /// Adds the newest piece and forgets what is too old to be shown.
    pub(super) fn push(&mut self, piece: Piece) {
        self.0.push_back(piece);
        while self.0.front().is_some_and(|old| old.to <= piece.to - SPAN) {
            self.0.pop_front();
        }
    }

    /// The largest value.
    pub(super) fn most(&self) -> f64 {
        self.0.iter().map(|piece| piece.value).fold(0.0, f64::max)
    }

    /// The [`SPAN`] before `now` in `width` characters, the newest right: each the mean of its part, in eighths
    /// of `full`; blank where nothing is known.
    pub(super) fn draw(&self, now: f64, width: usize, full: f64) -> String {
        let step = SPAN / width.max(1) as f64;
        let begin = now - SPAN;
        (0..width)
            .map(|column| {
                let from = begin + step * column as f64;
                self.mean(from, from + step)
                    .map_or(' ', |mean| bar(mean, full))
            })
            .collect()
    }

    fn mean(&self, from: f64, to: f64) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for piece in &self.0 {
            let shared = piece.to.min(to) - piece.from.max(from);
            if shared > 0.0 {
                sum += piece.value * shared;
                weight += shared;
            }
        }
        // Of a part that is hardly known nothing is said.
        (weight > 0.25 * (to - from)).then(|| sum / weight)
    }
}

fn bar(value: f64, full: f64) -> char {
    let eighths = if full > 0.0 {
        (value / full * 8.0).ceil()
    } else {
        1.0
    };
    BARS[(eighths.clamp(1.0, 8.0) as usize) - 1]
}

/// The least 1, 2 or 5 times a power of ten that is not below `most`: what a full bar stands for.
pub(super) fn round_up(most: f64) -> f64 {
    if most.is_nan() || most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits = |step: &f64| step * power >= most * (1.0 - 1e-9);
    steps.into_iter().find(fits).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_is_the_mean_of_its_time() {
        let mut trail = Trail::default();
        for second in 0..8 {
            let from = 52.0 + f64::from(second);
            trail.push(Piece {
                from,
                to: from + 1.0,
                value: f64::from(second + 1),
            });
        }
        assert_eq!(trail.draw(60.0, 60, 8.0).trim_start(), "▁▂▃▄▅▆▇█");
        assert_eq!(trail.draw(60.0, 30, 8.0), format!("{:26}▂▄▆█", ""));
        // A character that is not on the grid of the samples has its share of both.
        assert_eq!(trail.draw(60.5, 60, 8.0).trim_start(), "▁▂▃▄▅▆▇██");
        assert_eq!(trail.most(), 8.0);
        assert_eq!(trail.draw(60.0, 0, 8.0), "");
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut trail = Trail::default();
        for second in 0..200 {
            let from = f64::from(second);
            trail.push(Piece {
                from,
                to: from + 1.0,
                value: 1.0,
            });
        }
        assert_eq!(trail.0.len(), 60);
        let zero = Piece {
            from: 200.0,
            to: 201.0,
            value: 0.0,
        };
        trail.push(zero);
        assert!(trail.draw(201.0, 60, 1.0).ends_with("█▁"));
    }

    #[test]
    fn a_scale_is_a_round_number() {
        for (most, full) in [
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (1.0, 1.0),
            (1.01, 2.0),
            (19.3e6, 20e6),
            (20e6, 20e6),
            (20.1e6, 50e6),
            (5.1e8, 1e9),
            (0.03, 0.05),
        ] {
            let told = round_up(most);
            assert!((told / full - 1.0).abs() < 1e-9, "{most}: {told}");
        }
    }
}
