//! BBR, version 3 (draft-ietf-ccwg-bbr-06): a model of the path instead of a reaction to losses.
//!
//! The model has two numbers: the highest delivery rate seen of late (`max_bw`) and the least round
//! trip (`min_rtt`). Their product is what the path holds without a queue. BBR sends at that rate and
//! keeps about that much in flight; every few seconds it sends a little faster for a moment to see
//! whether there is more, and a little less to see whether the round trip is shorter without it.
//!
//! | file | what of the draft |
//! |---|---|
//! | `startup` | Startup, the full-pipe estimator, Drain (5.3.1, 5.3.2) |
//! | `probe_bw` | the cycle Down, Cruise, Refill, Up (5.3.3) |
//! | `probe_rtt` | the least round trip, ProbeRTT, restart from idle (5.3.4, 5.4, 5.5.7) |
//! | `bounds` | what losses do to the model, and its undoing (5.5.10, 5.5.11) |
//! | `control` | pacing rate and window (5.6), aggregation (5.5.9) |
//! | `filter` | the windowed maxima (5.5.3, 5.5.9) |
//! | `evidence` | not of the draft: does the round trip show a queue, which losses are the path's own |
//!
//! # Where it departs from the draft
//!
//! Each with what it gains: what the scenarios of `tests/it/transport` measure with it, and without it.
//! "The wire" is 100 Mbit/s, 50 ms round trip, a queue of 625 kB, 20 MB.
//!
//! 1. *Losses that no queue explains are not congestion.* The draft backs off above 2 % loss, and in
//!    Cruise at any loss; on a radio link of 5 % it would creep. Here the round trip is asked whether
//!    there is a queue (eight samples in a row a quarter above the least). Without one it takes 2 %
//!    above twice the path's ambient loss, and a packet more, to call it too much. Ambient is what
//!    gets lost in rounds that neither show a queue nor answer a probe: what does not depend on the
//!    sending rate. A policer, which drops without queueing, still exceeds that when probed. In
//!    Startup, before anything is known, it takes 15 %. The wire with 5 % loss: 1.94 s, 41 s without;
//!    with 1 %: 1.86 s, 2.08 s without.
//! 2. *With a queue a loss is most likely an overflow*: half a percent is too much, so that a probe
//!    does not take from a loss-based neighbour what it gave up. Jain's index beside CUBIC at
//!    50 Mbit/s and 20 ms: 0.96 and 0.99 (who came first), 0.93 and 0.91 without. Where the path
//!    loses by itself, what chance adds to its mean (three standard deviations) is no overflow. The
//!    wire with 5 % loss: without, 1 of 24 transfers takes it for one in Startup's queue, bounds the
//!    window below what the path holds until the next probe, and has 73 Mbit/s instead of 82.
//! 3. *The pacing rate makes up for ambient loss*, up to 6 %: what arrives, not what is sent, should
//!    match the bandwidth. It stops doing so as a queue appears. The wire with 5 % loss: 1.94 s,
//!    2.03 s without.
//! 4. *The first window is 80 datagrams* from the first round trip on, with which it can be paced:
//!    three round trips fewer until the pipe is full. Until then it is RFC 9002's. The wire: 1.82 s,
//!    1.97 s without; 1 MB over 1.5 s: 6.8 s, 11.2 s without.
//! 5. *Startup paces by 4, not by 2.77.* The window still doubles, but packets leave as trains that
//!    are faster than the bottleneck a round trip before there are enough of them to fill a queue.
//!    Trains acknowledged more slowly than they were sent show its rate, the slower of two in a row:
//!    what was held up comes all at once. From then on rate and window stay within 1.35 times that.
//!    The most that queues on the wire: 370 to 420 kB, 620 kB without (and 2 % of the packets lost); a
//!    path that becomes ten times as slow: 8.1 s, 10.6 s without.
//! 6. *Startup ends when a queue shows and a round trip brought no growth*, not after three in the
//!    queue. It then takes eight samples a quarter and 4 ms (a LAN's jitter) above the least round
//!    trip. The wire with 5 % loss: 1.94 s, 1.95 s without.
//! 7. *Startup that losses ended is followed by a probe at once*: a shallow buffer overflows long
//!    before the pipe is full, and waiting three seconds at half the bandwidth helps nobody. A policer
//!    of 20 Mbit/s, 20 MB: 9.6 s, 10.6 s without.
//! 8. *Up ends when a queue shows and two round trips brought less than a tenth more.* A lone sender
//!    does not probe a whole queue. The most that queues on the wire in 150 MB: 515 kB, 622 kB
//!    without; it costs a path that becomes ten times as fast 12.8 s instead of 12.0 s.
//! 9. *Cruise allows 1.5 times what the path holds, not 2*: with 2 a loss-based neighbour at a queue
//!    of that size gets what is left over after overflowing it. Jain's index beside CUBIC at 50 Mbit/s
//!    with a queue of two round trips: 0.999, 0.95 without.
//! 10. *The window covers at least a millisecond of sending* times its gain: timers and schedulers
//!     are no finer. The draft's allowance is 64 KB, 50 microseconds at 10 Gbit/s, and the window on
//!     a loopback would follow its own hiccups down: 9.8 Gbit/s, 7.8 without, where acknowledgements
//!     come each half millisecond.
//! 11. *A round trip within a 64th of the least postpones ProbeRTT*: there is no queue that keeps the
//!     least round trip from being seen, and nothing is learned from a fifth of a second at half the
//!     rate. 10 MB at 10 Mbit/s: 8.39 s, 8.52 s without.
//! 12. *A congestion mark (ECN) counts as a loss with a queue*, as RFC 9002 section 7.1 demands of who
//!     sends packets that can be marked; the draft leaves marks open.

mod bounds;
mod control;
mod evidence;
mod filter;
mod gains;
mod probe_bw;
mod probe_rtt;
mod startup;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

use self::{
    bounds::Undo,
    evidence::{Ambient, Queue, Train},
    filter::{CycleMax, RoundMax},
    probe_bw::AckPhase,
    startup::FullPipe,
};
use super::{Ack, Congestion, Loss, Lost, MOST_MTU, Rate, Sent, Start};
use crate::watch::event::transport::Reaction;

/// No bound: `Infinity` of the draft.
const UNBOUNDED: u64 = u64::MAX;

/// The first window in datagrams, if it can be paced.
const INITIAL_DATAGRAMS: u64 = 80;

/// Where it is in its state machine (section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

/// The controller.
#[derive(Debug)]
pub struct Bbr {
    state: State,
    mtu: u64,
    initial_window: u64,
    /// What the first window becomes with the first round trip, from when on it can be paced.
    paced_window: Option<u64>,
    random: Pcg64Mcg,

    window: u64,
    pacing_rate: Rate,
    pacing_gain: f64,
    window_gain: f64,
    /// The last good window, before loss recovery or ProbeRTT cut it.
    prior_window: u64,

    max_bw: CycleMax,
    bw: Rate,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    extra_acked: RoundMax,
    extra_acked_since: Instant,
    extra_acked_delivered: u64,
    inflight_longterm: u64,
    inflight_shortterm: u64,
    bw_shortterm: Rate,

    /// Packet-timed round trips so far.
    round: u64,
    round_start: bool,
    next_round_delivered: u64,
    delivered: u64,
    lost: u64,
    in_flight: u64,
    window_limited: bool,
    window_limited_before: bool,
    idle_restart: bool,
    /// Packets sent between these two counts of delivered bytes were held back by ProbeRTT.
    held_back: (u64, u64),

    full_pipe: FullPipe,
    drain_start_round: u64,

    queue: Queue,
    train: Train,
    ambient: Ambient,
    bw_latest: Rate,
    inflight_latest: u64,
    loss_round_delivered: u64,
    loss_round_start: bool,
    loss_in_round: bool,
    mark_in_round: bool,
    loss_ranges: u32,
    last_lost: Option<u64>,
    recovery_until: Option<u64>,
    undo: Undo,
    reaction: Option<Reaction>,

    ack_phase: AckPhase,
    probe_samples: bool,
    probe_too_high: bool,
    probe_precautionary: bool,
    probe_up_rounds: u32,
    probe_up_acked: u64,
    probe_up_acked_per_increase: u64,
    rounds_since_probe_up: u64,
    probe_wait: Duration,
    cycle_at: Instant,

    probe_rtt_min: Option<Duration>,
    probe_rtt_min_at: Instant,
    probe_rtt_expired: bool,
    probe_rtt_done_at: Option<Instant>,
    probe_rtt_round_done: bool,
}

/// One acknowledgement, as the model takes it: `RS` of the draft.
#[derive(Debug, Clone, Copy)]
struct Sample {
    now: Instant,
    rate: Option<Rate>,
    app_limited: bool,
    prior_delivered: u64,
    delivered: u64,
    lost: u64,
    tx_in_flight: u64,
    newly_acked: u64,
    rtt: Option<Duration>,
    smoothed_rtt: Duration,
}

impl Bbr {
    /// A controller for a path of which only `start` is known.
    pub fn new(start: &Start) -> Self {
        let rtt = start.rtt.filter(|rtt| !rtt.is_zero());
        let mtu = start.mtu.clamp(1, MOST_MTU);
        let paced = INITIAL_DATAGRAMS.saturating_mul(mtu);
        let (window, paced_window) = match (start.initial_window, rtt) {
            (None, Some(_)) => (paced, None),
            (None, None) => (start.window(), Some(paced)),
            (Some(_), _) => (start.window(), None),
        };
        let mut bbr = Self {
            state: State::Startup,
            mtu,
            initial_window: window,
            paced_window,
            random: Pcg64Mcg::seed_from_u64(start.seed),
            window,
            pacing_rate: 0,
            pacing_gain: gains::STARTUP_PACING_GAIN,
            window_gain: gains::WINDOW_GAIN,
            prior_window: 0,
            max_bw: CycleMax::default(),
            bw: 0,
            min_rtt: rtt,
            min_rtt_at: start.now,
            extra_acked: RoundMax::default(),
            extra_acked_since: start.now,
            extra_acked_delivered: 0,
            inflight_longterm: UNBOUNDED,
            inflight_shortterm: UNBOUNDED,
            bw_shortterm: UNBOUNDED,
            round: 0,
            round_start: false,
            next_round_delivered: 0,
            delivered: 0,
            lost: 0,
            in_flight: 0,
            window_limited: false,
            window_limited_before: false,
            idle_restart: false,
            held_back: (1, 0),
            full_pipe: FullPipe::default(),
            drain_start_round: 0,
            queue: Queue::default(),
            train: Train::default(),
            ambient: Ambient::default(),
            bw_latest: 0,
            inflight_latest: 0,
            loss_round_delivered: 0,
            loss_round_start: false,
            loss_in_round: false,
            mark_in_round: false,
            loss_ranges: 0,
            last_lost: None,
            recovery_until: None,
            undo: Undo::default(),
            reaction: None,
            ack_phase: AckPhase::Init,
            probe_samples: false,
            probe_too_high: false,
            probe_precautionary: false,
            probe_up_rounds: 0,
            probe_up_acked: 0,
            probe_up_acked_per_increase: UNBOUNDED,
            rounds_since_probe_up: 0,
            probe_wait: Duration::ZERO,
            cycle_at: start.now,
            probe_rtt_min: rtt,
            probe_rtt_min_at: start.now,
            probe_rtt_expired: false,
            probe_rtt_done_at: None,
            probe_rtt_round_done: false,
        };
        bbr.init_pacing_rate(rtt);
        bbr
    }

    fn in_probe_bw(&self) -> bool {
        matches!(
            self.state,
            State::Down | State::Cruise | State::Refill | State::Up
        )
    }

    /// Whether losses now are the answer to an acceleration.
    fn is_probing(&self) -> bool {
        matches!(self.state, State::Startup | State::Refill | State::Up)
    }

    /// Whether the window was used up in this round trip or the one before.
    fn is_window_limited(&self) -> bool {
        self.window_limited || self.window_limited_before
    }

    fn start_round(&mut self) {
        self.next_round_delivered = self.delivered;
    }

    fn sample(&self, ack: &Ack) -> Sample {
        let delivery = &ack.delivery;
        let (from, until) = self.held_back;
        Sample {
            now: ack.now,
            rate: delivery.rate,
            app_limited: delivery.app_limited || (from..=until).contains(&delivery.prior_delivered),
            prior_delivered: delivery.prior_delivered,
            delivered: delivery.interval_delivered,
            lost: delivery.lost,
            tx_in_flight: delivery.tx_in_flight,
            newly_acked: ack.bytes,
            rtt: ack.rtt,
            smoothed_rtt: ack.smoothed_rtt,
        }
    }

    fn update_round(&mut self, sample: &Sample) {
        self.round_start = sample.prior_delivered >= self.next_round_delivered;
        if self.round_start {
            self.start_round();
            self.round += 1;
            self.rounds_since_probe_up += 1;
            self.window_limited_before = self.window_limited;
            self.window_limited = false;
            self.update_ambient();
            self.queue.on_round();
        }
    }

    /// `UpdateMaxBw`, its round counted already.
    fn update_max_bw(&mut self, sample: &Sample) {
        if let Some(rate) = sample.rate
            && (rate >= self.max_bw.get() || !sample.app_limited)
        {
            self.max_bw.update(rate);
        }
    }

    fn update_model_and_state(&mut self, sample: &Sample) {
        self.update_latest_delivery_signals(sample);
        self.update_round(sample);
        self.update_max_bw(sample);
        self.update_congestion_signals(sample);
        self.update_aggregation(sample);
        self.check_full_pipe(sample);
        self.check_startup_done(sample);
        self.check_drain_done(sample.now);
        self.update_probe_bw_phase(sample);
        self.update_min_rtt(sample);
        self.check_probe_rtt(sample);
        self.advance_latest_delivery_signals(sample);
        self.bound_bw();
    }

    fn update_control(&mut self, sample: &Sample) {
        self.set_pacing_rate();
        self.set_window(sample.newly_acked);
    }
}

impl Congestion for Bbr {
    fn on_sent(&mut self, sent: &Sent) {
        if sent.app_limited && sent.in_flight == 0 {
            self.restart_from_idle(sent.now);
        }
        self.in_flight = sent.in_flight.saturating_add(sent.bytes);
        if self.in_flight.saturating_add(self.mtu) > self.window {
            self.window_limited = true;
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        let before = self.window;
        self.in_flight = ack.in_flight;
        self.delivered = ack.delivery.delivered;
        let sample = self.sample(ack);
        if let Some(rtt) = sample.rtt {
            if self.min_rtt.is_none() {
                if let Some(window) = self.paced_window.take() {
                    self.initial_window = window;
                    self.window = self.window.max(window);
                }
                self.init_pacing_rate(Some(rtt.max(sample.smoothed_rtt)));
            }
            self.queue.on_rtt(rtt, self.min_rtt);
        }
        if self.state == State::Startup {
            self.update_train(ack);
        }
        self.update_model_and_state(&sample);
        self.update_control(&sample);
        if self.recovery_until.is_some_and(|end| ack.largest >= end) {
            self.recovery_until = None;
            self.undo.noted = false;
            self.restore_window();
            self.bound_window();
        }
        if self.window < before {
            self.reaction = Some(self.reaction_by_model());
        }
    }

    fn on_packet_lost(&mut self, lost: &Lost) {
        self.handle_lost_packet(lost);
    }

    fn on_congestion(&mut self, loss: &Loss) {
        self.in_flight = loss.in_flight;
        if self.recovery_until.is_none() {
            self.save_window();
            self.recovery_until = Some(loss.next_packet);
        }
        if loss.ecn {
            self.handle_mark(loss);
        }
        if loss.persistent {
            self.enter_persistent_congestion(loss.in_flight);
            self.reaction = Some(Reaction::InFlight);
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        let before = self.window;
        self.undo_loss();
        if self.window != before {
            self.reaction = Some(Reaction::Restored);
        }
    }

    fn on_idle_restart(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.restart_from_idle(now);
        }
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu.clamp(1, MOST_MTU);
        self.window = self.window.max(self.floor());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<Rate> {
        Some(self.pacing_rate)
    }

    fn in_slow_start(&self) -> bool {
        self.state == State::Startup
    }

    fn take_reaction(&mut self) -> Option<Reaction> {
        self.reaction.take()
    }

    fn phase(&self) -> &'static str {
        match self.state {
            State::Startup => "startup",
            State::Drain => "drain",
            State::Down => "probe_bw_down",
            State::Cruise => "probe_bw_cruise",
            State::Refill => "probe_bw_refill",
            State::Up => "probe_bw_up",
            State::ProbeRtt => "probe_rtt",
        }
    }
}
