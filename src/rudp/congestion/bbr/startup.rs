//! Startup and Drain: finding the bandwidth, and the end of the queue that this built.

use std::time::{Duration, Instant};

use super::{
    Bbr, Rate, Sample, State, UNBOUNDED,
    evidence::Train,
    gains::{STARTUP_PACING_GAIN, WINDOW_GAIN},
};

/// The gain once the spacing of acknowledgements showed the bottleneck: still more than the growth
/// that a pipe that is not full brings.
const APPROACH_GAIN: f64 = 1.35;

/// Half of it drains in one round trip what a doubling built.
const DRAIN_PACING_GAIN: f64 = 0.5;

/// Drain ends after so many round trips at the latest.
const DRAIN_ROUNDS: u64 = 3;

/// A round trip must bring so much more for the pipe not to be full.
const GROWTH: f64 = 1.25;

/// So many round trips without growth mean a full pipe.
const ROUNDS_WITHOUT_GROWTH: u32 = 3;

/// So many separate ranges must be lost in a round trip for Startup to end by loss.
const FULL_LOSS_RANGES: u32 = 6;

/// The full-pipe estimator (section 5.3.1.2).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FullPipe {
    /// Once true, always true, but for an undone loss.
    pub(super) reached: bool,
    /// Since it was reset.
    pub(super) now: bool,
    pub(super) bw: Rate,
    pub(super) rounds: u32,
}

impl FullPipe {
    /// `ResetFullBW`; `bw` is the new baseline.
    pub(super) fn reset(&mut self, bw: Rate) {
        self.bw = bw;
        self.rounds = 0;
        self.now = false;
    }
}

impl Bbr {
    pub(super) fn enter_startup(&mut self) {
        self.train = Train::default();
        self.state = State::Startup;
        self.pacing_gain = STARTUP_PACING_GAIN;
        self.window_gain = WINDOW_GAIN;
    }

    /// In Startup, how fast to send at most once the bottleneck showed.
    pub(super) fn startup_cap(&self) -> Option<Rate> {
        let seen = self.train.rate()?.max(self.max_bw.get());
        (self.state == State::Startup).then_some((seen as f64 * APPROACH_GAIN) as Rate)
    }

    pub(super) fn check_full_pipe(&mut self, sample: &Sample) {
        if self.full_pipe.now || !self.round_start || sample.app_limited {
            return;
        }
        let Some(rate) = sample.rate else {
            return;
        };
        if rate as f64 >= self.full_pipe.bw as f64 * GROWTH {
            self.full_pipe.reset(rate);
            return;
        }
        self.full_pipe.rounds += 1;
        if self.full_pipe.rounds >= ROUNDS_WITHOUT_GROWTH {
            self.full_pipe.now = true;
            self.full_pipe.reached = true;
        }
    }

    pub(super) fn check_startup_done(&mut self, sample: &Sample) {
        self.check_startup_loss(sample);
        if self.state != State::Startup {
            return;
        }
        if self.queue.is_built() && self.full_pipe.rounds >= 1 {
            self.full_pipe.reached = true;
        }
        if self.full_pipe.reached {
            self.enter_drain();
        }
    }

    /// `CheckStartupHighLoss`, at the end of each round trip of loss recovery.
    fn check_startup_loss(&mut self, sample: &Sample) {
        if !self.loss_round_start {
            return;
        }
        let marked = std::mem::take(&mut self.mark_in_round);
        let ranges = std::mem::take(&mut self.loss_ranges);
        if self.state != State::Startup || self.full_pipe.reached {
            return;
        }
        let lossy = self.recovery_until.is_some()
            && ranges >= FULL_LOSS_RANGES
            && self.is_inflight_too_high(sample.lost, sample.tx_in_flight);
        if lossy || marked {
            self.undo.state = Some(State::Startup);
            self.full_pipe.reached = true;
            self.inflight_longterm = self.bdp(1.0).max(self.inflight_latest);
        }
    }

    pub(super) fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.pacing_gain = DRAIN_PACING_GAIN;
        self.window_gain = WINDOW_GAIN;
        self.drain_start_round = self.round;
    }

    pub(super) fn check_drain_done(&mut self, now: Instant) {
        if self.state == State::Drain
            && (self.in_flight <= self.inflight(1.0)
                || self.round > self.drain_start_round + DRAIN_ROUNDS)
        {
            self.window_gain = WINDOW_GAIN;
            self.start_down(now);
            if self.inflight_longterm != UNBOUNDED {
                self.probe_wait = Duration::ZERO;
            }
        }
    }
}
