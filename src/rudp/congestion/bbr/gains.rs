//! Gains that several states share.

/// The least gain of the window that lets the rate double each round trip.
pub(super) const WINDOW_GAIN: f64 = 2.0;

/// Startup's: above 4 ln 2 = 2.77, the least gain that lets the rate double each round trip.
pub(super) const STARTUP_PACING_GAIN: f64 = 4.0;
