//! The least round trip, and ProbeRTT: sending little for a moment, to see it.

use std::time::{Duration, Instant};

use super::{Bbr, Sample, State, probe_bw::AckPhase};

/// How long the least round trip is believed.
const MIN_RTT_LIFETIME: Duration = Duration::from_secs(10);

/// How long it may go without a new low before it is probed for.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long little is sent.
const DURATION: Duration = Duration::from_millis(200);

const WINDOW_GAIN: f64 = 0.5;

/// A round trip that is longer than the least by less than this fraction of it saw no queue.
const NO_QUEUE: u32 = 64;

impl Bbr {
    pub(super) fn update_min_rtt(&mut self, sample: &Sample) {
        let age = |since: Instant| sample.now.saturating_duration_since(since);
        self.probe_rtt_expired = age(self.probe_rtt_min_at) > INTERVAL;
        if let Some(rtt) = sample.rtt
            && (self.probe_rtt_min.is_none_or(|min| rtt < min) || self.probe_rtt_expired)
        {
            self.probe_rtt_min = Some(rtt);
            self.probe_rtt_min_at = sample.now;
        }
        if let (Some(rtt), Some(least)) = (sample.rtt, self.min_rtt)
            && rtt <= least + least / NO_QUEUE
        {
            self.probe_rtt_min_at = sample.now;
            self.min_rtt_at = sample.now;
        }
        if let Some(rtt) = self.probe_rtt_min
            && (self.min_rtt.is_none_or(|min| rtt < min) || age(self.min_rtt_at) > MIN_RTT_LIFETIME)
        {
            self.min_rtt = Some(rtt);
            self.min_rtt_at = self.probe_rtt_min_at;
        }
    }

    pub(super) fn check_probe_rtt(&mut self, sample: &Sample) {
        if self.state != State::ProbeRtt && self.probe_rtt_expired && !self.idle_restart {
            self.enter_probe_rtt();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(sample.now);
        }
        if sample.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn enter_probe_rtt(&mut self) {
        self.save_window();
        self.state = State::ProbeRtt;
        self.pacing_gain = 1.0;
        self.window_gain = WINDOW_GAIN;
        self.probe_rtt_done_at = None;
        self.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
    }

    /// The samples of what is sent now say nothing of the bandwidth.
    fn mark_held_back(&mut self) {
        let (from, until) = self.held_back;
        let from = match from <= until && until >= self.delivered {
            true => from,
            false => self.delivered,
        };
        self.held_back = (from, self.delivered.saturating_add(self.in_flight));
    }

    fn handle_probe_rtt(&mut self, now: Instant) {
        self.mark_held_back();
        if self.probe_rtt_done_at.is_none() {
            if self.in_flight <= self.probe_rtt_window() {
                self.probe_rtt_done_at = Some(now + DURATION);
                self.probe_rtt_round_done = false;
                self.start_round();
            }
        } else {
            self.probe_rtt_round_done |= self.round_start;
            if self.probe_rtt_round_done {
                self.check_probe_rtt_done(now);
            }
        }
    }

    fn check_probe_rtt_done(&mut self, now: Instant) {
        if self.probe_rtt_done_at.is_some_and(|done| now > done) {
            self.probe_rtt_min_at = now;
            self.restore_window();
            self.exit_probe_rtt(now);
        }
    }

    fn exit_probe_rtt(&mut self, now: Instant) {
        self.reset_short_term_model();
        if self.full_pipe.reached {
            self.start_down(now);
            self.start_cruise();
        } else {
            self.enter_startup();
        }
    }

    pub(super) fn restart_from_idle(&mut self, now: Instant) {
        self.idle_restart = true;
        self.extra_acked_since = now;
        self.extra_acked_delivered = 0;
        if self.in_probe_bw() {
            self.set_pacing_rate_with_gain(1.0);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    /// What ProbeRTT keeps in flight.
    pub(super) fn probe_rtt_window(&self) -> u64 {
        self.bdp(WINDOW_GAIN)
            .max(self.timer_budget(self.bw, WINDOW_GAIN))
            .max(self.floor())
    }

    /// The path may be another one: the next sample is the least round trip.
    pub(super) fn forget_min_rtt(&mut self) {
        self.min_rtt = None;
        self.probe_rtt_min = None;
    }
}
