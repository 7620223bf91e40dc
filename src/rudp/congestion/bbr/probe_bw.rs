//! ProbeBW: the cycle of slowing down, cruising, refilling the pipe and probing for more.

use std::time::{Duration, Instant};

use rand::Rng as _;

use super::{Bbr, Sample, State, UNBOUNDED, gains::WINDOW_GAIN};

const DOWN_PACING_GAIN: f64 = 0.9;
const UP_PACING_GAIN: f64 = 1.25;
const UP_WINDOW_GAIN: f64 = 2.25;
/// The draft's is 2, which in a queue of what the path holds leaves loss-based senders nothing.
const CRUISE_WINDOW_GAIN: f64 = 1.5;

/// With a queue, a round trip of probing must bring so much more to go on.
const QUEUE_GROWTH: f64 = 1.1;

/// After so many round trips: the first one's acknowledgements are still for what was sent before.
const ROUNDS_IN_QUEUE: u32 = 2;

/// The share of `inflight_longterm` that is left to others.
const HEADROOM: f64 = 0.15;

/// After so many round trips a Reno flow of the same window would have probed too.
const RENO_ROUNDS: u64 = 63;

/// What the acknowledgements that arrive now are the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckPhase {
    /// To no probing.
    Init,
    /// To the refilling of the pipe.
    Refilling,
    /// Not yet to the probing that has begun.
    ProbeStarting,
    /// To the probing.
    ProbeFeedback,
    /// Still to the probing that has ended.
    ProbeStopping,
}

impl Bbr {
    pub(super) fn start_down(&mut self, now: Instant) {
        self.reset_congestion_signals();
        self.probe_up_acked_per_increase = UNBOUNDED;
        self.pick_probe_wait();
        self.cycle_at = now;
        self.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::Down;
        self.pacing_gain = DOWN_PACING_GAIN;
        self.window_gain = WINDOW_GAIN;
    }

    pub(super) fn start_cruise(&mut self) {
        self.state = State::Cruise;
        self.pacing_gain = 1.0;
        self.window_gain = CRUISE_WINDOW_GAIN;
    }

    pub(super) fn start_refill(&mut self) {
        self.reset_short_term_model();
        self.probe_up_rounds = 0;
        self.probe_up_acked = 0;
        self.probe_precautionary = false;
        self.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::Refill;
        self.pacing_gain = 1.0;
        self.window_gain = WINDOW_GAIN;
    }

    fn start_up(&mut self, sample: &Sample) {
        self.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.full_pipe.reset(sample.rate.unwrap_or(0));
        self.state = State::Up;
        self.pacing_gain = UP_PACING_GAIN;
        self.window_gain = UP_WINDOW_GAIN;
        self.raise_inflight_longterm_slope();
    }

    pub(super) fn update_probe_bw_phase(&mut self, sample: &Sample) {
        if !self.full_pipe.reached {
            return;
        }
        if self.adapt_long_term_model(sample) {
            return;
        }
        match self.state {
            State::Down => {
                if self.is_time_to_probe(sample.now) {
                    self.start_refill();
                } else if self.is_time_to_cruise() {
                    self.start_cruise();
                }
            }
            State::Cruise => {
                if self.is_time_to_probe(sample.now) {
                    self.start_refill();
                }
            }
            State::Refill => {
                if self.round_start {
                    self.probe_samples = true;
                    self.start_up(sample);
                }
            }
            State::Up => {
                if self.is_time_to_go_down(sample) {
                    self.probe_too_high = false;
                    self.start_down(sample.now);
                }
            }
            State::Startup | State::Drain | State::ProbeRtt => {}
        }
    }

    /// Whether it is time to go from Down to Cruise.
    fn is_time_to_cruise(&self) -> bool {
        self.in_flight <= self.inflight_with_headroom()
            && self.in_flight <= self.inflight_at(self.max_bw.get(), 1.0)
    }

    fn is_time_to_go_down(&mut self, sample: &Sample) -> bool {
        if self.probe_too_high && self.in_flight >= self.inflight_longterm {
            self.probe_precautionary = true;
            return true;
        }
        if self.full_pipe.rounds >= ROUNDS_IN_QUEUE
            && self.queue.is_seen()
            && sample
                .rate
                .is_some_and(|rate| (rate as f64) < self.full_pipe.bw as f64 * QUEUE_GROWTH)
        {
            return true;
        }
        if self.is_window_limited() && self.window >= self.inflight_longterm {
            self.full_pipe.reset(sample.rate.unwrap_or(0));
            return false;
        }
        self.full_pipe.now
    }

    fn is_time_to_probe(&self, now: Instant) -> bool {
        let reno_rounds = (self.target_inflight() / self.mtu).min(RENO_ROUNDS);
        now.saturating_duration_since(self.cycle_at) > self.probe_wait
            || self.rounds_since_probe_up >= reno_rounds
    }

    fn pick_probe_wait(&mut self) {
        let random = self.random.next_u64();
        self.rounds_since_probe_up = random & 1;
        self.probe_wait =
            Duration::from_secs(2) + Duration::from_nanos((random >> 1) % 1_000_000_000);
    }

    /// The window that leaves others some room.
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        if self.inflight_longterm == UNBOUNDED {
            return UNBOUNDED;
        }
        let headroom = ((HEADROOM * self.inflight_longterm as f64) as u64).max(self.mtu);
        self.inflight_longterm
            .saturating_sub(headroom)
            .max(self.floor())
    }

    fn raise_inflight_longterm_slope(&mut self) {
        let growth = 1_u64 << self.probe_up_rounds.min(30);
        self.probe_up_rounds = (self.probe_up_rounds + 1).min(30);
        self.probe_up_acked_per_increase = (self.window / growth).max(self.mtu);
    }

    fn probe_inflight_longterm_upward(&mut self, sample: &Sample) {
        if !self.is_window_limited() || self.window < self.inflight_longterm {
            return;
        }
        self.probe_up_acked = self.probe_up_acked.saturating_add(sample.newly_acked);
        let per_increase = self.probe_up_acked_per_increase.max(1);
        let increases = self.probe_up_acked / per_increase;
        self.probe_up_acked -= increases * per_increase;
        self.inflight_longterm = self
            .inflight_longterm
            .saturating_add(increases.saturating_mul(self.mtu));
        if self.round_start {
            self.raise_inflight_longterm_slope();
        }
    }

    /// Follows the acknowledgements through the cycle; true if it started a phase itself.
    fn adapt_long_term_model(&mut self, sample: &Sample) -> bool {
        if self.ack_phase == AckPhase::ProbeStarting && self.round_start {
            self.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.ack_phase == AckPhase::ProbeStopping && self.round_start {
            self.probe_samples = false;
            self.ack_phase = AckPhase::Init;
            if self.in_probe_bw() {
                if !sample.app_limited {
                    self.max_bw.advance();
                }
                if self.probe_precautionary && !self.probe_too_high {
                    self.start_refill();
                    return true;
                }
            }
        }
        if self.inflight_longterm != UNBOUNDED
            && !self.is_inflight_too_high(sample.lost, sample.tx_in_flight)
        {
            self.inflight_longterm = self.inflight_longterm.max(sample.tx_in_flight);
            if self.state == State::Up {
                self.probe_inflight_longterm_upward(sample);
            }
        }
        false
    }
}
