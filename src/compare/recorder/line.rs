//! A series that grows while a run lasts.

use crate::compare::series::{MOST_POINTS, Series};

/// A series that keeps itself short.
#[derive(Debug, Default)]
pub(super) struct Line(Series);

impl Line {
    pub(super) fn push(&mut self, at: f64, value: f64) {
        self.0.push(at, value);
        if self.0.values.len() >= 4 * MOST_POINTS {
            self.0.decimate(MOST_POINTS);
        }
    }

    /// A point, if there is a value.
    pub(super) fn push_some(&mut self, at: f64, value: Option<f64>) {
        if let Some(value) = value {
            self.push(at, value);
        }
    }

    pub(super) fn finish(&self) -> Series {
        let mut series = self.0.clone();
        series.decimate(MOST_POINTS);
        series
    }
}
