//! What the model means for the pacing rate and the window.

use std::time::Duration;

use super::{Bbr, Rate, Sample, State, UNBOUNDED, gains::STARTUP_PACING_GAIN};
use crate::watch::event::transport::{Bound, Reaction};

/// Sending a hundredth slower than the bandwidth keeps queues from standing.
const PACING_MARGIN: f64 = 0.99;

/// The window never falls below so many packets, so that the peer always has two to acknowledge.
const FLOOR_PACKETS: u64 = 4;

/// How many round trips the degree of aggregation is remembered.
const EXTRA_ACKED_ROUNDS: u64 = 10;

/// Timers and schedulers are no finer than this.
const TIMER: Duration = Duration::from_millis(1);

/// The draft's nominal round trip until one is measured.
const NOMINAL_RTT: Duration = Duration::from_millis(1);

fn volume(rate: Rate, time: Duration, gain: f64) -> u64 {
    (rate as f64 * time.as_secs_f64() * gain) as u64
}

impl Bbr {
    /// The least window.
    pub(super) fn floor(&self) -> u64 {
        FLOOR_PACKETS.saturating_mul(self.mtu)
    }

    pub(super) fn init_pacing_rate(&mut self, rtt: Option<Duration>) {
        let rtt = rtt.unwrap_or(NOMINAL_RTT).max(Duration::from_micros(1));
        let nominal = self.initial_window as f64 / rtt.as_secs_f64();
        self.pacing_rate = (STARTUP_PACING_GAIN * nominal) as u64;
    }

    pub(super) fn set_pacing_rate(&mut self) {
        self.set_pacing_rate_with_gain(self.pacing_gain);
    }

    pub(super) fn set_pacing_rate_with_gain(&mut self, gain: f64) {
        let arriving = 1.0 - self.made_up_loss();
        let rate = (gain * self.bw as f64 * PACING_MARGIN / arriving) as u64;
        if (self.full_pipe.reached && rate > 0) || rate > self.pacing_rate {
            self.pacing_rate = rate;
        }
        if let Some(cap) = self.startup_cap() {
            self.pacing_rate = self.pacing_rate.min(cap);
        }
    }

    /// The share of losses that the pacing rate makes up for: less the more of a queue stands, for
    /// then what is sent does match the bandwidth.
    fn made_up_loss(&self) -> f64 {
        let tolerated = self.min_rtt.unwrap_or_default() / 8;
        let queue = self.queue.standing().min(tolerated).as_secs_f64();
        let tolerated = tolerated.as_secs_f64();
        match tolerated > 0.0 {
            true => self.ambient_loss() * (1.0 - queue / tolerated),
            false => 0.0,
        }
    }

    fn bdp_at(&self, bw: Rate, gain: f64) -> u64 {
        match self.min_rtt {
            Some(rtt) => volume(bw, rtt, gain),
            None => self.initial_window,
        }
    }

    /// `BDPMultiple`: what the path holds without a queue, times `gain`.
    pub(super) fn bdp(&self, gain: f64) -> u64 {
        self.bdp_at(self.bw, gain)
    }

    /// What must be in flight for the rate to be kept although timers are coarse: the offload budget.
    pub(super) fn timer_budget(&self, bw: Rate, gain: f64) -> u64 {
        volume(bw, TIMER, gain)
    }

    fn quantized(&self, inflight: u64, budget: u64) -> u64 {
        let inflight = inflight.max(budget).max(self.floor());
        match self.state {
            State::Up => inflight.saturating_add(2 * self.mtu),
            _ => inflight,
        }
    }

    /// `Inflight`: the volume for `gain` times the bandwidth.
    pub(super) fn inflight(&self, gain: f64) -> u64 {
        self.inflight_at(self.bw, gain)
    }

    pub(super) fn inflight_at(&self, bw: Rate, gain: f64) -> u64 {
        self.quantized(self.bdp_at(bw, gain), self.timer_budget(bw, gain))
    }

    /// What should be in flight: what the path holds, unless congestion cut the window.
    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp(1.0).min(self.window)
    }

    pub(super) fn max_inflight(&self) -> u64 {
        let mut inflight = self
            .bdp(self.window_gain)
            .saturating_add(self.extra_acked.get());
        if let Some(cap) = self.startup_window_cap() {
            inflight = inflight.min(cap);
        }
        self.quantized(inflight, self.timer_budget(self.bw, self.window_gain))
    }

    /// In Startup, the window at most once the bottleneck showed.
    fn startup_window_cap(&self) -> Option<u64> {
        Some(volume(self.startup_cap()?, self.min_rtt?, 1.0))
    }

    /// How much more is acknowledged at once than the bandwidth explains.
    pub(super) fn update_aggregation(&mut self, sample: &Sample) {
        let interval = sample.now.saturating_duration_since(self.extra_acked_since);
        let mut expected = volume(self.bw, interval, 1.0);
        if self.extra_acked_delivered <= expected {
            self.extra_acked_delivered = 0;
            self.extra_acked_since = sample.now;
            expected = 0;
        }
        self.extra_acked_delivered = self
            .extra_acked_delivered
            .saturating_add(sample.newly_acked);
        let extra = self
            .extra_acked_delivered
            .saturating_sub(expected)
            .min(self.window);
        let rounds = match self.full_pipe.reached {
            true => EXTRA_ACKED_ROUNDS,
            false => 1,
        };
        self.extra_acked.update(self.round, extra, rounds);
    }

    pub(super) fn set_window(&mut self, newly_acked: u64) {
        let max_inflight = self.max_inflight();
        if self.full_pipe.reached {
            self.window = self.window.saturating_add(newly_acked).min(max_inflight);
        } else if self.window < max_inflight || self.delivered < self.initial_window {
            self.window = self.window.saturating_add(newly_acked);
        }
        self.window = self.window.max(self.floor());
        self.bound_window();
    }

    /// The bounds that ProbeRTT and losses set.
    pub(super) fn bound_window(&mut self) {
        if self.state == State::ProbeRtt {
            self.window = self.window.min(self.probe_rtt_window());
        }
        let cap = self
            .window_cap()
            .min(self.inflight_shortterm)
            .max(self.floor());
        self.window = self.window.min(cap);
    }

    /// What the state bounds the window by.
    fn window_cap(&self) -> u64 {
        match self.state {
            State::Down | State::Refill | State::Up => self.inflight_longterm,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(),
            State::Startup => self.startup_window_cap().unwrap_or(UNBOUNDED),
            State::Drain => UNBOUNDED,
        }
    }

    /// Why the window is what it was just made, for those who watch.
    pub(super) fn reaction_by_model(&self) -> Reaction {
        Reaction::Model {
            bandwidth: self.bw,
            min_rtt: self.min_rtt.unwrap_or_default(),
            bound: self.bound(),
        }
    }

    /// Which of the bounds the window is at.
    fn bound(&self) -> Bound {
        let bytes = self.window;
        if bytes <= self.floor() {
            return Bound::Least { bytes };
        }
        if bytes == self.inflight_shortterm {
            return Bound::ShortTerm { bytes };
        }
        if self.state == State::ProbeRtt && bytes == self.probe_rtt_window() {
            return Bound::ProbeRtt { bytes };
        }
        match self.state {
            State::Startup if bytes == self.window_cap() => Bound::Startup { bytes },
            _ if bytes == self.window_cap() => Bound::LongTerm { bytes },
            _ => Bound::Model { bytes },
        }
    }

    pub(super) fn save_window(&mut self) {
        self.prior_window = match self.recovery_until.is_none() && self.state != State::ProbeRtt {
            true => self.window,
            false => self.prior_window.max(self.window),
        };
    }

    pub(super) fn restore_window(&mut self) {
        self.window = self.window.max(self.prior_window);
    }
}
