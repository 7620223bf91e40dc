//! What losses do to the model, and how that is undone if they were none.

use std::time::Instant;

use super::{Bbr, Loss, Lost, Sample, State, UNBOUNDED};

/// The share of a round trip's packets that may get lost while probing.
const LOSS_THRESHOLD: f64 = 0.02;

/// The same if a queue shows: then a loss is most likely an overflow.
const QUEUE_LOSS_THRESHOLD: f64 = 0.005;

/// The same in Startup if no queue shows, and the most in any state.
const STARTUP_LOSS_THRESHOLD: f64 = 0.15;

/// The path's own losses scatter: with a queue, so many standard deviations above their mean are still
/// chance.
const DEVIATIONS: f64 = 3.0;

/// What is left of a bound after a round trip with losses, at least.
const BETA: f64 = 0.7;

/// What the model was before a loss.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Undo {
    /// Whether the loss recovery that goes on was noted here already.
    pub(super) noted: bool,
    /// The state that the loss ended.
    pub(super) state: Option<State>,
    bw_shortterm: u64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
}

fn scale(value: u64, factor: f64) -> u64 {
    (value as f64 * factor) as u64
}

impl Bbr {
    /// From which loss of `tx_in_flight` on, as a share and in bytes on top of it, there is too much
    /// in flight.
    fn loss_threshold(&self, tx_in_flight: u64) -> (f64, u64) {
        let ambient = self.ambient_loss();
        if self.queue.is_seen() {
            let share = QUEUE_LOSS_THRESHOLD + 1.25 * ambient;
            (share, self.scatter(tx_in_flight))
        } else if self.state == State::Startup {
            (STARTUP_LOSS_THRESHOLD, 3 * self.mtu)
        } else {
            (self.tolerated_loss(), self.mtu)
        }
    }

    /// The share that may get lost while no queue shows.
    pub(super) fn tolerated_loss(&self) -> f64 {
        LOSS_THRESHOLD + 2.0 * self.ambient_loss()
    }

    /// By how many bytes chance may raise the path's own losses among `tx_in_flight` above their mean.
    fn scatter(&self, tx_in_flight: u64) -> u64 {
        let mtu = self.mtu as f64;
        let packets = tx_in_flight as f64 / mtu;
        (DEVIATIONS * (packets * self.ambient_loss()).sqrt() * mtu) as u64
    }

    /// Whether `lost` of `tx_in_flight` is too much.
    pub(super) fn is_inflight_too_high(&self, lost: u64, tx_in_flight: u64) -> bool {
        let (share, allowance) = self.loss_threshold(tx_in_flight);
        lost as f64 > tx_in_flight as f64 * share + allowance as f64
    }

    fn handle_inflight_too_high(&mut self, now: Instant, tx_in_flight: u64, app_limited: bool) {
        self.probe_too_high = true;
        self.probe_samples = false;
        if !app_limited {
            self.inflight_longterm = tx_in_flight.max(scale(self.target_inflight(), BETA));
        }
        if self.state == State::Up {
            self.undo.state = Some(State::Up);
            self.start_down(now);
        }
    }

    fn note_loss(&mut self, delivered: u64) {
        if !self.loss_in_round {
            self.loss_round_delivered = delivered;
            self.save_state_upon_loss();
        }
        self.loss_in_round = true;
    }

    pub(super) fn handle_lost_packet(&mut self, packet: &Lost) {
        self.lost = packet.lost;
        self.note_loss(packet.delivered);
        if self
            .last_lost
            .is_none_or(|last| packet.packet != last.wrapping_add(1))
        {
            self.loss_ranges = self.loss_ranges.saturating_add(1);
        }
        self.last_lost = Some(packet.packet);
        if !self.probe_samples {
            return;
        }
        let lost = packet.lost.saturating_sub(packet.lost_when_sent);
        if self.is_inflight_too_high(lost, packet.tx_in_flight) {
            let tx_in_flight = self.inflight_at_loss(packet, lost);
            self.handle_inflight_too_high(packet.now, tx_in_flight, packet.app_limited);
        }
    }

    /// With how much in flight the losses crossed the threshold, maybe within the packet.
    fn inflight_at_loss(&self, packet: &Lost, lost: u64) -> u64 {
        let (share, _) = self.loss_threshold(packet.tx_in_flight);
        let before = packet.tx_in_flight.saturating_sub(packet.bytes);
        let lost_before = lost.saturating_sub(packet.bytes);
        let prefix = (share * before as f64 - lost_before as f64) / (1.0 - share);
        before.saturating_add(prefix.max(0.0) as u64)
    }

    /// The peer saw congestion marks: a router has a queue.
    pub(super) fn handle_mark(&mut self, loss: &Loss) {
        self.note_loss(self.delivered);
        self.mark_in_round = true;
        if self.probe_samples {
            let in_flight = loss.in_flight;
            self.handle_inflight_too_high(loss.now, in_flight, false);
        }
    }

    /// The draft's retransmission timeout: everything was lost for a while.
    pub(super) fn enter_persistent_congestion(&mut self, in_flight: u64) {
        self.save_window();
        self.save_state_upon_loss();
        self.window = in_flight.saturating_add(self.mtu);
        // The path may be another (RFC 9002 section 5.2).
        self.forget_min_rtt();
    }

    pub(super) fn update_latest_delivery_signals(&mut self, sample: &Sample) {
        self.loss_round_start = false;
        self.bw_latest = self.bw_latest.max(sample.rate.unwrap_or(0));
        self.inflight_latest = self.inflight_latest.max(sample.delivered);
        if sample.prior_delivered >= self.loss_round_delivered {
            self.loss_round_delivered = self.delivered;
            self.loss_round_start = true;
        }
    }

    pub(super) fn advance_latest_delivery_signals(&mut self, sample: &Sample) {
        if self.loss_round_start {
            self.bw_latest = sample.rate.unwrap_or(0);
            self.inflight_latest = sample.delivered;
        }
    }

    pub(super) fn reset_congestion_signals(&mut self) {
        self.loss_in_round = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }

    pub(super) fn update_congestion_signals(&mut self, sample: &Sample) {
        if !self.loss_round_start {
            return;
        }
        if self.loss_in_round && !self.is_probing() && self.is_loss_congestion(sample) {
            self.lower_short_term_bounds();
        }
        self.loss_in_round = false;
    }

    /// Whether the round's losses are more than the path's own.
    fn is_loss_congestion(&self, sample: &Sample) -> bool {
        if self.mark_in_round {
            return true;
        }
        if self.queue.is_seen() {
            return sample.lost as f64 > 2.0 * self.ambient_loss() * sample.tx_in_flight as f64;
        }
        self.is_inflight_too_high(sample.lost, sample.tx_in_flight)
    }

    fn lower_short_term_bounds(&mut self) {
        if self.bw_shortterm == UNBOUNDED {
            self.bw_shortterm = self.max_bw.get();
        }
        if self.inflight_shortterm == UNBOUNDED {
            self.inflight_shortterm = self.window;
        }
        self.bw_shortterm = self.bw_latest.max(scale(self.bw_shortterm, BETA));
        self.inflight_shortterm = self
            .inflight_latest
            .max(scale(self.inflight_shortterm, BETA));
    }

    pub(super) fn reset_short_term_model(&mut self) {
        self.bw_shortterm = UNBOUNDED;
        self.inflight_shortterm = UNBOUNDED;
    }

    pub(super) fn bound_bw(&mut self) {
        self.bw = self.max_bw.get().min(self.bw_shortterm);
    }

    /// Once in a loss recovery: one that ends Up starts a new cycle, and what is found lost after
    /// that, even by the same acknowledgement, must not take the model it left for the one before.
    fn save_state_upon_loss(&mut self) {
        if self.undo.noted {
            return;
        }
        self.save_window();
        self.undo = Undo {
            noted: true,
            state: None,
            bw_shortterm: self.bw_shortterm,
            inflight_shortterm: self.inflight_shortterm,
            inflight_longterm: self.inflight_longterm,
        };
    }

    /// `HandleSpuriousLossDetection`.
    pub(super) fn undo_loss(&mut self) {
        self.recovery_until = None;
        self.undo.noted = false;
        self.restore_window();
        self.loss_in_round = false;
        self.full_pipe.reset(0);
        self.bw_shortterm = self.bw_shortterm.max(self.undo.bw_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(self.undo.inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(self.undo.inflight_longterm);
        let ended = self.undo.state.take();
        if ended == Some(State::Startup) && self.state != State::Startup {
            self.full_pipe.reached = false;
            if self.state != State::ProbeRtt {
                self.enter_startup();
            }
        } else if ended == Some(State::Up) && !matches!(self.state, State::Up | State::ProbeRtt) {
            self.start_refill();
        }
        self.bound_bw();
    }
}
