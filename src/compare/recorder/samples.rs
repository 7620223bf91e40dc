//! Times that were measured, and how they spread.

use std::time::Duration;

use crate::compare::outcome::Spread;

/// Times, each of which counts, in microseconds.
#[derive(Debug, Default, Clone)]
pub(super) struct Samples(Vec<u32>);

impl Samples {
    pub(super) fn push(&mut self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.0.push(micros);
    }

    pub(super) fn last(&self) -> Option<Duration> {
        let micros = self.0.last()?;
        Some(Duration::from_micros((*micros).into()))
    }

    /// The middle and the upper end; `None` of nothing.
    pub(super) fn spread(&self) -> Option<Spread> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // The nearest rank: the least value that so large a part does not exceed.
        let at = |part: f64| {
            let rank = (part * sorted.len() as f64).ceil() as usize;
            let value = sorted.get(rank.saturating_sub(1))?;
            Some(f64::from(*value) / 1e6)
        };
        Some(Spread {
            p50: at(0.5)?,
            p95: at(0.95)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut samples = Samples::default();
        assert_eq!(samples.spread(), None);
        for millis in (1..=100).rev() {
            samples.push(Duration::from_millis(millis));
        }
        let spread = samples.spread().expect("some");
        assert_eq!((spread.p50, spread.p95), (0.05, 0.095));
        let mut one = Samples::default();
        one.push(Duration::from_millis(7));
        let spread = one.spread().expect("one");
        assert_eq!((spread.p50, spread.p95), (0.007, 0.007));
    }
}
